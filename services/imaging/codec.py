"""Images as untrusted bytes: sniff, check limits, decode, encode, digest.

The type of an image is taken from its bytes; a part's declared content type and file name are ignored. Limits are checked on
the header, before any pixel is decoded. `decode` always returns 8-bit RGB or RGBA, upright, in sRGB.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import io
import math
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Self

import pybase64
from PIL import ExifTags, Image, ImageCms, ImageMath

from services.errors import ApiError
from services.imaging.alpha import HEAD_BYTES, has_alpha
from services.imaging.containers import meant_as_srgb, strip_metadata
from services.imaging.structure import TooComplexError, Work, webp_size, work_of

MediaType = Literal["image/png", "image/jpeg", "image/webp"]
OutputFormat = Literal["png", "jpeg", "webp"]

_DECODERS: Final = ("PNG", "JPEG", "WEBP")
# An MPO is a JPEG followed by further pictures (a depth map, a second view), as phones write it; the first is used.
_PILLOW_FORMATS: Final[dict[str, MediaType]] = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
}
_PLAIN_MODES: Final = frozenset({"L", "RGB", "RGBA"})
_STRIP_PIXELS: Final = 4_000_000
"""Pixels that are converted at a time."""
_MAX_WEBP_SIDE: Final = 16_383
_PILLOW_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    struct.error,
    zlib.error,
)
"""Pillow raises these on broken files."""
_TRANSPOSES: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# `ImageLimits` are checked on the header, before any pixel is decoded; Pillow's own limit would repeat that with a warning.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits of a received image.

    Attributes:
        max_bytes: encoded size.
        max_pixels: width x height; checked before decoding, so a decompression bomb costs only its header.
        max_side: longest side in pixels.
    """

    max_bytes: int = 50 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_side: int = 30_000


UNLIMITED: Final = ImageLimits(sys.maxsize, sys.maxsize, sys.maxsize)
"""For an image derived from one that was checked on arrival; a caller's limits do not apply to an editor's output."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard lossless and WebP encoders try: ``png_level`` 0-9 (zlib), ``webp_method`` 0-6.

    PNG's level 6 costs more time than it saves on every network that was measured.
    """

    png_level: int = 1
    webp_method: int = 2


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Type and size in pixels from an image's header (as stored, before any EXIF rotation)."""

    media_type: MediaType
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image whose header was read and is within the limits; its pixels are decoded when it is loaded.

    Attributes:
        work_s: CPU seconds that decoding takes, as estimated from the file's structure.
    """

    data: bytes
    info: ImageInfo
    image: Image.Image
    limits: ImageLimits
    param: str
    work_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An encoded image that was checked, with its header's type and size.

    Attributes:
        sha256: of `data`, in hex: the image's name in the blob store.
        alpha: whether a pixel is not opaque.
        marked: whether the file as it was received says something of its own origin.
    """

    data: bytes
    media_type: MediaType
    width: int
    height: int
    sha256: str
    alpha: bool = False
    marked: bool = False

    @classmethod
    def hashed(cls, data: bytes, info: ImageInfo, *, alpha: bool = False) -> Self:
        """The bytes with their digest."""
        return cls(data, info.media_type, info.width, info.height, digest(data), alpha)


def digest(data: bytes) -> str:
    """SHA-256 of the encoded bytes, in hex: the image's name in the blob store."""
    return hashlib.sha256(data).hexdigest()


def sniff(data: bytes) -> MediaType | None:
    """The image type by the first bytes, or None for anything but PNG, JPEG and WebP."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def open_image(data: bytes, *, limits: ImageLimits | None = None, param: str = "image") -> OpenedImage:
    """Read type and size from the header and check the limits and the structure, without decoding pixels.

    Raises:
        ApiError: ``missing_parameter``, ``invalid_image`` or ``image_too_large``, naming `param` and the fix.
    """
    limits = limits or ImageLimits()
    if not data:
        raise ApiError("missing_parameter", f"{param} is empty; send the bytes of a PNG, JPEG or WebP file", param=param)
    if len(data) > limits.max_bytes:
        message = f"{param} has {len(data):,} bytes; the limit is {limits.max_bytes:,}"
        raise ApiError("image_too_large", message, param=param)
    # First, because reading the header costs Pillow time for every chunk, and memory for the pixels of a WebP.
    work = _work(data, param)
    if (declared := webp_size(data)) is not None:
        _check_sides(*declared, limits, param)
    image = _open(data, param)
    width, height = image.size
    _check_sides(width, height, limits, param)
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ApiError("invalid_image", f"{param} is animated; send a single frame", param=param)
    info = ImageInfo(_PILLOW_FORMATS[str(image.format)], width, height)
    return OpenedImage(data, info, image, limits, param, work.seconds(width * height))


def inspect(data: bytes, *, limits: ImageLimits | None = None, param: str = "image") -> ImageInfo:
    """Type and size as `open_image` finds them, with its exceptions."""
    return open_image(data, limits=limits, param=param).info


def decode(data: bytes, *, limits: ImageLimits | None = None, param: str = "image") -> Image.Image:
    """Decode to 8-bit RGB or RGBA (if it has transparency), upright, in sRGB, without metadata.

    Raises:
        ApiError: as `open_image`, or ``invalid_image`` when the pixels are truncated or corrupt.
    """
    opened = open_image(data, limits=limits, param=param)
    with _decoding(param):
        opened.image.load()
        return _to_plain(opened.image)


def reduced(data: bytes, max_pixels: int, *, limits: ImageLimits | None = None, param: str = "image") -> Image.Image:
    """As `decode`, scaled down to at most so many pixels; a JPEG is scaled while it is decoded.

    Raises:
        ApiError: as `decode`.
    """
    opened = open_image(data, limits=limits, param=param)
    pixels = opened.info.width * opened.info.height
    scale = math.sqrt(min(1, max_pixels / pixels))
    width, height = (max(1, int(side * scale)) for side in opened.image.size)
    return _scaled(opened, (width, height))


def _reduced_to(data: bytes, max_side: int, *, param: str) -> Image.Image:
    """As `decode`, with at most so many pixels a side."""
    opened = open_image(data, limits=UNLIMITED, param=param)
    scale = min(1, max_side / max(opened.image.size))
    width, height = (max(1, round(side * scale)) for side in opened.image.size)
    return _scaled(opened, (width, height))


def _scaled(opened: OpenedImage, size: tuple[int, int]) -> Image.Image:
    """An image decoded as `decode` does, and scaled down to a size before it was turned upright."""
    scales = size != opened.image.size
    with _decoding(opened.param):
        if scales:
            # At least twice the size, as Pillow's own thumbnails are, for the filter to work with.
            opened.image.draft(None, (2 * size[0], 2 * size[1]))
        opened.image.load()
        image = _to_plain(opened.image)
    if not scales:
        return image
    # The longer side stays the longer side when the picture was turned upright.
    size = size if (image.width < image.height) == (size[0] < size[1]) else size[::-1]
    # Means of whole blocks first, down to three times the size: Pillow calls the result practically that of the filter alone.
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def check_image(opened: OpenedImage, sha256: str | None = None) -> CheckedImage:
    """Check an image by decoding it once, and return bytes that are safe to pass on, within the same limits.

    An upright image of 8-bit grey, RGB or RGBA in sRGB is not encoded again: its bytes are returned without metadata (EXIF,
    comments, data after the end of the image). Others (CMYK, 16-bit, palette, rotated, with a colour profile) are returned as
    PNG, or as JPEG if the PNG exceeds the limits and the original is a JPEG.

    Args:
        opened: the image, which is loaded here.
        sha256: of its bytes, if the caller knows it; reused if nothing had to change.

    Raises:
        ApiError: as `decode`, and ``image_too_large`` when the newly encoded image exceeds the limits.
    """
    data, info, limits, param = opened.data, opened.info, opened.limits, opened.param
    with _decoding(param):
        # Pillow raises on a truncated file by default; it would pad it with grey otherwise.
        opened.image.load()
        stripped = strip_metadata(data) if _is_plain(opened.image, data) else None
        if stripped is data and sha256 is not None:
            return CheckedImage(data, info.media_type, info.width, info.height, sha256, is_transparent(opened.image))
        if stripped is not None:
            return CheckedImage.hashed(stripped, info, alpha=is_transparent(opened.image))
        image = _to_plain(opened.image)
    alpha = is_transparent(image)
    made = encode(image, "png")
    if len(made) > limits.max_bytes and info.media_type == "image/jpeg":
        # A second JPEG encoding loses less than the camera's did.
        jpeg = _check_size(encode(image, "jpeg"), limits, param)
        return CheckedImage.hashed(jpeg, ImageInfo("image/jpeg", image.width, image.height))
    return CheckedImage.hashed(_check_size(made, limits, param), ImageInfo("image/png", image.width, image.height), alpha=alpha)


def is_bare(opened: OpenedImage) -> bool:
    """Whether the file is complete, and holds 8-bit grey, RGB or RGBA in sRGB and nothing else; its pixels are not decoded."""
    # Its orientation is not looked at: Pillow decodes a PNG for that, and a file without metadata has none.
    plain = opened.image.mode in _PLAIN_MODES and not _is_16_bit_png(opened.data)
    return plain and strip_metadata(opened.data) is opened.data


def is_transparent(image: Image.Image) -> bool:
    """Whether a pixel of a loaded image in a plain mode is not opaque."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema()[0] < 255  # type: ignore[operator]  # noqa: PLR2004


def check_fits(size: tuple[int, int], output_format: OutputFormat, *, param: str = "output_format") -> None:
    """Check that a format takes pictures of this size (width, height).

    Raises:
        ApiError: ``invalid_value`` naming `param`, for a side that is too long for WebP.
    """
    if output_format == "webp" and max(size) > _MAX_WEBP_SIDE:
        message = f"{param}: webp ends at {_MAX_WEBP_SIDE:,} pixels a side, the image is {size[0]}x{size[1]}"
        raise ApiError("invalid_value", f"{message}; choose png or jpeg", param=param)


def encode(
    image: Image.Image,
    output_format: OutputFormat,
    compression: int | None = None,
    effort: Effort | None = None,
    *,
    param: str = "output_format",
) -> bytes:
    """Encode an image.

    Args:
        image: RGB or RGBA.
        output_format: png, jpeg (transparency is laid on white) or webp.
        compression: OpenAI's ``output_compression``: quality 0-100 for jpeg and webp (default 95).
        effort: how hard to compress.
        param: the request field that names the format.

    Raises:
        ApiError: ``invalid_value`` naming `param`, when the image is too long for WebP.
    """
    check_fits(image.size, output_format, param=param)
    buffer = io.BytesIO()
    effort = effort or Effort()
    if output_format == "png":
        image.save(buffer, "PNG", compress_level=effort.png_level)
    elif output_format == "jpeg":
        _on_white(image).save(buffer, "JPEG", quality=95 if compression is None else max(1, compression), subsampling=0)
    else:
        image.save(buffer, "WEBP", quality=95 if compression is None else compression, method=effort.webp_method)
    return buffer.getvalue()


def transcode(
    data: bytes,
    output_format: OutputFormat,
    compression: int | None = None,
    *,
    opaque: bool = False,
    max_side: int | None = None,
    param: str = "output_format",
) -> bytes:
    """A checked image in another encoding, laid on white if it must be opaque; the same bytes if they already are that.

    Args:
        max_side: reduce a larger image to so many pixels on its longer side.
    """
    flatten = opaque and has_alpha(data[:HEAD_BYTES])
    if max_side is not None:
        image = _reduced_to(data, max_side, param=param)
        return encode(_on_white(image) if flatten else image, output_format, compression, param=param)
    if sniff(data) == f"image/{output_format}" and (compression is None or output_format == "png") and not flatten:
        return data
    image = decode(data, limits=UNLIMITED)
    return encode(_on_white(image) if flatten else image, output_format, compression, param=param)


def to_base64(data: bytes) -> str:
    """Bytes as base64 text."""
    return pybase64.b64encode_as_string(data)


def data_url(data: bytes, media_type: str) -> str:
    """The image as a ``data:`` URL."""
    return f"data:{media_type};base64,{to_base64(data)}"


def from_base64(text: str, *, param: str = "image") -> bytes:
    """Bytes of a base64 string, with or without line breaks, or of a base64 ``data:`` URL.

    Raises:
        ApiError: ``invalid_image`` when it is not base64.
    """
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise ApiError("invalid_image", f"{param} is a data URL that is not base64; use data:image/png;base64,…", param=param)
    try:
        # Many tools break base64 into lines.
        return pybase64.b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ApiError(
            "invalid_image", f"{param} is not valid base64; send base64, a data URL or the file itself", param=param
        ) from exc


def _check_size(made: bytes, limits: ImageLimits, param: str) -> bytes:
    if len(made) > limits.max_bytes:
        message = (
            f"{param} has to be encoded again, as 8-bit sRGB, and then has {len(made):,} bytes; the limit is "
            f"{limits.max_bytes:,}; send a smaller picture, or an upright JPEG in sRGB"
        )
        raise ApiError("image_too_large", message, param=param)
    return made


def _open(data: bytes, param: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_DECODERS)
    except _PILLOW_ERRORS as exc:
        message = f"{param} is not a readable PNG, JPEG or WebP image; convert it to one of these"
        raise ApiError("invalid_image", message, param=param) from exc
    return image


def _check_sides(width: int, height: int, limits: ImageLimits, param: str) -> None:
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        message = (
            f"{param} is {width}x{height} pixels; the limits are {limits.max_pixels:,} pixels in all and "
            f"{limits.max_side:,} a side; send a smaller one"
        )
        raise ApiError("image_too_large", message, param=param)


def _work(data: bytes, param: str) -> Work:
    try:
        return work_of(data)
    except TooComplexError as exc:
        raise ApiError("image_too_large", f"{param} {exc}", param=param) from exc


@contextlib.contextmanager
def _decoding(param: str) -> Iterator[None]:
    try:
        yield
    except _PILLOW_ERRORS as exc:
        message = f"{param} is truncated or corrupt and cannot be decoded; send a complete PNG, JPEG or WebP file"
        raise ApiError("invalid_image", message, param=param) from exc


def _is_plain(image: Image.Image, data: bytes) -> bool:
    """Whether a loaded image is upright 8-bit grey, RGB or RGBA, so that it need not be encoded again."""
    return image.mode in _PLAIN_MODES and not _is_16_bit_png(data) and _orientation(image) not in _TRANSPOSES


def _is_16_bit_png(data: bytes) -> bool:
    return sniff(data) == "image/png" and data[24] == 16  # noqa: PLR2004 - IHDR's bit depth


def _to_plain(image: Image.Image) -> Image.Image:
    """8-bit RGB(A), upright, in sRGB, of any loaded PNG, JPEG or WebP."""
    orientation = _orientation(image)
    plain = _in_strips(image)
    if orientation in _TRANSPOSES:
        plain = plain.transpose(_TRANSPOSES[orientation])
    plain.info = {}
    return plain


def _in_strips(image: Image.Image) -> Image.Image:
    """`_plain_pixels` of an image, a strip at a time, so that a large one does not exist in each intermediate form."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return _plain_pixels(image)
    made: Image.Image | None = None
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows)))
        strip.info = dict(image.info)
        plain = _plain_pixels(strip)
        made = made or Image.new(plain.mode, image.size)
        made.paste(plain, (0, top))
    assert made is not None
    return made


def _plain_pixels(image: Image.Image) -> Image.Image:
    """8-bit RGB(A) in sRGB; each pixel depends on that pixel alone."""
    profile = image.info.get("icc_profile")
    gamma = image.info.get("gamma") if "srgb" not in image.info else None
    image, alpha = _split(image)
    if profile:
        image = _to_srgb(image, profile)
    elif gamma and not meant_as_srgb(gamma):
        image = image.point(_gamma_to_srgb(gamma) * len(image.getbands()))
    image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """(8-bit grey, RGB or CMYK; alpha, if it has any)"""
    clear = image.info.get("transparency")
    if image.mode.startswith("I"):
        # 16-bit grey: scale and round, do not clip (Pillow's own conversion saturates at 255).
        wide = image.convert("I")
        grey = wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        return grey, None if clear is None else _alpha_except(wide, clear)
    if isinstance(clear, tuple) and any(sample > 255 for sample in clear):  # noqa: PLR2004
        # 16-bit RGB, of which Pillow keeps the upper halves.
        image.info["transparency"] = tuple(sample >> 8 for sample in clear)
    is_grey = image.mode in {"1", "L", "LA"}
    if clear is None and image.mode not in {"LA", "PA", "RGBA"}:
        return (image if image.mode == "CMYK" else image.convert("L" if is_grey else "RGB")), None
    image = image.convert("LA" if is_grey else "RGBA")
    return image.convert("L" if is_grey else "RGB"), image.getchannel("A")


def _alpha_except(wide: Image.Image, clear: int) -> Image.Image:
    """An alpha channel that is transparent where the value is `clear`."""
    mask: Image.Image = ImageMath.lambda_eval(lambda of: of["convert"]((of["wide"] != clear) * 255, "L"), wide=wide)
    return mask


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) for a broken EXIF block, which is common."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except _PILLOW_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _without_elements(profile: bytes) -> bytes:
    """The profile without its D2B tags: a pipeline of any length, of which each pixel passes every element.

    A reader may ignore them and use the others (ICC.1:2022, section 8.11).
    """
    table = bytearray(profile)
    for at in range(132, min(len(table), 132 + 12 * int.from_bytes(table[128:132], "big")), 12):
        if table[at : at + 3] == b"D2B":
            table[at : at + 4] = b"none"
    return bytes(table)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(_without_elements(profile)))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *_PILLOW_ERRORS):
        # Broken profiles are common, and viewers ignore them too.
        return image
    return converted if converted is not None else image


def _gamma_to_srgb(gamma: float) -> list[int]:
    """A table from the values of a PNG with this gAMA to sRGB values."""
    light = [(value / 255) ** (1 / gamma) for value in range(256)]
    return [round(255 * (12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055)) for x in light]  # noqa: PLR2004


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image.getchannel("A"))
    return ground

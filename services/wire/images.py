"""Images as untrusted bytes: sniff, bound, decode, encode, digest.

The bytes decide what an image is; a part's declared content type or file name never does. Limits are checked on
the header, before a pixel is decoded. What leaves `decode` is always 8-bit RGB or RGBA, upright, in sRGB.
"""

from __future__ import annotations

import binascii
import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Final, Literal

import pybase64
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from services.wire.errors import ApiError

MediaType = Literal["image/png", "image/jpeg", "image/webp"]
OutputFormat = Literal["png", "jpeg", "webp"]

_PILLOW_FORMATS: Final[dict[str, MediaType]] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_MODES_READ_AS_THEY_ARE: Final = frozenset({"L", "RGB", "RGBA"})


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a received image may cost.

    Attributes:
        max_bytes: encoded size.
        max_pixels: width x height; checked before decoding, so a decompression bomb costs a header.
        max_side: longest side in pixels.
    """

    max_bytes: int = 50 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_side: int = 30_000


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's header says: type and size in pixels (as stored, before any EXIF rotation)."""

    media_type: MediaType
    width: int
    height: int


def digest(data: bytes) -> str:
    """SHA-256 of the encoded bytes, in hex: the image's name in the blob store."""
    return hashlib.sha256(data).hexdigest()


def sniff(data: bytes) -> MediaType | None:
    """The image type the bytes themselves claim, or None if it is none of PNG, JPEG, WebP."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def inspect(data: bytes, *, limits: ImageLimits | None = None, param: str = "image") -> ImageInfo:
    """Read type and size from the header and check the limits; decodes no pixel.

    Raises:
        ApiError: ``missing_parameter``, ``invalid_image`` or ``image_too_large``, naming `param` and the fix.
    """
    limits = limits or ImageLimits()
    if not data:
        raise ApiError("missing_parameter", f"{param} is empty; send the bytes of a PNG, JPEG or WebP file", param=param)
    if len(data) > limits.max_bytes:
        message = f"{param} has {len(data):,} bytes; the limit is {limits.max_bytes:,}"
        raise ApiError("image_too_large", message, param=param)
    image = _open(data, param)
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        message = (
            f"{param} is {width}x{height} pixels; the limits are {limits.max_pixels:,} pixels in all and "
            f"{limits.max_side:,} a side; send a smaller one"
        )
        raise ApiError("image_too_large", message, param=param)
    if getattr(image, "is_animated", False):
        raise ApiError("invalid_image", f"{param} is animated; send a single frame", param=param)
    return ImageInfo(_PILLOW_FORMATS[str(image.format)], width, height)


def decode(data: bytes, *, limits: ImageLimits | None = None, param: str = "image") -> Image.Image:
    """Decode to 8-bit RGB or RGBA (if it has transparency), upright, in sRGB, without metadata.

    Raises:
        ApiError: as `inspect`, or ``invalid_image`` when the pixels are truncated or corrupt.
    """
    inspect(data, limits=limits, param=param)
    image = _open(data, param)
    try:
        # A truncated file that Pillow would pad with grey must fail instead.
        image.load()
        return _plain(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as exc:
        message = f"{param} is truncated or corrupt and cannot be decoded; send a complete PNG, JPEG or WebP file"
        raise ApiError("invalid_image", message, param=param) from exc


def accept(data: bytes, *, limits: ImageLimits | None = None, param: str = "image") -> tuple[bytes, ImageInfo]:
    """Check an image by decoding it once, and return bytes safe to pass on untouched.

    Bytes that are already plain (8-bit grey, RGB or RGBA, upright, no metadata) come back as they are; others
    (CMYK, 16-bit, palette, EXIF-rotated, with GPS data or a colour profile) come back as PNG.

    Raises:
        ApiError: as `decode`.
    """
    info = inspect(data, limits=limits, param=param)
    raw = _open(data, param)
    decoded = decode(data, limits=limits, param=param)
    has_metadata = bool(raw.getexif()) or any(key in raw.info for key in ("exif", "xmp", "icc_profile", "comment", "photoshop"))
    if raw.mode in _MODES_READ_AS_THEY_ARE and not has_metadata and "transparency" not in raw.info:
        return data, info
    plain = encode(decoded, "png")
    return plain, ImageInfo("image/png", decoded.width, decoded.height)


def is_complete(data: bytes) -> bool:
    """Whether the encoded bytes are structurally whole: every PNG checksum, JPEG's end marker, WebP's length.

    Cheap enough for the hot path (no pixel is decoded); catches what a cut connection or a broken disk does.
    """
    kind = sniff(data)
    if kind == "image/png":
        return _png_is_complete(memoryview(data))
    if kind == "image/jpeg":
        return data.rstrip(b"\x00").endswith(b"\xff\xd9")
    return kind == "image/webp" and len(data) >= int.from_bytes(data[4:8], "little") + 8


def encode(image: Image.Image, output_format: OutputFormat, compression: int | None = None) -> bytes:
    """Encode an image.

    Args:
        image: RGB or RGBA.
        output_format: png, jpeg (transparency is laid on white) or webp.
        compression: OpenAI's ``output_compression``: quality 0-100 for jpeg and webp (default 95).
    """
    buffer = io.BytesIO()
    if output_format == "png":
        # Level 6 costs more time than it saves on any network we measured.
        image.save(buffer, "PNG", compress_level=1)
    elif output_format == "jpeg":
        _on_white(image).save(buffer, "JPEG", quality=95 if compression is None else max(1, compression), subsampling=0)
    else:
        image.save(buffer, "WEBP", quality=95 if compression is None else compression, method=2)
    return buffer.getvalue()


def transcode(data: bytes, output_format: OutputFormat, compression: int | None = None) -> bytes:
    """The same picture in another encoding; the bytes themselves when they are already in it and need no change."""
    if sniff(data) == f"image/{output_format}" and (compression is None or output_format == "png"):
        return data
    return encode(decode(data), output_format, compression)


def to_base64(data: bytes) -> str:
    """Bytes as base64 text."""
    return pybase64.b64encode_as_string(data)


def data_url(data: bytes, media_type: str) -> str:
    """The image as a ``data:`` URL."""
    return f"data:{media_type};base64,{to_base64(data)}"


def from_base64(text: str, *, param: str = "image") -> bytes:
    """Bytes of a base64 string or of a base64 ``data:`` URL.

    Raises:
        ApiError: ``invalid_image`` when it is not base64.
    """
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise ApiError("invalid_image", f"{param} is a data URL that is not base64; use data:image/png;base64,…", param=param)
    try:
        return pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ApiError("invalid_image", f"{param} is not valid base64", param=param) from exc


def _open(data: bytes, param: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Our own limits are checked on the header; Pillow's bomb warning would only repeat them.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=list(_PILLOW_FORMATS))
    except Image.DecompressionBombError as exc:
        raise ApiError("image_too_large", f"{param} has too many pixels; send a smaller one", param=param) from exc
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error) as exc:
        message = f"{param} is not a readable PNG, JPEG or WebP image; convert it to one of these"
        raise ApiError("invalid_image", message, param=param) from exc
    return image


def _plain(image: Image.Image) -> Image.Image:
    """8-bit RGB(A) in sRGB of any mode Pillow reads from PNG, JPEG and WebP."""
    profile = image.info.get("icc_profile")
    transparent = image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit grey: scale, do not clip (Pillow's own conversion saturates at 255).
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if profile and image.mode in {"RGB", "CMYK", "L"}:
        image = _to_srgb(image, profile)
    image = image.convert("RGBA" if transparent else "RGB")
    image.info = {}
    return image


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        # A broken profile is common in the wild; viewers ignore it, and so do we.
        return image
    return converted if converted is not None else image


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def _png_is_complete(data: memoryview) -> bool:
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            return False
        if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if bytes(data[position + 4 : position + 8]) == b"IEND":
            return True
        position = end
    return False

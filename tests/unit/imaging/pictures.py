"""Encoded pictures of every kind, made by Pillow or, where it cannot, chunk by chunk."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms, PngImagePlugin

WIDTH, HEIGHT = 6, 4
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def scene(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A picture in which every pixel differs from its neighbours."""
    image = Image.new("RGB", size)
    image.putdata([((x * 37) % 256, (y * 53) % 256, (x * y * 11) % 256) for y in range(size[1]) for x in range(size[0])])
    if mode in {"RGBA", "LA"}:
        image.putalpha(image.getchannel("R").point(lambda value: 255 - value))
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(image: Image.Image) -> list[Any]:
    """As a list, row by row."""
    return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    size: tuple[int, int], depth: int, colour: int, rows: bytes, *, before: bytes = b"", after: bytes = b"", interlace: int = 0
) -> bytes:
    """A PNG of raw rows (each with its filter byte); further chunks before and after the pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlace)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows, 9)) + after + chunk(b"IEND", b"")
    return SIGNATURE + body


def grey16(values: list[int], *, before: bytes = b"") -> bytes:
    """One row of 16-bit grey."""
    return png((len(values), 1), 16, 0, b"\0" + struct.pack(f">{len(values)}H", *values), before=before)


def rgb16(values: list[tuple[int, int, int]]) -> bytes:
    """One row of 16-bit RGB."""
    flat = [sample for pixel in values for sample in pixel]
    return png((len(values), 1), 16, 2, b"\0" + struct.pack(f">{len(flat)}H", *flat))


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def lab_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with its red and green primaries exchanged: what it calls red is sRGB's green."""
    return srgb_profile().replace(b"rXYZ", b"tmp.").replace(b"gXYZ", b"rXYZ").replace(b"tmp.", b"gXYZ")


def with_elements(profile: bytes) -> bytes:
    """A profile with a D2B0 as well: one element, which makes everything black."""
    matrix = b"matf\0\0\0\0\0\3\0\3" + bytes(48)
    elements = b"mpet\0\0\0\0\0\3\0\3" + struct.pack(">3I", 1, 24, len(matrix)) + matrix
    (count,) = struct.unpack_from(">I", profile, 128)
    end = 132 + 12 * count
    tags = [struct.unpack_from(">4sII", profile, at) for at in range(132, end, 12)]
    moved = b"".join(struct.pack(">4sII", name, at + 12, size) for name, at, size in tags)
    table = struct.pack(">I", count + 1) + moved + struct.pack(">4sII", b"D2B0", len(profile) + 12, len(elements))
    # Version 4: these elements are of that.
    head = struct.pack(">I", len(profile) + 12 + len(elements)) + profile[4:8] + b"\x04\x30" + profile[10:128]
    return head + table + profile[end:] + elements


def exif(orientation: int | None = None, *, gps: bool = False) -> bytes:
    tags = Image.Exif()
    if orientation is not None:
        tags[0x0112] = orientation
    if gps:
        tags[0x010F] = "SecretCamera"
        tags.get_ifd(0x8825)[29] = "2024:SECRET"
    return tags.tobytes()


def turned(upright: Image.Image, orientation: int) -> Image.Image:
    """The stored picture that a viewer shows as `upright` under that EXIF orientation (EXIF 2.3, tag 0x0112)."""
    # Which visual side the stored first row and first column are.
    row, column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    width, height = upright.size
    # The axis that a side runs down, and the place on it where counting from that side begins, and in which direction.
    sides = {"top": (1, 0, 1), "bottom": (1, height - 1, -1), "left": (0, 0, 1), "right": (0, width - 1, -1)}
    size = (width, height) if row in {"top", "bottom"} else (height, width)
    stored = Image.new(upright.mode, size)
    for r in range(size[1]):
        for c in range(size[0]):
            place = [0, 0]
            for side, number in ((row, r), (column, c)):
                axis, start, step = sides[side]
                place[axis] = start + step * number
            stored.putpixel((c, r), upright.getpixel((place[0], place[1])) or 0)
    return stored


def thumbnailed() -> bytes:
    """A JPEG whose EXIF block holds another whole JPEG, as cameras write it."""
    tiff = b"II*\0" + struct.pack("<IHI", 8, 0, 0) + saved(scene(), "JPEG")
    return saved(scene(), "JPEG", exif=b"Exif\0\0" + tiff)


PLAIN: dict[str, bytes] = {
    "grey png": saved(scene("L"), "PNG"),
    "rgb png": saved(scene(), "PNG"),
    "rgba png": saved(scene("RGBA"), "PNG"),
    "interlaced png": png((2, 1), 8, 2, b"\0\1\2\3" + b"\0\4\5\6", interlace=1),
    "grey jpeg": saved(scene("L"), "JPEG"),
    "rgb jpeg": saved(scene(), "JPEG"),
    "progressive jpeg": saved(scene(), "JPEG", progressive=True),
    "jpeg with a density": saved(scene(), "JPEG", dpi=(300, 300)),
    "rgb webp": saved(scene(), "WEBP"),
    "lossless webp": saved(scene(), "WEBP", lossless=True),
    "rgba webp": saved(scene("RGBA"), "WEBP", lossless=True),
}


def _with_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Location", "SECRET 48.2,16.3")
    return info


def _mpo() -> bytes:
    return saved(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT), "red")])


OTHER: dict[str, tuple[bytes, str]] = {
    "grey and alpha png": (saved(scene("LA"), "PNG"), "RGBA"),
    "palette png": (saved(scene().quantize(16), "PNG"), "RGB"),
    "palette png with one clear colour": (saved(scene().quantize(16), "PNG", transparency=0), "RGBA"),
    "palette png with an alpha table": (saved(scene().quantize(4), "PNG", transparency=b"\x00\x80\xff\xff"), "RGBA"),
    "rgb png with a clear colour": (saved(scene(), "PNG", transparency=(0, 0, 0)), "RGBA"),
    "1-bit png": (saved(scene("1"), "PNG"), "RGB"),
    "16-bit grey png": (grey16([0, 1000, 65535]), "RGB"),
    "16-bit rgb png": (rgb16([(0, 1000, 65535)]), "RGB"),
    "cmyk jpeg": (saved(scene("CMYK"), "JPEG"), "RGB"),
    "profile png": (saved(scene(), "PNG", icc_profile=srgb_profile()), "RGB"),
    "profile jpeg": (saved(scene(), "JPEG", icc_profile=srgb_profile()), "RGB"),
    "lab profile on rgb": (saved(scene(), "PNG", icc_profile=lab_profile()), "RGB"),
    "broken profile": (saved(scene(), "PNG", icc_profile=b"SECRET profile"), "RGB"),
}
"""Pictures that have to be encoded again, and the resulting type."""

STRIPPED: dict[str, bytes] = {
    "gps jpeg": saved(scene(), "JPEG", exif=exif(gps=True)),
    "gps png": saved(scene(), "PNG", exif=exif(gps=True)),
    "gps webp": saved(scene(), "WEBP", exif=exif(gps=True)),
    "gps behind the pixels": png((1, 1), 8, 2, b"\0\1\2\3", after=chunk(b"eXIf", exif(gps=True).removeprefix(b"Exif\0\0"))),
    "png text": saved(scene(), "PNG", pnginfo=_with_text()),
    "png text behind the pixels": png((1, 1), 8, 2, b"\0\1\2\3", after=chunk(b"tEXt", b"Where\0SECRET")),
    "jpeg comment": saved(scene(), "JPEG", comment=b"SECRET"),
    "jpeg with photoshop data": b"\xff\xd8\xff\xed"
    + struct.pack(">H", 2 + 14 + 6)
    + b"Photoshop 3.0\0SECRET"
    + saved(scene(), "JPEG")[2:],
    "jpeg with a maker's segment": b"\xff\xd8\xff\xe4" + struct.pack(">H", 8) + b"SECRET" + saved(scene(), "JPEG")[2:],
    "xmp webp": saved(scene(), "WEBP", xmp=b"<x:SECRET/>"),
    "broken exif in a jpeg": saved(scene(), "JPEG", exif=b"Exif\0\0SECRET garbage"),
    "broken exif in a png": saved(scene(), "PNG", exif=b"Exif\0\0SECRET garbage"),
    "a phone's jpeg of two pictures": _mpo(),
    "png with a density": saved(scene(), "PNG", dpi=(300, 300)),
}
"""Pictures that need not be encoded again, with metadata."""

BIG = {kind: saved(scene(size=(64, 48)), kind) for kind in ("PNG", "JPEG", "WEBP")}
EVERYTHING = {**PLAIN, **STRIPPED, **{name: data for name, (data, _) in OTHER.items()}}

"""Encoded pictures of every kind, made by Pillow or, where it cannot, chunk by chunk."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms

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
    sides = {"top": (1, lambda n: n), "bottom": (1, lambda n: height - 1 - n)}
    sides |= {"left": (0, lambda n: n), "right": (0, lambda n: width - 1 - n)}
    size = (width, height) if row in {"top", "bottom"} else (height, width)
    stored = Image.new(upright.mode, size)
    for r in range(size[1]):
        for c in range(size[0]):
            place = [0, 0]
            for side, number in ((row, r), (column, c)):
                axis, along = sides[side]
                place[axis] = along(number)
            stored.putpixel((c, r), upright.getpixel((place[0], place[1])) or 0)
    return stored


def thumbnailed() -> bytes:
    """A JPEG whose EXIF block holds another whole JPEG, as cameras write it."""
    tiff = b"II*\0" + struct.pack("<IHI", 8, 0, 0) + saved(scene(), "JPEG")
    return saved(scene(), "JPEG", exif=b"Exif\0\0" + tiff)

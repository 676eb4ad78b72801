"""Type and size of ordinary PNG and JPEG files, read without a decoder.

An editor's answer is checked once a turn, and nearly all of them are 8-bit PNGs or JPEGs without anything unusual in them. For
these `plain_info` finds what `codec.inspect` and `containers.is_complete` find, in Python alone: the chunks or segments, their
lengths and checksums. No pixel is decoded and no C decoder sees the bytes, so it needs no process of its own. For everything
else it answers None, and the file goes to a decode process, which also says what is wrong with a broken one.
"""

from __future__ import annotations

from typing import Final

from services.imaging.codec import ImageInfo
from services.imaging.containers import is_complete, png_chunks
from services.imaging.structure import SCAN, TooComplexError, jpeg_segments, work_of

MAX_BYTES: Final = 4 * 1024 * 1024
"""A checksum over them holds the event loop for a millisecond; larger files go to a process."""
MAX_JPEG_BYTES: Final = 1024 * 1024
"""The worst content of a scan takes 15 ms for each of these; an ordinary one 2 ms."""
_MAX_CHUNKS: Final = 1000
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PLAIN_COLOURS: Final = frozenset({0, 2, 6})
"""Grey, RGB and RGBA."""
_SIZES: Final = {b"IHDR": 13, b"IEND": 0, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"pHYs": 9, b"tIME": 7}
_MAX_TEXT: Final = 64 * 1024
_MAX_SIDE: Final = 2**31 - 1
_TABLES: Final = 0xDB
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive, with Huffman coding."""
_PLAIN_MARKERS: Final = frozenset({0xC4, 0xDD, 0xE0, 0xEE, 0xFE}) | _FRAMES | {_TABLES, SCAN}
"""Huffman tables, restart intervals, JFIF, Adobe, comments."""
_COMPONENTS: Final = frozenset({1, 3})


def plain_info(data: bytes) -> ImageInfo | None:
    """Type and size of a complete, ordinary PNG or JPEG; None if it is another file, or not ordinary, or broken."""
    if len(data) > MAX_BYTES:
        return None
    try:
        if data.startswith(_PNG):
            return _png(data)
        return _jpeg(data) if data.startswith(b"\xff\xd8\xff") and len(data) <= MAX_JPEG_BYTES else None
    except TooComplexError:
        return None


def _png(data: bytes) -> ImageInfo | None:
    work_of(data)
    last, read = b"", len(_PNG)
    for count, (kind, content, whole) in enumerate(png_chunks(data), 1):
        known = kind == b"IDAT" or _SIZES.get(kind) == len(content) or (kind == b"tEXt" and len(content) <= _MAX_TEXT)
        after_pixels = last != b"IDAT" or kind in {b"IDAT", b"IEND"}
        in_place = (kind == b"IHDR") == (not last) and (kind != b"IEND" or last == b"IDAT") and after_pixels
        if not known or not in_place or count > _MAX_CHUNKS:
            return None
        read += len(whole)
        last = kind
    if last != b"IEND" or read != len(data):
        return None
    header = data[16:29]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    plain = header[8] == 8 and header[9] in _PLAIN_COLOURS and header[10:12] == b"\x00\x00" and header[12] <= 1  # noqa: PLR2004
    if not plain or not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        return None
    return ImageInfo("image/png", width, height)


def _jpeg(data: bytes) -> ImageInfo | None:
    work_of(data)
    size: tuple[int, int] | None = None
    scans, read = 0, 2
    for marker, content, skipped in jpeg_segments(data):
        read += skipped + 4 + len(content)
        # The bytes of a scan are skipped before the segment that follows it.
        if marker not in _PLAIN_MARKERS or (skipped and not scans):
            return None
        if marker == _TABLES and not _whole_tables(content):
            return None
        if marker in _FRAMES:
            components = content[5] if len(content) > 5 else 0  # noqa: PLR2004 - ITU-T T.81, B.2.2
            plain = components in _COMPONENTS and len(content) == 6 + 3 * components and content[0] == 8  # noqa: PLR2004
            if size is not None or scans or not plain:
                return None
            size = int.from_bytes(content[3:5], "big"), int.from_bytes(content[1:3], "big")
        if marker == SCAN:
            scans += 1
            if size is None:
                return None
    # Behind the last segment, so that it is whole too.
    if size is None or not scans or 0 in size or data.find(b"\xff\xd9", read) < 0 or not is_complete(data):
        return None
    return ImageInfo("image/jpeg", *size)


def _whole_tables(content: bytes) -> bool:
    """Whether a segment of quantization tables ends where a table ends."""
    at = 0
    while at < len(content):
        at += 1 + 64 * (1 if content[at] < 16 else 2)  # noqa: PLR2004 - ITU-T T.81, B.2.4.1: 8 or 16 bits
    return at == len(content)

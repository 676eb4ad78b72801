"""How much work a PNG, JPEG or WebP file asks of its decoder, from its structure alone.

A file's size says little: a progressive JPEG of 52 kB can hold 4,000 scans, each of which visits every block of the picture, and
a WebP of 46 bytes declares 50 megapixels. `work_of` walks the chunks or segments, refuses more than real files have, and
estimates the rest. The factors were measured with Pillow 13 on one core of a 2.1 GHz Xeon, 2026-11-29.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS: Final = 1000
"""Plus one for each thousand bytes; libpng writes IDAT chunks of 8 KiB. Pillow takes 6 µs for each."""
_PNG_IHDR_END: Final = 25
_PNG_SLACK: Final = 64 * 1024
_PNG_COMPRESSED: Final = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_PNG_MOST_COMPRESSED: Final = 100
"""Compressed texts and profiles: each can be 1 MiB when it is read, which takes 2 ms, for a kilobyte of file."""
_JPEG_FILL: Final = 256 * 1024
"""Bytes before the first scan that are in no segment; Pillow takes 0.3 µs for each."""
_JPEG_SEGMENTS: Final = 5000
"""Tables, metadata and scans. A profile has up to 255; 50 MB of extended XMP in segments of 64 KiB are 800."""
_JPEG_SCANS: Final = 100
"""libjpeg writes 10 scans, jpegrescan and mozjpeg up to 30."""
_JPEG_BLOCK_VISITS: Final = 64_000_000
"""Blocks of 8 x 8 times the scans that visit them: six times those of a camera's 50 megapixels in 10 scans, or 2 CPU seconds."""
_WEBP_CHUNKS: Final = 1000
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a PNG's pixel, by colour type."""
_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""What libjpeg's `next_marker` finds, but for markers without a segment; it skips other bytes between segments too."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SCAN: Final = 0xDA
_END: Final = 0xD9

_S_PER_RAW_BYTE: Final = 4e-9
_S_PER_BLOCK_VISIT: Final = 35e-9


class TooComplexError(Exception):
    """The file's structure asks for more work than any picture needs; the message is a clause about the file."""


@dataclass(frozen=True, slots=True)
class Work:
    """CPU seconds that decoding takes, roughly: those of the file, and those of each pixel that its header declares."""

    file_s: float
    pixel_s: float

    def seconds(self, pixels: int) -> float:
        """For so many pixels."""
        return self.file_s + self.pixel_s * pixels


def work_of(data: bytes) -> Work:
    """The work of decoding a PNG, JPEG or WebP; none for other bytes.

    Raises:
        TooComplexError: when the structure is beyond a bound.
    """
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return Work(0, 0)


def _png(data: bytes) -> Work:
    most = _PNG_CHUNKS + len(data) // 1000
    at, chunks, compressed, pixels = len(_PNG), 0, 0, 0
    most_pixels = _png_bytes(data)
    while at + 12 <= len(data):
        chunks += 1
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        compressed += kind in _PNG_COMPRESSED
        pixels += size if kind == b"IDAT" else 0
        if pixels > most_pixels:
            raise TooComplexError("is a PNG with more image data than its width and height need; save it again")
        if compressed > _PNG_MOST_COMPRESSED:
            raise TooComplexError(f"is a PNG of more than {_PNG_MOST_COMPRESSED} compressed texts; save it again, without them")
        if chunks > most:
            raise TooComplexError(f"is a PNG of more than {most:,} chunks; save it again, with chunks of a kilobyte or more")
        if kind == b"IEND":
            break
        at += 12 + size
    # IHDR's bit depth and colour type.
    depth, colour = data[24:26] if len(data) > _PNG_IHDR_END else (8, 2)
    return Work(len(data) * 10e-9, 12e-9 + depth * _SAMPLES.get(colour, 4) / 8 * _S_PER_RAW_BYTE)


def _png_bytes(data: bytes) -> int:
    """The most bytes of image data that a PNG of this header can need; deflate stores what it cannot compress.

    Decoders that inflate all of it before they look, as those of some editors do, would make gigabytes of a small picture.
    """
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    depth, colour = data[24:26] if len(data) > _PNG_IHDR_END else (8, 2)
    # A quarter for the filters of interlaced rows, and for encoders that flush often.
    return _PNG_SLACK + height * (1 + -(-width * depth * _SAMPLES.get(colour, 4) // 8)) * 5 // 4


def _webp(data: bytes) -> Work:
    at, chunks = 12, 0
    while at + 8 <= len(data):
        chunks += 1
        if chunks > _WEBP_CHUNKS:
            raise TooComplexError(f"is a WebP of more than {_WEBP_CHUNKS:,} chunks; save it again")
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + (size & 1)
    return Work(len(data) * 60e-9, 12e-9)


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP declares; None for other files. Pillow allocates both canvases when it opens one."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:  # noqa: PLR2004 - the longest of the three headers
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        sides = int.from_bytes(data[21:25], "little")
        return 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _jpeg(data: bytes) -> Work:
    frame = _Frame()
    scans = visits = fill = 0
    for marker, content, skipped in jpeg_segments(data):
        fill += 0 if scans else skipped
        if fill > _JPEG_FILL:
            raise TooComplexError(f"is a JPEG with more than {_JPEG_FILL:,} bytes between its segments; save it again")
        if marker in _FRAMES:
            frame = _Frame.of(content) or frame
        elif marker == SCAN:
            scans += 1
            visits += frame.blocks(content)
            if scans > _JPEG_SCANS:
                raise TooComplexError(f"is a JPEG of more than {_JPEG_SCANS} scans; save it again, as a baseline JPEG")
            if visits > _JPEG_BLOCK_VISITS:
                raise TooComplexError(f"is a JPEG of {scans} scans, which are too many for its size; save it as a baseline JPEG")
    return Work(len(data) * 30e-9 + visits * _S_PER_BLOCK_VISIT, 2e-9 * max(1, len(frame.factors)))


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker and content of each segment up to the end marker, as libjpeg finds them, and the bytes skipped before it."""
    at = 2
    for _ in range(_JPEG_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or (marker := data[found.end() - 1]) == _END:
            return
        size = int.from_bytes(data[found.end() : found.end() + 2], "big")
        yield marker, data[found.end() + 2 : found.end() + size], found.start() - at
        at = found.end() + max(2, size)
    raise TooComplexError(f"is a JPEG of more than {_JPEG_SEGMENTS:,} segments; save it again")


@dataclass(frozen=True, slots=True)
class _Frame:
    """The size of a JPEG, and the sampling factors of its components by their ids."""

    width: int = 0
    height: int = 0
    factors: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(cls, content: bytes) -> _Frame | None:
        """The frame of a start-of-frame segment; None for a broken one, which libjpeg refuses."""
        if len(content) < 6 or len(content) < 6 + 3 * content[5]:  # noqa: PLR2004 - ITU-T T.81, B.2.2
            return None
        height, width = struct.unpack_from(">HH", content, 1)
        parts = (content[at : at + 2] for at in range(6, 6 + 3 * content[5], 3))
        return cls(width, height, tuple((number, max(1, factor >> 4), max(1, factor & 15)) for number, factor in parts))

    def blocks(self, scan: bytes) -> int:
        """Blocks that a scan visits (ITU-T T.81, A.2)."""
        widest = max((h for _, h, _ in self.factors), default=1)
        tallest = max((v for _, _, v in self.factors), default=1)
        numbers = scan[1 : 1 + 2 * scan[0] : 2] if scan else b""
        chosen = [(h, v) for number, h, v in self.factors if number in numbers]
        if len(chosen) == 1:
            h, v = chosen[0]
            return _over(self.width * h, widest * 8) * _over(self.height * v, tallest * 8)
        units = _over(self.width, 8 * widest) * _over(self.height, 8 * tallest)
        return units * (sum(h * v for h, v in chosen) or 1)


def _over(number: int, by: int) -> int:
    return -(-number // by)

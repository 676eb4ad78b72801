"""Small pictures that cost much to decode, written bit by bit: no encoder of the system makes them.

progressive_jpeg(w, h, scans)   every scan visits every coefficient, and costs some ten bytes
baseline_jpeg(w, h, components) the smallest picture of its size
jpeg_segments(kind, count)      a small picture after many segments
lossless_webp(w, h)             34 bytes at any size
webp_chunks(count)              a small picture among many chunks
deep_png(w, h)                  16 bits a sample, and a transparent colour (tRNS)
png_chunks(kind, count)         a small picture among many chunks

Only the standard library is used, so that a script may take this file alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Final

SIDE: Final = 7071
"""Of the largest square below the default limit of 50 megapixels."""
EOB_BLOCKS: Final = (1 << 15) - 1
"""Blocks that one EOB14 symbol of a progressive JPEG skips at most (T.81, G.1.2.2)."""
PNG: Final = b"\x89PNG\r\n\x1a\n"


class _Bits:
    """Bits, the most significant first (JPEG) or the least significant first (WebP)."""

    def __init__(self, *, least_first: bool = False) -> None:
        self.least_first = least_first
        self.bits: list[str] = []

    def add(self, value: int, count: int) -> None:
        """Append the lowest `count` bits of a value."""
        text = format(value, f"0{count}b") if count else ""
        self.bits.append(text[::-1] if self.least_first else text)

    def data(self) -> bytes:
        """The bytes, filled up with ones (JPEG) or zeros (WebP)."""
        text = "".join(self.bits)
        text += ("0" if self.least_first else "1") * (-len(text) % 8)
        if self.least_first:
            return bytes(int(text[at : at + 8][::-1], 2) for at in range(0, len(text), 8))
        return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)).replace(b"\xff", b"\xff\x00")


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def _frame(marker: int, width: int, height: int, components: int) -> bytes:
    """Every component at full size, with the first quantisation table."""
    parts = b"".join(bytes((number + 1, 0x11, 0)) for number in range(components))
    return _segment(marker, struct.pack(">BHHB", 8, height, width, components) + parts)


def _jpeg_head(components: int) -> bytes:
    table = _segment(0xDB, b"\x00" + b"\x01" * 64)
    # CMYK is declared by Adobe's segment, transform 0.
    adobe = _segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)) if components == 4 else b""
    return b"\xff\xd8" + adobe + table


def _code(kind: int, symbols: bytes) -> bytes:
    """A Huffman table of one code of one bit, and one of two bits: 0 and 10."""
    counts = [len(symbols[:1]), len(symbols[1:2])] + [0] * 14
    return _segment(0xC4, bytes((kind, *counts)) + symbols)


def _skipped(blocks: int) -> bytes:
    """A scan in which every block ends at once: EOB14 (code 0) and its 14 bits, as often as needed."""
    bits = _Bits()
    for _ in range(-(-blocks // EOB_BLOCKS)):
        bits.add((1 << 14) - 1, 15)
    return bits.data()


@cache
def progressive_jpeg(
    width: int = SIDE, height: int = SIDE, scans: int = 900, *, components: int = 1, refine: bool = True
) -> bytes:
    """A progressive JPEG of many scans.

    Args:
        refine: refinement scans, which look at each of the 63 coefficients of every block; otherwise first scans, which
            only count blocks.
    """
    blocks = -(-width // 8) * -(-height // 8)
    skipped = _skipped(blocks)
    approximation = 0x10 if refine else 0x00
    one_round = [
        _segment(0xDA, bytes((1, component + 1, 0x00, 1, 63, approximation))) + skipped for component in range(components)
    ]
    body = b"".join(one_round[number % components] for number in range(scans))
    head = _jpeg_head(components) + _frame(0xC2, width, height, components) + _code(0x10, b"\xe0\x00")
    return head + body + b"\xff\xd9"


@cache
def baseline_jpeg(width: int = SIDE, height: int = SIDE, *, components: int = 3) -> bytes:
    """A JPEG of two bits a block: no difference (code 0), end of block (code 0)."""
    blocks = components * -(-width // 8) * -(-height // 8)
    scan = bytes((components, *(byte for number in range(components) for byte in (number + 1, 0x00)), 0, 63, 0))
    tables = _code(0x00, b"\x00") + _code(0x10, b"\x00")
    head = _jpeg_head(components) + _frame(0xC0, width, height, components) + tables
    return head + _segment(0xDA, scan) + bytes(-(-2 * blocks // 8)) + b"\xff\xd9"


def jpeg_segments(count: int, kind: int = 0xFE, content: bytes = b"") -> bytes:
    """A small picture after `count` segments: comments, or tables that are defined again and again."""
    plain = baseline_jpeg(16, 16, components=1)
    return plain[:2] + _segment(kind, content) * count + plain[2:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(content)) + content + b"\0" * (len(content) % 2)


def _riff(chunks: Iterable[bytes]) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _vp8l(width: int, height: int, *, alpha: bool = False) -> bytes:
    """A VP8L stream of one colour: five codes of one symbol, and no bit for any pixel."""
    bits = _Bits(least_first=True)
    bits.add(0x2F, 8)
    bits.add(width - 1, 14)
    bits.add(height - 1, 14)
    bits.add(int(alpha), 1)
    bits.add(0, 3)  # The version.
    bits.add(0, 1)  # No transform.
    bits.add(0, 1)  # No colour cache.
    bits.add(0, 1)  # One set of codes.
    for symbol in (200, 90, 30, 128 if alpha else 255, 0):
        bits.add(1, 1)  # A simple code,
        bits.add(0, 1)  # of one symbol,
        bits.add(1, 1)  # which has eight bits.
        bits.add(symbol, 8)
    return bits.data()


def lossless_webp(width: int = SIDE, height: int = SIDE, *, alpha: bool = False) -> bytes:
    """A lossless WebP of one colour."""
    return _riff([_chunk(b"VP8L", _vp8l(width, height, alpha=alpha))])


def webp_chunks(count: int, kind: bytes = b"XTRA", content: bytes = b"") -> bytes:
    """A small picture with `count` further chunks."""
    extended = _chunk(b"VP8X", struct.pack("<I", 0) + (15).to_bytes(3, "little") * 2)
    return _riff([extended, _chunk(b"VP8L", _vp8l(16, 16)), _chunk(kind, content) * count])


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _png(width: int, height: int, bits: int, kind: int, extra: bytes, *, interlaced: bool) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, int(interlaced))
    row = 1 + (width * bits * _SAMPLES[kind] + 7) // 8
    # Adam7 (PNG, 8.2) has at most one more filter byte a row and pass.
    size = row * height + (8 * height + 64 if interlaced else 0)
    deflate, block = zlib.compressobj(9), bytes(1 << 20)
    pieces = [deflate.compress(block) for _ in range(size >> 20)]
    pixels = b"".join([*pieces, deflate.compress(bytes(size & (1 << 20) - 1)), deflate.flush()])
    return PNG + _png_chunk(b"IHDR", header) + extra + _png_chunk(b"IDAT", pixels) + _png_chunk(b"IEND", b"")


@cache
def deep_png(
    width: int = SIDE, height: int = SIDE, *, kind: int = 0, transparent: bool = True, interlaced: bool = False
) -> bytes:
    """A PNG of 16-bit zeros: grey (0), colour (2), with alpha (4, 6)."""
    colour = _png_chunk(b"tRNS", bytes(2 * _SAMPLES[kind])) if transparent and kind in {0, 2} else b""
    return _png(width, height, 16, kind, colour, interlaced=interlaced)


def png_chunks(count: int, kind: bytes = b"IDAT", content: bytes = b"") -> bytes:
    """A small picture with `count` further chunks before its pixels."""
    plain = _png(16, 16, 8, 0, b"", interlaced=False)
    return plain[:33] + _png_chunk(kind, content) * count + plain[33:]

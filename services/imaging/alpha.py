"""Whether a picture has an alpha channel, told from the start of its file without decoding it."""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 4096
"""Of a file that are enough: the header, and for a PNG the chunks before its pixels, as a rule."""
_HEADER_BYTES: Final = 26
"""Of the longest header that is read; no picture is shorter."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_ALPHA: Final = frozenset({4, 6})
"""Colour types with alpha: PNG specification, section 11.2.1."""
_VP8X_ALPHA: Final = 0x10
"""WebP container specification, section "Extended file format"."""
_VP8L_ALPHA: Final = 0x10
"""WebP lossless bitstream specification, section 3: the bit after 28 bits of width and height."""


def has_alpha(head: bytes) -> bool:
    """Whether the picture that begins like this has an alpha channel, or a transparent colour."""
    if len(head) < _HEADER_BYTES:
        return False
    if head.startswith(_PNG):
        return head[25] in _PNG_ALPHA or b"tRNS" in head[26:].partition(b"IDAT")[0]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = head[12:16]
        return (kind == b"VP8X" and bool(head[20] & _VP8X_ALPHA)) or (kind == b"VP8L" and bool(head[24] & _VP8L_ALPHA))
    return False

"""Metadata removal from PNG, JPEG and WebP files without decoding, and a check that a file is complete.

Only the listed parts are kept. All others are removed: texts, EXIF, thumbnails, times, vendors' parts, and data after the end
of the image. A file with colour information other than sRGB's, or with an unusual structure, must be encoded again.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_SRGB_CICP: Final = b"\x01\x0d\x00\x01"
"""BT.709's primaries, sRGB's curve, RGB, full range."""
_GAMMA_TOLERANCE: Final = 0.05
_JFIF: Final = b"JFIF\x00"
_ADOBE: Final = b"Adobe"
_JFIF_BYTES: Final = 12
"""Up to the thumbnail's size, which is then written as 0 x 0."""
_ADOBE_BYTES: Final = 12
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Any marker except those within a scan: stuffed zeros, restarts, fill bytes."""
_TABLES: Final = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_KEPT_MARKERS: Final = _TABLES | _FRAMES | {_SCAN, _END}
_DROPPED_MARKERS: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
_WEBP_ALPHA: Final = 0x10
_WEBP_ORDER: Final = (b"VP8X", b"ALPH", b"VP8 ", b"VP8L")


def strip_metadata(data: bytes) -> bytes | None:
    """The file without metadata: the same bytes if there is none, or None if it must be encoded again."""
    if data.startswith(_PNG):
        made = _strip_png(data)
    elif data.startswith(b"\xff\xd8"):
        made = _strip_jpeg(data)
    else:
        made = _strip_webp(data)
    return data if made == data else made


def content_digest(data: bytes) -> bytes:
    """SHA-256 over the parts of a file that make its pixels: the same for a file that lost or gained metadata only.

    Nothing is decoded. A PNG's image data counts as a whole, however it is cut into chunks.
    """
    made = hashlib.sha256()
    if data.startswith(_PNG):
        for kind, content, _ in png_chunks(data):
            if kind in {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}:
                made.update(content)
    elif data.startswith(b"\xff\xd8"):
        for marker, _, whole in _segments(data):
            if marker in _KEPT_MARKERS:
                made.update(whole)
    else:
        at = 12
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            if data[at : at + 4] in _WEBP_ORDER[1:]:
                made.update(data[at : at + 8 + size])
            at += 8 + size + (size & 1)
    return made.digest()


def is_complete(data: bytes) -> bool:
    """Whether the encoded bytes are structurally complete: every PNG checksum, JPEG's end marker, WebP's length.

    Cheap enough for the hot path, since nothing is decoded; detects truncated transfers and corrupt files.
    """
    if data.startswith(_PNG):
        return any(kind == b"IEND" for kind, _, _ in png_chunks(data))
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_is_complete(data)
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= int.from_bytes(data[4:8], "little") + 8


def _strip_png(data: bytes) -> bytes | None:
    kept: list[memoryview] = []
    seen: set[bytes] = set()
    last = b""
    for kind, content, whole in png_chunks(data):
        in_place = (kind == b"IHDR") == (not seen) and not (kind == b"IDAT" and kind in seen and kind != last)
        if not in_place or _png_colours(kind, content):
            return None
        if kind in {b"IHDR", b"IDAT", b"IEND"} or (kind, len(content)) == (b"sRGB", 1):
            kept.append(whole)
        elif not kind[0] & 0x20 and kind != b"PLTE":
            # An unknown critical chunk may change the meaning of the others.
            return None
        seen.add(kind)
        last = kind
    return b"".join([_PNG, *kept]) if last == b"IEND" and b"IDAT" in seen else None


def _png_colours(kind: bytes, content: memoryview) -> bool:
    """Whether a chunk shows that the pixels are not plain sRGB."""
    if kind == b"IHDR":
        return bytes(content[9:10]) == b"\x03"
    if kind == b"gAMA":
        return not meant_as_srgb(int.from_bytes(content, "big") / 100_000)
    return kind in {b"iCCP", b"tRNS"} or (kind == b"cICP" and bytes(content) != _SRGB_CICP)


def meant_as_srgb(gamma: float) -> bool:
    """Whether a PNG's gAMA is that of sRGB, within the 5 % that libpng allows."""
    return abs(gamma * 2.2 - 1) <= _GAMMA_TOLERANCE


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Type, content and whole of each chunk, up to IEND; stops before one that is truncated or has a wrong checksum."""
    at, view = len(_PNG), memoryview(data)
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        end = at + 12 + size
        whole = view[at:end]
        if end > len(data) or zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big"):
            return
        yield (kind := bytes(whole[4:8])), whole[8:-4], whole
        if kind == b"IEND":
            return
        at = end


def _strip_jpeg(data: bytes) -> bytes | None:
    kept = [b"\xff\xd8"]
    marker, scans, has_jfif = 0, 0, False
    for marker, content, whole in _segments(data):
        if marker == 0xE2 and content.startswith(b"ICC_PROFILE\x00"):  # noqa: PLR2004
            return None
        if marker in _KEPT_MARKERS:
            kept.append(whole)
        elif marker == 0xE0 and content.startswith(_JFIF) and len(content) > _JFIF_BYTES + 1 and not has_jfif:  # noqa: PLR2004
            # Kept because it also declares the colour space; its thumbnail is removed.
            kept.append(_segment(marker, content[:_JFIF_BYTES] + b"\x00\x00"))
            has_jfif = True
        elif marker == 0xEE and content.startswith(_ADOBE) and len(content) >= _ADOBE_BYTES:  # noqa: PLR2004
            kept.append(_segment(marker, content[:_ADOBE_BYTES]))
        elif marker not in _DROPPED_MARKERS:
            return None
        scans += marker == _SCAN
    return b"".join(kept) if marker == _END and scans else None


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, content and whole of each segment (a scan with its pixels), up to the end marker; stops before a truncated one."""
    at = 2
    while (at := _skip_fill(data, at)) >= 0:
        marker = data[at]
        if marker == _END:
            yield marker, b"", b"\xff\xd9"
            return
        content, end = at + 3, at + 1 + int.from_bytes(data[at + 1 : at + 3], "big")
        if not content <= end <= len(data):
            return
        following = _end_of_scan(data, end) if marker == _SCAN else end
        if following < 0:
            return
        yield marker, data[content:end], b"\xff" + data[at:following]
        at = following


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def _skip_fill(data: bytes, at: int) -> int:
    """The position of the marker's code, after any number of 0xFF; -1 if there is none."""
    if at >= len(data) or data[at] != 0xFF:  # noqa: PLR2004 - every marker begins so
        return -1
    while at < len(data) and data[at] == 0xFF:  # noqa: PLR2004
        at += 1
    return at if at < len(data) else -1


def _end_of_scan(data: bytes, at: int) -> int:
    """The position of the next marker outside of the scan; -1 if there is none."""
    found = _MARKER.search(data, at)
    return found.start() if found else -1


def _strip_webp(data: bytes) -> bytes | None:
    parts: dict[bytes, bytes] = {}
    at, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at + 8 <= end:
        kind = data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        content = data[at + 8 : at + 8 + size]
        if at + 8 + size > end or kind in parts or kind in {b"ICCP", b"ANIM", b"ANMF"}:
            return None
        if kind in _WEBP_ORDER:
            parts[kind] = content
        at += 8 + size + (size & 1)
    if (b"VP8 " in parts) == (b"VP8L" in parts) or list(parts) != sorted(parts, key=_WEBP_ORDER.index):
        return None
    extended = parts.get(b"VP8X")
    has_alpha = extended is not None and len(extended) > 0 and extended[0] & _WEBP_ALPHA
    if b"ALPH" in parts and not (b"VP8 " in parts and has_alpha):
        # Decoders ignore an alpha chunk there.
        return None
    if extended is not None:
        if len(extended) != 10:  # noqa: PLR2004
            return None
        parts[b"VP8X"] = bytes((extended[0] & _WEBP_ALPHA, 0, 0, 0)) + extended[4:]
    body = b"".join(kind + struct.pack("<I", len(part)) + part + bytes(len(part) & 1) for kind, part in parts.items())
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether an end marker follows the start of the scan; one inside a thumbnail comes before it."""
    position = 2
    while len(data) >= position + 4 and data[position] == 0xFF:  # noqa: PLR2004 - every segment starts so
        marker = data[position + 1]
        if marker == 0xDA:  # noqa: PLR2004 - start of scan
            return data.find(b"\xff\xd9", position) >= 0
        fill = marker == 0xFF  # noqa: PLR2004
        position += 1 if fill else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False

"""Pictures without metadata, their pixels untouched: EXIF, XMP, comments and manifests are cut out of the file.

The server stores pictures without what they said of themselves, and marks those that it serves; a photograph's position, its
camera and the session that a manifest names are nothing to train on.
"""

from __future__ import annotations

import base64
import struct
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS: Final = frozenset(b"IHDR PLTE tRNS IDAT IEND gAMA sRGB iCCP cHRM sBIT cICP".split())
"""What decides how pixels look (PNG, third edition, section 11)."""
_WEBP_CHUNKS: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP"})
_WEBP_METADATA: Final = 0x0C
"""The flags EXIF and XMP of VP8X (RFC 9649, section 2.7.1)."""
_JFIF, _ICC, _ADOBE = 0xE0, 0xE2, 0xEE
_SOS, _COMMENT = 0xDA, 0xFE
_APPLICATION: Final = range(0xE0, 0xF0)
_MEDIA: Final = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


class UnknownPictureError(ValueError):
    """The bytes are no PNG, JPEG or WebP, or are cut short."""


def from_data_url(url: str) -> bytes:
    """The bytes of a base64 data URL, without metadata.

    Raises:
        UnknownPictureError: when it is none, or holds no picture.
    """
    head, comma, text = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise UnknownPictureError("not a data URL")
    return stripped(base64.b64decode(text))


def data_url(data: bytes) -> str:
    """A picture as a base64 data URL."""
    return f"data:{media_type(data)};base64,{base64.b64encode(data).decode()}"


def media_type(data: bytes) -> str:
    """The media type of a PNG, JPEG or WebP."""
    return next((kind for magic, kind in _MEDIA.items() if data.startswith(magic)), "application/octet-stream")


def extension(data: bytes) -> str:
    """The usual ending of its file's name, without a dot."""
    return {"image/jpeg": "jpg", "application/octet-stream": "bin"}.get(media_type(data), media_type(data).partition("/")[2])


def stripped(data: bytes) -> bytes:
    """The same picture without metadata.

    Raises:
        UnknownPictureError: for other bytes than those of a PNG, JPEG or WebP.
    """
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError) as exc:
        raise UnknownPictureError("the picture is cut short") from exc
    raise UnknownPictureError("not a PNG, JPEG or WebP")


def _png(data: bytes) -> bytes:
    parts, at = [_PNG], len(_PNG)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise UnknownPictureError("the picture is cut short")
        if kind in _PNG_CHUNKS:
            parts.append(data[at:end])
        at = end
        if kind == b"IEND":
            return b"".join(parts)
    raise UnknownPictureError("the picture is cut short")


def _jpeg(data: bytes) -> bytes:
    parts, at = [data[:2]], 2
    while True:
        if data[at] != 0xFF:  # noqa: PLR2004 - the byte before each marker (ITU T.81, B.1.1.2)
            raise UnknownPictureError("not a JPEG")
        marker = data[at + 1]
        if marker == _SOS:
            # From here on, entropy-coded data and tables; what follows the end of the image belongs to no picture.
            end = data.rfind(b"\xff\xd9")
            if end < 0:
                raise UnknownPictureError("the picture is cut short")
            return b"".join([*parts, data[at : end + 2]])
        (length,) = struct.unpack_from(">H", data, at + 2)
        segment = data[at : at + 2 + length]
        kept = marker in {_JFIF, _ADOBE} or (marker == _ICC and segment[4:16] == b"ICC_PROFILE\0")
        if kept or not (marker in _APPLICATION or marker == _COMMENT):
            parts.append(segment)
        at += 2 + length


def _webp(data: bytes) -> bytes:
    parts, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        chunk = bytearray(data[at:end])
        if kind in _WEBP_CHUNKS:
            if kind == b"VP8X":
                chunk[8] &= ~_WEBP_METADATA & 0xFF
            parts.append(bytes(chunk))
        at = end
    body = b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body

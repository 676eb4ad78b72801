"""Pictures for the stubs: a thumbnail or a megapixel. Every reply differs, without encoding it again."""

from __future__ import annotations

import base64
import io
import struct
import zlib

from PIL import Image

from benchmarks.stubs import picture

_END = 12  # bytes of a PNG's last chunk


def small() -> bytes:
    """A 64x48 PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 60)).save(buffer, "PNG")
    return buffer.getvalue()


class Replies:
    """Encodes a picture once; each reply adds its own comment, so that no two are the same file.

    Args:
        large: a megapixel instead of a thumbnail.
    """

    def __init__(self, *, large: bool) -> None:
        self.source = picture() if large else small()
        cut = (len(self.source) - _END) // 3 * 3
        self._head = base64.b64encode(self.source[:cut])
        self._tail = self.source[cut:-_END]
        self._number = 0

    def next(self) -> bytes:
        """The next picture, in base64."""
        self._number += 1
        text = b"tEXtComment\0%d" % self._number
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        return self._head + base64.b64encode(self._tail + chunk + self.source[-_END:])

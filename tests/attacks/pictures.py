"""Hostile pictures: bombs, polyglots, metadata."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, PngImagePlugin

HEAD = b"\x89PNG\r\n\x1a\n"
SCRIPT = b"<html><script>alert(document.domain)</script></html>"


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(width: int, height: int, *extra: bytes, bits: int = 8, kind: int = 0, pixels: bytes | None = None) -> bytes:
    """A PNG of zeros, with further chunks before the pixels."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    row = 1 + (width * bits * samples + 7) // 8
    if pixels is None:
        pixels = zeros(row * height)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return HEAD + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """Return that many zeros, compressed: one block for a mebibyte, again and again, so that a gigabyte takes no second."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    rest = deflate.compress(bytes(size % (1 << 20))) + deflate.flush()
    # RFC 1950: a header, the blocks, and the Adler-32 of the zeros, whose two sums are the number of bytes and 1.
    checksum = (size % 65_521) << 16 | 1
    return b"\x78\xda" + block * (size >> 20) + rest + checksum.to_bytes(4, "big")


def encoded(kind: str, size: tuple[int, int] = (32, 24), mode: str = "RGB", **options: Any) -> bytes:
    """A picture of some format."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header declares this size."""
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of(width: int, height: int) -> bytes:
    """A small lossless WebP whose header declares this size."""
    data = bytearray(encoded("WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<I", (width - 1) | (height - 1) << 14 | (data[at + 3] & 0xF0) << 24)
    return bytes(data)


def exif_bomb() -> bytes:
    """A JPEG whose EXIF points at itself and claims 4 GB of values."""
    entry = struct.pack("<HHII", 0x0112, 3, 0xFFFFFFFF, 8) * 5000
    block = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + struct.pack("<H", 5000) + entry + struct.pack("<I", 8)
    data = encoded("JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def texts() -> PngImagePlugin.PngInfo:
    """Metadata of each kind."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SCRIPT.decode())
    info.add_itxt("Author", "somebody real")
    return info


def _many_frames() -> bytes:
    frames = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


PLAIN = encoded("PNG")

REFUSED = {
    "png 60000x60000 declared": PLAIN[:16] + struct.pack(">II", 60_000, 60_000) + PLAIN[24:],
    "png 2^31 wide": PLAIN[:16] + struct.pack(">II", 2**31 - 1, 1) + PLAIN[24:],
    "png 0x0": png(1, 1)[:16] + bytes(8) + png(1, 1)[24:],
    "png 1x60000": png(1, 60_000),
    "png 60000x1": png(60_000, 1),
    "png 8000x8000, one bit": png(8000, 8000, bits=1),
    "png, zTXt of 1 GB": png(8, 8, chunk(b"zTXt", b"a\x00\x00" + zeros(1 << 30))),
    "png, iTXt of 256 MB": png(8, 8, chunk(b"iTXt", b"a\x00\x01\x00\x00\x00" + zeros(1 << 28))),
    "png, 200 texts of 900 kB": png(8, 8, *[chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(900_000), 9))] * 200),
    "apng, 200 frames": _many_frames(),
    "jpeg 65500x65500 declared": jpeg_of(65_500, 65_500),
    "webp 16383x16383 declared": webp_of(16_383, 16_383),
    "gif": encoded("GIF", mode="P"),
    "gif and javascript": b"GIF89a/*" + encoded("GIF", mode="P")[8:] + b"*/=alert(1)",
    "tiff": encoded("TIFF"),
    "svg with a script": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="file:///etc/passwd"/></svg>',
    "svg of entities": b'<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa">' + b'<!ENTITY b "&a;&a;&a;&a;">' * 1000 + b"]><svg>&b;</svg>",
    "pdf": b"%PDF-1.7\n" + PLAIN,
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "zip": b"PK\x03\x04" + PLAIN,
    "html before a png": SCRIPT + PLAIN,
    "truncated png": PLAIN[:-40],
    "png, broken checksum": PLAIN[:40] + b"\xff" + PLAIN[41:],
}
"""Each is answered 400 `invalid_image` or `image_too_large`."""

CLEANED = {
    "png followed by html": PLAIN + SCRIPT,
    "png, html in its text": encoded("PNG", pnginfo=texts()),
    "png, 256 MB for a colour profile": png(8, 8, chunk(b"iCCP", b"a\x00\x00" + zeros(1 << 28)), kind=2),
    "png, 20,000 empty IDATs": PLAIN[:33] + chunk(b"IDAT", b"") * 20_000 + PLAIN[33:],
    "png, 10,000 unknown chunks": PLAIN[:33] + chunk(b"prVt", SCRIPT) * 10_000 + PLAIN[33:],
    "jpeg, html in a comment": encoded("JPEG", comment=SCRIPT),
    "jpeg, exif that points at itself": exif_bomb(),
    "jpeg followed by html": encoded("JPEG") + SCRIPT,
    "jpeg 6000x6000 declared by 32x24": jpeg_of(6000, 6000),
    "webp 5000x5000 declared by 32x24": webp_of(5000, 5000),
    "webp with exif": encoded("WEBP", exif=b"Exif\x00\x00" + SCRIPT),
    "webp followed by html": encoded("WEBP") + SCRIPT,
}
"""Each may be refused. If it is accepted, only the picture is passed on and served."""

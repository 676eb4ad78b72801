"""Ordinary PNGs and JPEGs read without a decoder: the same answer as the decoder's, or none."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, PngImagePlugin

from services.errors import ApiError
from services.imaging import codec, plain_files
from services.imaging.codec import UNLIMITED, ImageInfo
from services.imaging.containers import is_complete
from services.imaging.plain_files import plain_info


def _encoded(format: str, mode: str = "RGB", **options: object) -> bytes:  # noqa: A002 - Pillow's name
    noise = random.Random(3).randbytes(48 * 32 * len(mode.replace("P", "L")))
    buffer = io.BytesIO()
    Image.frombytes(mode, (48, 32), noise).save(buffer, format, **options)
    return buffer.getvalue()


def _text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "an editor")
    return info


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _after_header(data: bytes, chunk: bytes) -> bytes:
    return data[:33] + chunk + data[33:]


PLAIN = {
    "png": lambda: _encoded("PNG"),
    "grey png": lambda: _encoded("PNG", "L"),
    "png with alpha": lambda: _encoded("PNG", "RGBA"),
    "png with a text and a resolution": lambda: _encoded("PNG", pnginfo=_text(), dpi=(72, 72)),
    "jpeg": lambda: _encoded("JPEG"),
    "grey jpeg": lambda: _encoded("JPEG", "L"),
    "progressive jpeg": lambda: _encoded("JPEG", progressive=True, quality=92),
    "jpeg with a comment": lambda: _encoded("JPEG", comment=b"an editor"),
}
UNUSUAL: dict[str, Callable[[], bytes]] = {
    "webp": lambda: _encoded("WEBP"),
    "palette png": lambda: _encoded("PNG", "P"),
    "png with a profile": lambda: _encoded("PNG", icc_profile=b"x" * 200),
    "animated png": lambda: _encoded("PNG", save_all=True, append_images=[Image.new("RGB", (48, 32))]),
    "cmyk jpeg": lambda: _encoded("JPEG", "CMYK"),
    "jpeg with exif": lambda: _encoded("JPEG", exif=b"Exif\x00\x00" + bytes(20)),
    "png with a chunk that nobody knows": lambda: _after_header(_encoded("PNG"), _chunk(b"XyZz", b"?")),
    "png with a long text": lambda: _after_header(_encoded("PNG"), _chunk(b"tEXt", b"a\x00" + b"b" * 100_000)),
    "png with data after its end": lambda: _encoded("PNG") + b"more",
    "truncated png": lambda: _encoded("PNG")[:-13],
    "truncated jpeg": lambda: _encoded("JPEG")[:-2],
    "text": lambda: b"not a picture",
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", PLAIN)
def test_an_ordinary_file_is_read_without_a_decoder(name: str) -> None:
    data = PLAIN[name]()
    assert plain_info(data) == codec.inspect(data, limits=UNLIMITED) == ImageInfo(codec.sniff(data) or "image/webp", 48, 32)


@pytest.mark.parametrize("name", UNUSUAL)
def test_any_other_file_is_left_to_a_decode_process(name: str) -> None:
    assert plain_info(UNUSUAL[name]()) is None


def test_a_large_file_is_left_to_a_decode_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_files, "MAX_JPEG_BYTES", 100)
    assert (plain_info(_encoded("JPEG")), plain_info(_encoded("PNG")) is None) == (None, False)
    monkeypatch.setattr(plain_files, "MAX_BYTES", 100)
    assert plain_info(_encoded("PNG")) is None


def test_a_png_of_many_chunks_is_left_to_a_decode_process() -> None:
    data = _encoded("PNG")
    assert plain_info(_after_header(data, 100 * _chunk(b"tEXt", b"a\x00b"))) is not None
    assert plain_info(_after_header(data, 1000 * _chunk(b"tEXt", b"a\x00b"))) is None


@pytest.mark.parametrize("name", PLAIN)
def test_a_damaged_file_is_never_taken_for_more_than_a_decoder_takes_it_for(name: str) -> None:
    """Bytes are replaced, removed and doubled, with checksums mended, so that headers and lengths are reached too."""
    rng = random.Random(name)
    original = PLAIN[name]()
    for _ in range(1500):
        data = bytearray(original)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(min(len(data), rng.choice([40, 120, len(data)])))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.randint(1, 20)]
            elif kind == 2:
                data[at:at] = data[at : at + rng.randint(1, 20)]
            else:
                del data[-rng.randrange(1, len(data)) :]
                break
        damaged = _mended(bytes(data))
        found = plain_info(damaged)
        if found is not None:
            assert (found, True) == (_inspected(damaged), is_complete(damaged))


def _inspected(data: bytes) -> ImageInfo | str:
    try:
        return codec.inspect(data, limits=UNLIMITED)
    except ApiError as exc:
        return exc.code


def _mended(data: bytes) -> bytes:
    """A PNG's chunks with right checksums, as far as their lengths lead."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    made, at = bytearray(data), 8
    while at + 12 <= len(made):
        end = at + 8 + int.from_bytes(made[at : at + 4], "big")
        if end + 4 > len(made):
            break
        made[end : end + 4] = struct.pack(">I", zlib.crc32(made[at + 4 : end]))
        at = end + 4
    return bytes(made)

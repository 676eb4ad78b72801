"""The structure of a picture is bounded before it is decoded, and its work estimated."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from services.errors import ApiError
from services.imaging.codec import check_image, open_image
from services.imaging.structure import webp_size, work_of
from tests.unit.imaging.pictures import chunk, png, saved, scene


def progressive(size: tuple[int, int], more: int, *, fill: bytes = b"", mode: str = "L") -> bytes:
    """A progressive JPEG with its last scan repeated."""
    data = saved(Image.new(mode, size, 128 if mode == "L" else "teal"), "JPEG", progressive=True, subsampling=0)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + (fill + scan) * more + b"\xff\xd9"


def flooded_png(count: int, kind: bytes = b"IDAT", content: bytes = b"") -> bytes:
    data = saved(scene(), "PNG")
    return data[:33] + chunk(kind, content) * count + data[33:]


def flooded_webp(count: int) -> bytes:
    data = saved(scene(), "WEBP", lossless=True)
    body = data[12:] + b"junk\0\0\0\0" * count
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def segments(count: int) -> bytes:
    data = saved(scene(), "JPEG")
    return data[:2] + b"\xff\xfe\x00\x03x" * count + data[2:]


def filled(fill: bytes) -> bytes:
    data = saved(scene(), "JPEG")
    return data[:2] + fill + data[2:]


FLOODS = {
    "a progressive JPEG of 4,000 scans": (progressive((1000, 1000), 4000), "100 scans"),
    "scans after fill bytes": (progressive((64, 64), 200, fill=b"\xff" * 40), "100 scans"),
    "scans after stray bytes, which libjpeg skips": (progressive((64, 64), 200, fill=b"stray\xff\x00\xff\xd0"), "100 scans"),
    "90 scans of 49 megapixels": (progressive((7000, 7000), 82), "too many for its size"),
    "a PNG of 20,000 empty IDATs": (flooded_png(20_000), "chunks"),
    "a PNG of 20,000 unknown chunks": (flooded_png(20_000, b"prVt", b"x" * 9), "chunks"),
    "a PNG of 101 compressed texts": (flooded_png(101, b"zTXt", b"k\0\0x"), "compressed texts"),
    "a PNG of 101 profiles": (flooded_png(101, b"iCCP", b"k\0\0x"), "compressed texts"),
    "a JPEG with a megabyte of fill bytes": (filled(b"\xff" * 1_000_000), "between its segments"),
    "a JPEG with a megabyte of stray bytes": (filled(b"\xff\xfe\0\3x" + bytes(1_000_000)), "between its segments"),
    "a WebP of 5,000 chunks": (flooded_webp(5000), "chunks"),
    "a JPEG of 9,000 comments": (segments(9000), "segments"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_structure_beyond_any_picture_is_refused_before_pillow_reads_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, reason = FLOODS[name]
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ApiError, match=reason) as refused:
        open_image(data, param="mask")

    assert (refused.value.code, refused.value.param) == ("image_too_large", "mask")
    assert "save it" in refused.value.message


@pytest.mark.parametrize(
    "data",
    [
        progressive((7000, 7000), 0, mode="RGB"),
        progressive((500, 400), 20, mode="RGB"),
        flooded_png(900),
        flooded_png(90, b"zTXt", b"k\0\0x"),
        filled(b"\xff" * 1000),
        segments(900),
        flooded_webp(9),
        png((6, 4), 8, 0, b"\0" * 28),
    ],
    ids=[
        "50 megapixels, progressive",
        "30 scans",
        "900 chunks",
        "90 texts",
        "fill bytes",
        "900 segments",
        "9 chunks",
        "a plain PNG",
    ],
)
def test_the_structure_of_real_files_is_accepted(data: bytes) -> None:
    assert open_image(data).work_s > 0


def test_an_idat_of_8_kib_each_is_how_libpng_writes_and_is_accepted() -> None:
    rows = b"".join(b"\0" + bytes(range(250)) * 8 for _ in range(500))
    whole = png((2000, 500), 8, 0, rows)
    assert check_image(open_image(whole)).width == 2000


@pytest.mark.parametrize(
    ("heavy", "light"),
    [
        (progressive((2000, 2000), 60), progressive((2000, 2000), 0)),
        (saved(Image.new("RGB", (4000, 4000)), "WEBP", lossless=True), saved(Image.new("RGB", (64, 64)), "WEBP")),
        (png((2000, 200), 16, 6, bytes(200 * 16_001)), png((2000, 200), 8, 0, bytes(200 * 2001))),
    ],
    ids=["scans", "pixels of a tiny file", "16 bits"],
)
def test_the_estimate_grows_with_what_the_decoder_does_rather_than_with_the_file(heavy: bytes, light: bytes) -> None:
    assert _estimate(heavy) > 2 * _estimate(light)


@pytest.mark.parametrize("options", [{"lossless": True}, {}, {"exif": b"Exif\0\0II*\0"}], ids=["lossless", "lossy", "extended"])
def test_the_size_of_a_webp_is_read_without_pillow(options: dict[str, object]) -> None:
    assert webp_size(saved(Image.new("RGB", (321, 45)), "WEBP", **options)) == (321, 45)


@pytest.mark.parametrize("cut", range(0, 400, 7))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_any_prefix_of_a_file_has_an_estimate(kind: str, cut: int) -> None:
    """It must not fail in a way of its own where the decoder would refuse the file."""
    assert work_of(saved(scene(), kind)[:cut]).seconds(24) >= 0


def _estimate(data: bytes) -> float:
    return open_image(data).work_s

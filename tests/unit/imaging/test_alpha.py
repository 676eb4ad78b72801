"""Whether a picture has alpha is told from its header, as decoding it would tell."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.imaging.alpha import HEAD_BYTES, has_alpha
from services.imaging.codec import transcode
from tests.unit.imaging.pictures import opened, saved

HALF = Image.new("RGBA", (40, 30), (200, 10, 10, 128))
PICTURES: dict[str, tuple[Image.Image, str, dict[str, Any], bool]] = {
    "rgb png": (Image.new("RGB", (40, 30)), "PNG", {}, False),
    "grey png": (Image.new("L", (40, 30)), "PNG", {}, False),
    "palette png": (Image.new("P", (40, 30)), "PNG", {}, False),
    "rgba png": (HALF, "PNG", {}, True),
    "grey and alpha png": (HALF.convert("LA"), "PNG", {}, True),
    "transparent colour png": (Image.new("RGB", (40, 30)), "PNG", {"transparency": (0, 0, 0)}, True),
    "transparent palette png": (Image.new("P", (40, 30)), "PNG", {"transparency": 0}, True),
    "jpeg": (Image.new("RGB", (40, 30)), "JPEG", {}, False),
    "webp": (Image.new("RGB", (40, 30)), "WEBP", {}, False),
    "lossless webp": (Image.new("RGB", (40, 30)), "WEBP", {"lossless": True}, False),
    "rgba webp": (HALF, "WEBP", {}, True),
    "lossless rgba webp": (HALF, "WEBP", {"lossless": True}, True),
}


@pytest.mark.parametrize("name", PICTURES)
def test_alpha_is_told_from_the_header(name: str) -> None:
    image, kind, options, expected = PICTURES[name]

    assert has_alpha(saved(image, kind, **options)[:HEAD_BYTES]) is expected


STARTS = [b"", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8X", b"RIFF\0\0\0\0WEBPVP8L"]


@given(head=st.binary(max_size=60), start=st.sampled_from(STARTS))
def test_any_start_is_answered(head: bytes, start: bytes) -> None:
    assert has_alpha(start + head) in {True, False}


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_an_opaque_picture_is_laid_on_white_or_left_as_it_is(output_format: Any) -> None:
    """Only where there is something to lay on it."""
    source = saved(HALF, output_format.upper(), **({"lossless": True} if output_format == "webp" else {}))
    flat = opened(transcode(source, output_format, opaque=True))
    plain = saved(Image.new("RGB", (40, 30)), output_format.upper())

    assert flat.mode == "RGB"
    assert all(abs(got - wanted) <= 4 for got, wanted in zip(flat.getpixel((5, 5)), (227, 132, 132), strict=True))  # type: ignore[arg-type]
    assert transcode(plain, output_format, opaque=True) is plain
    assert transcode(source, output_format) is source

"""The hostile pictures are pictures: a decoder that has no bounds accepts them."""

from __future__ import annotations

import io
from typing import Final

import pytest
from PIL import Image

from tests.attacks import files

SMALL: Final = {
    "progressive": files.progressive_jpeg(40, 24, 50),
    "progressive, first scans": files.progressive_jpeg(40, 24, 50, refine=False),
    "progressive, CMYK": files.progressive_jpeg(40, 24, 8, components=4),
    "baseline": files.baseline_jpeg(40, 24),
    "baseline, CMYK": files.baseline_jpeg(40, 24, components=4),
    "comments": files.jpeg_segments(300),
    "tables": files.jpeg_segments(300, 0xDB, b"\x00" + b"\x01" * 64),
    "lossless": files.lossless_webp(40, 24),
    "lossless, alpha": files.lossless_webp(40, 24, alpha=True),
    "webp chunks": files.webp_chunks(300),
    "grey": files.deep_png(40, 24),
    "colour": files.deep_png(40, 24, kind=2),
    "alpha": files.deep_png(40, 24, kind=6),
    "interlaced": files.deep_png(40, 24, kind=2, interlaced=True),
    "png chunks": files.png_chunks(300),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_decoder_accepts_it(name: str) -> None:
    with Image.open(io.BytesIO(SMALL[name])) as image:
        image.load()

        assert image.size in {(40, 24), (16, 16)}


def test_the_files_are_small() -> None:
    assert len(files.lossless_webp()) <= 46
    assert len(files.progressive_jpeg(scans=600)) < 52_000
    assert len(files.progressive_jpeg(1448, 1448, 3800)) < 53_000

"""When an edited picture counts as its source."""

from __future__ import annotations

import pytest
from PIL import Image

from services.imaging.sameness import same_pixels
from tests.unit.imaging.pictures import scene

SIZE = (40, 30)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_copy_is_the_same_in_every_mode(mode: str) -> None:
    picture = scene(size=SIZE).convert(mode)
    assert same_pixels(picture, picture.copy())
    assert same_pixels(picture, picture.convert("RGBA"))


@pytest.mark.parametrize("at", [(0, 0), (39, 29), (20, 15)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_one_level_in_one_pixel_is_a_change(mode: str, at: tuple[int, int]) -> None:
    picture = scene(size=SIZE).convert(mode)
    edited = picture.copy()
    red, *others = edited.getpixel(at)  # type: ignore[misc]
    edited.putpixel(at, (red ^ 1, *others))
    assert not same_pixels(picture, edited)


def test_another_size_is_a_change() -> None:
    picture = scene(size=SIZE)
    assert not same_pixels(picture, picture.resize((41, 30)))


def test_transparency_counts_and_colour_under_it_does_not() -> None:
    clear = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    assert same_pixels(clear, Image.new("RGBA", SIZE, (0, 0, 255, 0)))
    assert not same_pixels(clear, Image.new("RGBA", SIZE, (255, 0, 0, 255)))
    assert not same_pixels(clear, Image.new("RGB", SIZE, (255, 0, 0)))


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 9)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    assert same_pixels(Image.new("RGB", size), Image.new("RGB", size))
    assert not same_pixels(Image.new("RGB", size), Image.new("RGB", size, (0, 0, 1)))

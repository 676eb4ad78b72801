"""Pictures in another shape: what is kept, what is padded, and that nothing is stretched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.imaging.shapes import Fit, Size, frame, framed, is_framed, nearly, scaled

SIZES = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
FITS = st.sampled_from(["cover", "contain"])


def ramp(width: int, height: int) -> Image.Image:
    """A picture in which each pixel says where it was: red is its column, green its row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 7)], axis=-1).astype(np.uint8))


@given(SIZES, SIZES, FITS)
def test_a_frame_has_the_shape_as_nearly_as_pixels_allow(size: Size, shape: Size, fit: Fit) -> None:
    left, top, right, bottom = frame(size, shape, fit)
    width, height = right - left, bottom - top
    # One side is the picture's; the other is the shape's within a pixel.
    assert (width == size[0] and abs(height - max(1, width * shape[1] / shape[0])) <= 0.5) or (
        height == size[1] and abs(width - max(1, height * shape[0] / shape[1])) <= 0.5
    )


@given(SIZES, SIZES)
def test_cover_is_within_the_picture_and_contain_around_it_both_in_the_middle(size: Size, shape: Size) -> None:
    signs: dict[Fit, int] = {"cover": 1, "contain": -1}
    for fit, sign in signs.items():
        left, top, right, bottom = frame(size, shape, fit)
        assert sign * left >= 0 and sign * top >= 0
        assert sign * (size[0] - right) >= 0 and sign * (size[1] - bottom) >= 0
        assert abs(left - (size[0] - right)) <= 1 and abs(top - (size[1] - bottom)) <= 1


@given(SIZES, st.integers(1, 20), FITS)
def test_a_picture_of_the_shape_stays_as_it_is(size: Size, factor: int, fit: Fit) -> None:
    assert is_framed(size, (size[0] * factor, size[1] * factor), fit)


@given(SIZES, SIZES, FITS)
def test_a_framed_picture_is_framed(size: Size, shape: Size, fit: Fit) -> None:
    """Framed again, it changes by no more than the pixel to which it was rounded."""
    left, top, right, bottom = frame(size, shape, fit)
    once = (right - left, bottom - top)
    again = frame(once, shape, fit)
    tolerance = 1 + max(once) / min(once)
    assert abs(again[2] - again[0] - once[0]) <= tolerance and abs(again[3] - again[1] - once[1]) <= tolerance


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_every_pixel_that_is_kept_keeps_its_neighbours(size: Size, shape: Size) -> None:
    """No pixel is scaled: what is within the frame is the picture, what is not is padding."""
    picture = ramp(*size)
    fits: list[Fit] = ["cover", "contain"]
    for fit in fits:
        left, top, _, _ = frame(size, shape, fit)
        made = np.asarray(framed(picture, shape, fit))
        rows, columns, _ = np.nonzero(made[..., 2:] == 7)
        assert np.array_equal(made[rows, columns, 0], columns + left)
        assert np.array_equal(made[rows, columns, 1], rows + top)
        assert (len(rows) == size[0] * size[1]) == (fit == "contain" or is_framed(size, shape, "cover"))


@pytest.mark.parametrize(
    ("mode", "is_mask", "padding"),
    [("RGB", False, (255, 255, 255)), ("RGBA", False, (255, 255, 255, 0)), ("RGBA", True, (0, 0, 0, 255)), ("L", True, 0)],
)
def test_padding_is_white_or_transparent_and_closed_in_a_mask(mode: str, is_mask: bool, padding: object) -> None:  # noqa: FBT001
    made = framed(Image.new(mode, (10, 10), 9), (20, 10), "contain", is_mask=is_mask)
    assert made.size == (20, 10)
    assert made.getpixel((0, 0)) == padding
    assert made.getpixel((10, 5)) != padding


def test_a_circle_stays_round_at_another_size() -> None:
    """Unless the shape is the same but for an editor's rounding, whose inverse it is then."""
    picture = Image.new("L", (300, 200), 0)
    x, y = np.meshgrid(np.arange(300), np.arange(200))
    picture = Image.fromarray(np.where((x - 150) ** 2 + (y - 100) ** 2 < 60**2, 255, 0).astype(np.uint8))
    disc = np.asarray(scaled(picture, (512, 512))) > 127
    height, width = np.ptp(np.nonzero(disc)[0]), np.ptp(np.nonzero(disc)[1])
    assert abs(int(width) - int(height)) <= 2
    assert nearly((300, 200), (304, 200)) and not nearly((300, 200), (200, 200))

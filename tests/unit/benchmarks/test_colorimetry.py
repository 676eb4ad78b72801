"""The benchmark's colour mathematics against published values and an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from benchmarks import darkroom
from benchmarks.colorimetry import (
    difference,
    difference_2000,
    from_lab,
    from_pixels,
    illuminant_matrix,
    lab,
    linear,
    luminance,
    planckian_white,
    to_pixels,
)
from benchmarks.photos import photo


def test_lab_agrees_with_another_implementation_and_comes_back() -> None:
    picture = from_pixels(photo("cat-eyes").pixels)
    assert np.allclose(lab(picture), rgb2lab(picture), atol=0.05)
    assert np.array_equal(to_pixels(from_lab(lab(picture))), photo("cat-eyes").pixels)


def test_difference_of_known_greys() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert difference(black, white) == pytest.approx(100, abs=0.01)
    assert difference_2000(black, white) == pytest.approx(100, abs=0.01)
    assert difference(white, white) == 0


@pytest.mark.parametrize(("kelvin", "x", "y"), [(2000, 0.5267, 0.4133), (2856, 0.4476, 0.4074), (6500, 0.3135, 0.3237)])
def test_planckian_white_is_on_the_locus(kelvin: float, x: float, y: float) -> None:
    white = planckian_white(kelvin)
    assert white[0] / white.sum() == pytest.approx(x, abs=0.002)
    assert white[1] / white.sum() == pytest.approx(y, abs=0.002)


def test_relighting_keeps_the_luminance_of_grey_and_warms_below_the_balance() -> None:
    grey = np.full((2, 2, 3), 0.4)
    assert np.allclose(illuminant_matrix(5500, 5500), np.eye(3), atol=1e-6)
    warm, cold = (darkroom.relight(grey, kelvin) for kelvin in (3500, 9000))
    assert luminance(linear(warm)) == pytest.approx(luminance(linear(grey)), abs=0.01)
    assert lab(warm)[0, 0, 2] > 10 > -8 > lab(cold)[0, 0, 2]


def test_curve_goes_through_its_points_and_never_turns_back() -> None:
    points = ((0.0, 5.0), (20.0, 10.0), (50.0, 52.0), (100.0, 98.0))
    x, y = np.array(points).T
    assert np.allclose(darkroom.curve(points, x), y)
    assert (np.diff(darkroom.curve(points, np.linspace(-10, 110, 500))) >= 0).all()


def test_grain_depends_on_its_seed_only() -> None:
    grey = np.full((32, 32, 3), 0.5)
    assert np.array_equal(darkroom.grain(grey, 1.5, seed=3), darkroom.grain(grey, 1.5, seed=3))
    assert not np.array_equal(darkroom.grain(grey, 1.5, seed=3), darkroom.grain(grey, 1.5, seed=4))


def test_bokeh_leaves_the_subject_sharp() -> None:
    source = photo("motorcycle")
    picture = from_pixels(source.pixels)
    blurred = darkroom.bokeh(picture, source.subject, 0.04)
    inside, outside = source.subject > 0.999, source.subject < 0.001
    gap = np.abs(blurred - picture).mean(axis=-1)
    assert gap[inside].max() < 0.01
    assert gap[outside].mean() > 0.02

"""Measurements on pictures with known properties."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.color import rgb2lab

from services.embedded.thinker.measurements import Comparison, reduce_picture
from tests.unit.embedded.thinker.sample_editor import edit, photograph


def test_cielab_agrees_with_an_independent_implementation() -> None:
    picture = photograph(height=64, width=64)
    assert np.abs(reduce_picture(picture).frame - rgb2lab(picture)).max() < 0.2


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1, 3), (1, 900, 3), (900, 1, 4)])
def test_any_picture_can_be_measured(shape: tuple[int, ...]) -> None:
    picture = reduce_picture(np.full(shape, 90, dtype=np.uint8))
    assert np.isfinite(picture.tone.vector).all()
    assert picture.frame.shape[0] <= 512 and picture.frame.shape[1] <= 512


def test_transparent_pixels_are_composed_over_white() -> None:
    clear = np.zeros((8, 8, 4), dtype=np.uint8)
    assert reduce_picture(clear).thumb[..., 0].min() > 99


@pytest.mark.parametrize("array", [np.zeros((0, 3, 3), np.uint8), np.zeros((3, 3, 5), np.uint8), np.zeros((3, 3, 3), np.float32)])
def test_arrays_that_are_not_pictures_are_rejected(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not a picture"):
        reduce_picture(array)


def test_noise_is_measured_in_its_own_unit() -> None:
    rng = np.random.default_rng(0)
    plain = np.full((200, 200, 3), 128, dtype=np.uint8)
    noisy = np.clip(plain + rng.normal(0, 8, (200, 200, 1)), 0, 255).astype(np.uint8)
    # 8 of 255 code values are about 3.2 L* around middle grey.
    assert reduce_picture(noisy).texture.grain == pytest.approx(3.2, rel=0.15)
    assert reduce_picture(plain).texture.grain < 0.01


def test_warmth_contrast_and_corners_change_their_figures() -> None:
    source = photograph()
    before = reduce_picture(source).tone
    warm = reduce_picture(edit(source, "increase the warmth by 30%")).tone
    flat = reduce_picture(edit(source, "decrease the contrast by 40%")).tone
    dark = reduce_picture(edit(source, "add a vignette of 50%")).tone
    assert warm.mean[2] > before.mean[2] + 3
    assert flat.contrast < 0.8 * before.contrast
    assert dark.corner < before.corner - 5


def test_structure_ignores_tone_but_not_content() -> None:
    source = reduce_picture(photograph())
    graded = Comparison(source, reduce_picture(edit(photograph(), "decrease the exposure by 40%")))
    mirrored = Comparison(source, reduce_picture(np.ascontiguousarray(photograph()[:, ::-1])))
    other = Comparison(source, reduce_picture(photograph(seed=5)))
    assert graded.structure > 0.9
    assert abs(mirrored.structure) < 0.3
    assert not mirrored.in_place
    assert other.structure < 0.8


def test_a_local_change_is_detected_and_a_colour_grade_is_not() -> None:
    picture = photograph()
    graded = Comparison(reduce_picture(picture), reduce_picture(edit(picture, "increase the warmth by 30%")))
    painted = picture.copy()
    cv2.circle(painted, (40, 30), 10, (20, 200, 40), -1)
    changed = Comparison(reduce_picture(picture), reduce_picture(painted))
    assert graded.local_change.mean() < 2.5
    assert np.percentile(changed.local_change, 99) > 25

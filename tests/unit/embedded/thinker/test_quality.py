"""A ruined picture does not satisfy, no matter what was asked for: on a photograph that the editor has edited well."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from skimage import color

from services.editor.pipelines import EditJob
from services.embedded.editor import ClassicalPipeline
from services.embedded.thinker import judge
from tests.unit.embedded.editor.photographs import photo
from tests.unit.embedded.thinker.sample_editor import Image

INSTRUCTION = "make it warmer"


@cache
def pictures() -> tuple[Image, Image]:
    """A portrait, and the same edited as asked."""
    image = photo("astronaut", 320)
    return np.asarray(image), np.asarray(ClassicalPipeline().edit(EditJob(image, INSTRUCTION, 1)).image)


def green_face(picture: Image) -> Image:
    lab = color.rgb2lab(picture)
    hue, chroma = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])), np.hypot(lab[..., 1], lab[..., 2])
    lab[..., 1] -= 35 * ((hue > 30) & (hue < 80) & (chroma > 10) & (chroma < 40) & (lab[..., 0] > 40))
    return np.asarray(np.clip(255 * color.lab2rgb(lab) + 0.5, 0, 255), dtype=np.uint8)


def halos(picture: Image) -> Image:
    plain = picture.astype(np.float32)
    return np.clip(plain + 2.0 * (plain - cv2.GaussianBlur(plain, (0, 0), 6)), 0, 255).astype(np.uint8)


def posterised(picture: Image) -> Image:
    return (picture // 32 * 32 + 16).astype(np.uint8)


def soft(picture: Image) -> Image:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 3), dtype=np.uint8)


def test_a_good_edit_is_undamaged() -> None:
    source, edited = pictures()
    assert min(judge(source, edited, INSTRUCTION, "x").semantic, judge(source, edited, INSTRUCTION, "x").quality) >= 9


@pytest.mark.parametrize(
    ("harm", "named"),
    [(green_face, "skin tones"), (halos, "changed|halos"), (posterised, "band|posterised"), (soft, "sharpness")],
)
def test_a_ruined_edit_is_told(harm: Callable[[Image], Image], named: str) -> None:
    source, edited = pictures()
    critique = judge(source, harm(edited), INSTRUCTION, "x")
    assert critique.quality < 7
    assert any(word in critique.reasoning.split("Damage:")[-1] for word in named.split("|"))

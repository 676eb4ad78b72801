"""The embedded thinker judges the part that a mask opens, and says what it did not look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from services.embedded.thinker.app import _critique
from services.embedded.thinker.area import Box, opened
from services.embedded.thinker.judging import judge
from services.imaging import masks
from services.protocol.critique.messages import CritiqueRequest, Picture, Strayed
from tests.unit.embedded.thinker.sample_editor import edit, photograph

SOURCE = photograph(height=192, width=256)
ANY = Picture(b"", "image/png")


def area_of(box: tuple[int, int, int, int], scale: float = 1.0) -> np.ndarray:
    image = Image.fromarray(SOURCE)
    mask = Image.new("RGBA", image.size, (0, 0, 0, 255))
    ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(0, 0, 0, 0))
    shown = masks.overlay(image, mask)
    return np.asarray(shown.resize((round(256 * scale), round(192 * scale)), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37])
@pytest.mark.parametrize("box", [(0, 0, 128, 96), (64, 32, 200, 160), (40, 100, 256, 192)])
def test_the_opened_part_is_found_in_its_picture(box: tuple[int, int, int, int], scale: float) -> None:
    """Within a few pixels, also in a picture that was scaled down."""
    found = opened(SOURCE, area_of(box, scale))
    wanted = Box(box[0] / 256, box[1] / 192, box[2] / 256, box[3] / 192)
    for name in ("left", "top", "right", "bottom"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=0.035), name


def test_where_nothing_is_found_the_whole_picture_is_judged() -> None:
    white = np.full((48, 64, 3), 255, dtype=np.uint8)
    assert opened(white, white) == Box()
    assert Box().of(SOURCE).shape == SOURCE.shape
    assert Box(0.999, 0.999, 1.0, 1.0).of(SOURCE[:2, :2]).shape == (1, 1, 3)


def test_an_edit_of_the_opened_part_is_judged_by_that_part() -> None:
    """In the whole picture most of the warmth is missing."""
    instruction = "increase the warmth by 40%"
    candidate = SOURCE.copy()
    candidate[:96, :80] = edit(SOURCE, instruction)[:96, :80]
    box = opened(SOURCE, area_of((0, 0, 80, 96)))
    part = judge(box.of(SOURCE), box.of(candidate), instruction, instruction)
    whole = judge(SOURCE, candidate, instruction, instruction)
    assert part.semantic > whole.semantic


def test_what_was_not_looked_at_is_said_and_what_strayed_counts() -> None:
    request = CritiqueRequest(ANY, ANY, "increase the warmth by 20%", "increase the warmth by 20%", references=(ANY,), area=ANY)
    candidate = edit(SOURCE, "increase the warmth by 20%")
    kept = _critique(request, SOURCE, candidate, by_questions=False)
    strayed = _critique(replace(request, strayed=Strayed(0.5, 20)), SOURCE, candidate, by_questions=False)
    clean = _critique(replace(request, strayed=Strayed(0, 1)), SOURCE, candidate, by_questions=False)

    assert kept.reasoning.endswith("The references were not looked at.") and clean == kept
    assert strayed.semantic == round(kept.semantic / 2, 1)
    assert "Of what must stay, 50.0% changed." in strayed.reasoning
    plain = _critique(replace(request, references=(), area=None), SOURCE, candidate, by_questions=False)
    assert plain == judge(SOURCE, candidate, request.instruction, request.turn_instruction)

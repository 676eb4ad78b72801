"""What is wrong or ruined on a real photograph is never called satisfied, and what is right still is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from PIL import Image
from skimage import color, data

from services.embedded.thinker import judge
from services.protocol.critique.messages import Critique
from tests.unit.embedded.editor.photographs import edit, photo

Mask = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
SATISFIED = 8


def judged(source: Image.Image, candidate: Image.Image, instruction: str) -> Critique:
    return judge(np.asarray(source), np.asarray(candidate), instruction, instruction)


def tried(name: str, instruction: str, used: str = "") -> Critique:
    """The critique of what the editor makes of an instruction (or of other words)."""
    source = photo(name, 480)
    return judged(source, edit(used or instruction, source, seed=1).convert(source.mode), instruction)


def satisfied(critique: Critique) -> bool:
    return min(critique.semantic, critique.quality) >= SATISFIED


@cache
def part_of_the_sky() -> Mask:
    """The left half of the rocket's sky, with a soft edge (h, w)."""
    width, height = photo("rocket", 480).size
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    soft = np.clip((0.5 - across) / 0.15 + 0.5, 0, 1) * np.clip((0.5 - down) / 0.1 + 0.5, 0, 1)
    return np.asarray(soft, dtype=np.float64)


def painted(picture: Image.Image, mask: Mask, change: tuple[float, float, float]) -> Image.Image:
    """The picture with CIELAB added where the mask is."""
    lab = color.rgb2lab(np.asarray(picture)) + mask[..., None] * np.array(change)
    return Image.fromarray(np.asarray(np.clip(255 * color.lab2rgb(lab) + 0.5, 0, 255), dtype=np.uint8))


@pytest.mark.parametrize(
    "instruction", ["make it darker", "darken the blues", "darken the top by 30%", "brighten the left by 20%"]
)
@pytest.mark.parametrize("change", [(-14, 0, 0), (0, 18, -18)])
def test_a_smear_in_a_smooth_sky_is_seen(instruction: str, change: tuple[float, float, float]) -> None:
    source = photo("rocket", 480)
    edited = edit(instruction, source, seed=1)
    assert judged(source, edited, instruction).quality >= SATISFIED
    smeared = judged(source, painted(edited, part_of_the_sky(), change), instruction)
    assert smeared.quality <= 5
    assert "where the source has none" in smeared.reasoning


@pytest.mark.parametrize(
    "instruction",
    [
        "brighten the left by 20%", "darken the top by 40%", "darken the blues", "darken the corners by 60%",
        "increase the clarity by 50%", "sharpen the image by 50%", "reduce the noise by 50%", "lift the shadows by 60%",
        "reduce the highlights by 60%", "add a white border of 5%", 'add the text "SALE" at the bottom in white',
        "remove the haze", "rotate by 90 degrees", "crop to a square", "flip horizontally", "increase the contrast by 50%",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["rocket", "astronaut"])
def test_what_was_asked_for_is_no_smear(name: str, instruction: str) -> None:
    assert "where the source has none" not in tried(name, instruction).reasoning


def test_a_colour_cast_on_a_black_and_white_photograph_is_a_fault() -> None:
    source = photo("camera", 480).convert("RGB")
    glowing = edit("add a soft glow of 30%", source, seed=1)
    pink = painted(glowing, np.ones(glowing.size[::-1]), (5, 9, 2))
    assert judged(source, glowing, "soft dreamy glow").quality >= SATISFIED
    assert judged(source, pink, "soft dreamy glow").quality < SATISFIED
    assert judged(source, pink, "increase the exposure by 20%").quality < SATISFIED


@pytest.mark.parametrize(("instruction", "colour"), [("dreamy", False), ("foggy morning", False), ("sepia antique", True)])
def test_a_look_brings_colour_to_a_black_and_white_photograph_only_by_name(instruction: str, *, colour: bool) -> None:
    source = photo("camera", 480).convert("RGB")
    refined = judged(source, source, instruction).refined_instruction or ""
    lab = color.rgb2lab(np.asarray(edit(refined, source, seed=1)))
    assert (float(np.hypot(lab[..., 1], lab[..., 2]).mean()) > 3) == colour


def test_a_hue_that_clipping_turns_is_a_fault() -> None:
    source = photo("coffee", 480)
    clipped = Image.fromarray(np.clip(np.asarray(source, dtype=float) * [1.0, 1.35, 0.4], 0, 255).astype(np.uint8))
    assert "hues of vivid colours" in judged(source, clipped, "increase the saturation by 100%").reasoning
    assert satisfied(tried("coffee", "increase the saturation by 100%"))


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_a_burnt_picture_does_not_satisfy_even_where_it_was_asked_for(name: str) -> None:
    assert tried(name, "increase the exposure by 100%").quality <= 6


@pytest.mark.parametrize("instruction", ["increase the saturation by 100%", "increase the warmth by 100%", "make it 100% darker"])
def test_a_full_amount_that_burns_nothing_satisfies(instruction: str) -> None:
    assert satisfied(tried("rocket", instruction))


@pytest.mark.parametrize("kept", ["keep the skin tones natural", "keep the skin natural", "preserve the skin"])
def test_a_protection_that_was_not_judged_caps_and_names_itself(kept: str) -> None:
    critique = tried("astronaut", f"warmer, {kept}", "warmer")
    assert critique.semantic <= 6
    assert "skin" in critique.reasoning


def test_a_soft_focus_is_soft() -> None:
    assert not satisfied(tried("astronaut", "add a soft focus effect", "add a soft glow of 30%"))
    refined = tried("astronaut", "add a soft focus effect").refined_instruction or ""
    assert satisfied(tried("astronaut", "add a soft focus effect", refined))


@pytest.mark.parametrize("words", ["far too dark", "it is way too dark"])
def test_what_is_far_too_dark_becomes_normal(words: str) -> None:
    first = tried("rocket", words)
    assert not satisfied(first)
    assert satisfied(tried("rocket", words, first.refined_instruction or ""))


@pytest.mark.parametrize("words", ["I can hardly see anything", "it is underexposed"])
def test_what_can_hardly_be_seen_becomes_clearly_lighter(words: str) -> None:
    source = edit("make it 60% darker", photo("rocket", 480), seed=1)
    first = judged(source, edit(words, source, seed=1), words)
    assert not satisfied(first)
    assert satisfied(judged(source, edit(first.refined_instruction or "", source, seed=1), words))


@pytest.mark.parametrize("name", ["astronaut", "camera"])
def test_high_contrast_is_that_of_the_final_picture(name: str) -> None:
    assert not satisfied(tried(name, "darker, grainy, high contrast"))
    assert satisfied(tried(name, "increase the contrast by 30%"))


@pytest.mark.parametrize(
    "instruction", ["rotate by 90 degrees", "rotate counterclockwise by 2.5 degrees", "rotate by 20 degrees"]
)
def test_a_rotation_is_measured_with_its_direction_and_size(instruction: str) -> None:
    assert satisfied(tried("astronaut", instruction))
    for other in ("rotate by 270 degrees", "rotate clockwise by 2.5 degrees", "rotate counterclockwise by 1 degree"):
        assert tried("astronaut", instruction, other).semantic < 5


def test_quality_falls_with_the_strength_of_an_edit() -> None:
    for slider in ("exposure", "contrast", "saturation", "clarity"):
        scores = [tried("coffee", f"increase the {slider} by {amount}%").quality for amount in (15, 50, 100)]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] >= SATISFIED and scores[0] > scores[2]


@pytest.mark.parametrize("amount", [30, 60, 100])
def test_a_silhouette_whose_rims_alone_change_is_not_brighter(amount: int) -> None:
    """Black stays black and white stays white under an exposure: all that is seen to change is the soft rim."""
    drawn = Image.fromarray((255 * data.horse()).astype(np.uint8)).convert("RGB")  # type: ignore[no-untyped-call]
    source = drawn.resize((480, 394), Image.Resampling.LANCZOS)
    candidate = edit(f"increase the exposure by {amount}%", source, seed=1)
    assert not satisfied(judged(source, candidate, "make it brighter"))

"""The editor's response is monotonic in amounts, deterministic for a seed, and defined for unusual pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.editor.pipelines import EditJob, load
from services.embedded.editor import ClassicalPipeline
from services.embedded.editor.classical_pipeline import strength_for
from services.embedded.instructions.operations import Kind, Operation
from services.errors import ApiError
from services.imaging.shapes import scaled
from tests.unit.embedded.editor.photographs import chroma, detail, edit, lab, lightness, photo

Measure = Callable[[Image.Image], float]


def _mean_lightness(image: Image.Image) -> float:
    return float(lightness(image).mean())


def _mean_chroma(image: Image.Image) -> float:
    return float(chroma(image).mean())


def _channel(channel: int) -> Measure:
    return lambda image: float(lab(image)[..., channel].mean())


def _spread(image: Image.Image) -> float:
    return float(lightness(image).std())


SLIDERS: list[tuple[str, Measure]] = [
    ("exposure", _mean_lightness),
    ("midtones", _mean_lightness),
    ("shadows", _mean_lightness),
    ("highlights", _mean_lightness),
    ("whites", _mean_lightness),
    ("blacks", _mean_lightness),
    ("contrast", _spread),
    ("saturation", _mean_chroma),
    ("vibrance", _mean_chroma),
    ("warmth", _channel(2)),
    ("clarity", detail),
]
ADDED: list[tuple[str, Measure, int]] = [
    ("add film grain of {}%", detail, 1),
    ("blur the image by {}%", detail, -1),
    ("sharpen the image by {}%", detail, 1),
    ("add haze of {}%", _spread, -1),
    ("add a vignette of {}%", _mean_lightness, -1),
    ("add a soft glow of {}%", _mean_lightness, 1),
    ("make it black and white by {}%", _mean_chroma, -1),
    ("add a blue tint of {}%", _channel(2), -1),
    ("tint the highlights teal by {}%", _channel(1), -1),
    ("shift the tint towards magenta by {}%", _channel(1), 1),
    ("reduce the noise by {}%", detail, -1),
]
_CAT = photo("chelsea", 160)


@pytest.mark.parametrize(("name", "measure"), SLIDERS, ids=[name for name, _ in SLIDERS])
def test_sliders_respond_monotonically_and_without_jumps(name: str, measure: Measure) -> None:
    amounts = [-100, -70, -40, -20, -10, -3, 0, 3, 10, 20, 40, 70, 100]
    values = [measure(edit(f"{name} {amount:+d}%", _CAT)) for amount in amounts]
    steps = np.diff(values)
    assert (steps > 0).all()
    slopes = steps / np.diff(amounts)
    # About linear: no stretch of the slider is dead, and none does nearly everything.
    assert slopes.max() < 12 * slopes.min()


@pytest.mark.parametrize(("prompt", "measure", "sign"), ADDED, ids=[prompt for prompt, _, _ in ADDED])
def test_effects_grow_with_their_amount(prompt: str, measure: Measure, sign: int) -> None:
    values = [measure(_CAT)] + [measure(edit(prompt.format(amount), _CAT)) for amount in (5, 15, 30, 60, 100)]
    assert (sign * np.diff(values) > 0).all()


@settings(deadline=None, max_examples=12)
@given(st.sampled_from([name for name, _ in SLIDERS]), st.integers(-95, 94), st.integers(0, 3))
def test_one_percent_more_never_answers_with_less(name: str, amount: int, seed: int) -> None:
    measure = dict(SLIDERS)[name]
    less, more = (measure(edit(f"{name} {value:+d}%", _CAT, seed)) for value in (amount, amount + 5))
    assert more > less


@pytest.mark.parametrize("prompt", ["increase the contrast by 20%, film grain 20%", "blur the left by 30%"])
def test_the_seed_decides_everything(prompt: str) -> None:
    first, again, other = edit(prompt, _CAT, 11), edit(prompt, _CAT, 11), edit(prompt, _CAT, 12)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_no_global_randomness_is_used_or_changed() -> None:
    np.random.seed(5)  # noqa: NPY002 - the global generator is what is watched here
    state = str(np.random.get_state())  # noqa: NPY002
    edit("film grain 30%, darken the left by 20%", _CAT)
    assert state == str(np.random.get_state())  # noqa: NPY002


def test_seeds_spread_strength_by_about_a_fifth() -> None:
    strengths = [strength_for(seed, Operation(Kind.CONTRAST, 0.5)) / 0.5 for seed in range(400)]
    assert 0.75 < min(strengths) < 0.8 and 1.25 < max(strengths) < 1.35
    assert 0.12 < np.std(np.log(strengths)) < 0.22
    assert abs(np.median(strengths) - 1) < 0.05
    assert all(strength_for(seed, Operation(Kind.MONOCHROME, 1.0)) == 1 for seed in range(50))
    assert all(strength_for(seed, Operation(Kind.BORDER, 0.05)) == 0.05 for seed in range(50))


def test_a_seed_varies_each_operation_for_itself() -> None:
    one, other = Operation(Kind.CONTRAST, 0.5), Operation(Kind.WARMTH, 0.5)
    assert len({strength_for(seed, one) / strength_for(seed, other) for seed in range(10)}) == 10


def test_what_is_not_understood_is_refused_before_anything_is_changed() -> None:
    with pytest.raises(ApiError, match="was not understood") as refused:
        edit("sing me a song")
    assert refused.value.status == 422 and not refused.value.row.retryable


def test_a_look_changes_no_byte_and_is_reported() -> None:
    result = ClassicalPipeline().edit(EditJob(photo(), "golden hour"))
    assert result.image.tobytes() == photo().tobytes()
    assert result.applied == () and "golden hour" in result.not_understood[0]


def test_untouched_regions_keep_every_byte() -> None:
    before, after = np.asarray(photo()), np.asarray(edit("darken the top by 60%"))
    assert np.array_equal(before[-40:], after[-40:])


_NON_GEOMETRIC = [
    "increase the exposure by 30%",
    "add a vignette of 30%, film grain 10%",
    "reduce the highlights by 40%, lift the shadows by 40%",
    "blur the top by 50%",
    "hue shift 40 degrees, invert the colours",
    'add the text "Hi" at the top, add a red border of 10%',
    "clarity +50%, sharpen 50%, dehaze by 50%, soft glow 30%",
    "denoise by 50%, tint the shadows teal, add an orange tint, sepia",
]


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (2, 3), (7, 7), (13, 400), (64, 64)])
@pytest.mark.parametrize("prompt", _NON_GEOMETRIC)
def test_size_and_mode_stay_for_any_shape(prompt: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    result = edit(prompt, Image.fromarray(noise))
    assert result.size == size and result.mode == "RGB"


@pytest.mark.parametrize(
    "prompt", ["crop to 16:9", "crop by 90%", "rotate by 33 degrees", "rotate by 90 degrees", "crop to a square"]
)
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
def test_geometry_never_leaves_nothing(prompt: str, size: tuple[int, int]) -> None:
    assert min(edit(prompt, Image.new("RGB", size, "red")).size) >= 1


@pytest.mark.parametrize("colour", ["black", "white", "#808080", "#ff0000", "#0000ff"])
def test_flat_pictures_stay_flat_where_they_should(colour: str) -> None:
    flat = Image.new("RGB", (40, 30), colour)
    pixels = np.asarray(edit("contrast +50%, shadows +50%, highlights -50%, clarity +50%, saturation +50%", flat), int)
    assert (pixels.max(axis=(0, 1)) - pixels.min(axis=(0, 1))).max() <= 1


@pytest.mark.parametrize("sign", ["+", "-"])
def test_greys_stay_grey_under_tone(sign: str) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    out = np.asarray(
        edit(f"exposure {sign}40%, contrast {sign}40%, midtones {sign}30%, blacks {sign}30%", Image.fromarray(ramp)), int
    )
    assert (out.max(axis=2) - out.min(axis=2)).max() <= 2
    # Smooth curves: a ramp stays a ramp, without steps beyond what the curve's own slope asks for.
    steps = np.diff(out.mean(axis=(0, 2)))
    assert steps.min() > -0.3
    assert np.abs(np.diff(steps)).max() < 2.5


def test_transparency_is_kept() -> None:
    alpha = np.tile(np.linspace(0, 255, 240).astype(np.uint8), (160, 1))
    source = photo().copy()
    source.putalpha(Image.fromarray(alpha))
    result = edit("increase the warmth by 30%", source)
    assert result.mode == "RGBA"
    assert np.array_equal(np.asarray(result.getchannel("A")), alpha)
    turned = edit("flip horizontally, warmth +20%", source)
    assert np.array_equal(np.asarray(turned.getchannel("A")), alpha[:, ::-1])


def test_a_mask_confines_the_edit_to_its_transparent_part() -> None:
    alpha = np.full((160, 240), 255, dtype=np.uint8)
    alpha[40:80, 60:120] = 0
    mask = Image.new("RGBA", (240, 160), "black")
    mask.putalpha(Image.fromarray(alpha))
    for prompt in ("exposure +50%, blur by 30%, grain 30%", 'add the text "WIDE WORDS" in white, add a red border of 20%'):
        changed = np.abs(np.asarray(edit(prompt, mask=mask), int) - np.asarray(photo(), int)).sum(axis=2)
        assert changed[alpha == 255].max() == 0
    assert np.abs(np.asarray(edit("exposure +50%", mask=mask), int) - np.asarray(photo(), int))[40:80, 60:120].mean() > 5


def test_a_protected_region_keeps_its_bytes() -> None:
    """The left edge stays to the bit; the picture right of it is brightened."""
    source = photo("astronaut")
    change = np.abs(np.asarray(edit("exposure +40%, keep the left unchanged", source), int) - np.asarray(source, int))
    assert change[:, :40].max() == 0
    assert change[:, -60:].mean() > 3


def test_a_size_of_another_shape_is_reached_by_cropping() -> None:
    """A look changes nothing else; a border is drawn within what is left."""
    assert edit("moody", size=(64, 64)).tobytes() == scaled(photo(), (64, 64)).tobytes()
    assert edit("moody", size=(64, 64)).tobytes() != photo().resize((64, 64), Image.Resampling.LANCZOS).tobytes()
    border = edit("add a white border", size=(64, 64))
    assert {border.getpixel(at) for at in ((0, 32), (63, 32), (32, 0), (32, 63))} == {(255, 255, 255)}


def test_a_size_is_honoured() -> None:
    assert edit("increase the warmth by 20%", size=(64, 48)).size == (64, 48)


def test_parameters_it_cannot_honour_are_refused() -> None:
    with pytest.raises(ValueError, match="parameters"):
        ClassicalPipeline().edit(EditJob(photo(), "warmer", parameters={"guidance_scale": 2.0}))
    with pytest.raises(ValueError, match="unknown pipeline"):
        load("flux")
    with pytest.raises(ValueError, match="needs --model"):
        load("kontext")
    with pytest.raises(ValueError, match="has no model"):
        load("classical", "somewhere")


def test_order_of_the_words_does_not_matter() -> None:
    parts = ["warmth +20%", "contrast +20%", "vignette 20%"]
    pictures = {edit(", ".join(order), _CAT).tobytes() for order in itertools.permutations(parts)}
    assert len(pictures) == 1

"""Parsing instructions: amounts, lists, regions, negations, and reports of what was not understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.embedded.editor import parse
from services.embedded.editor.plan import SPECS, Kind
from services.embedded.editor.vocabulary import VOCABULARY
from tests.doubles.cost import grows_linearly

READ_AS = {
    "increase the contrast": ["contrast +30%"],
    "slightly increase the contrast": ["contrast +12%"],
    "make it a bit darker": ["exposure -15%"],
    "please make the image much brighter.": ["exposure +55%"],
    "warmth +18%, contrast -10%, grain 12%": ["contrast -10%", "warmth +18%", "grain +12%"],
    "increase the contrast by 0.2": ["contrast +20%"],
    "increase the contrast by 20": ["contrast +20%"],
    "increase the contrast by 20 percent": ["contrast +20%"],
    "increase the contrast by 12.5%": ["contrast +12.5%"],
    "increase the warmth by 20 to 25%": ["warmth +22.5%"],
    "set the saturation to 30%": ["saturation +30%"],
    "increase the exposure by half a stop": ["exposure +25%"],
    "exposure +0.7 EV": ["exposure +35%"],
    "20% more contrast; 10% less saturation": ["contrast +20%", "saturation -10%"],
    "reduce contrast and saturation by 20%": ["contrast -20%", "saturation -20%"],
    "increase the contrast, saturation and warmth by 10%": ["contrast +10%", "warmth +10%", "saturation +10%"],
    "brighten the shadows, contrast +5%": ["shadows +30%", "contrast +5%"],
    "warmer and brighter by 5%": ["exposure +5%", "warmth +5%"],
    "add a vignette, 20%": ["vignette +20%"],
    "tint the shadows teal and the highlights orange by 15%": [
        "split_tone teal +15% (shadows)",
        "split_tone orange +15% (highlights)",
    ],
    "brighten the shadows by 20%": ["shadows +20%"],
    "warm the highlights by 10%": ["warmth +10% (highlights)"],
    "make the whites slightly warmer": ["warmth +12% (highlights)"],
    "darken the corners by 20%": ["vignette +20%"],
    "darken the top and the bottom by 20%": ["exposure -20% (top and bottom)"],
    "boost the blues by 20%": ["saturation +20% (blue hues)"],
    "blur everything except the cat": ["blur +30% (all but subject)"],
    "black and white but keep the red in colour": ["selective_colour +100% (red hues)"],
    "make everything black and white, except the red car": ["selective_colour +100% (red hues)"],
    "change the color of the woman's dress to light blue": ["recolour lightblue +100% (subject)"],
    "replace the red with blue": ["recolour blue +100% (red hues)"],
    "on a white background": ["replace_background white +100%"],
    "remove the noise": ["denoise +30%"],
    "make it sharper, less grain": ["denoise +30%", "sharpen +30%"],
    "increase the warmth by 20% without adding grain": ["warmth +20%"],
    "do not add any grain or vignette, warmer by 20%": ["warmth +20%"],
    "increase the exposure keeping the sky unchanged": ["exposure +30%"],
    "posterize to 4 levels": ["posterize 4"],
    "pixelate with 12 pixel blocks": ["pixelate 12"],
    "turn it upside down": ["rotate 180°"],
    'write "Hello, World" in red at the top left': ['text "Hello, World" red'],
    "add text saying Summer Sale at the bottom in yellow": ['text "Summer Sale" yellow'],
    "add a thin black frame": ["border black +2%"],
    "contrast +20%, contrast +15%": ["contrast +35%"],
    "make it warmer: increase the warmth by 20%": ["warmth +20%"],
}

NOT_READ = [
    "make it feel like sunset",
    "make it look like an overcast morning",
    "faded 1970s print",
    "crop out the person",
    "remove the car",
    "add a hat to the cat",
    "replace the background with a beach",
    "hello world",
    "contrast",
    "macht das Bild wärmer",
]


@pytest.mark.parametrize("prompt", READ_AS)
def test_instruction_is_read(prompt: str) -> None:
    plan = parse(prompt)
    assert [operation.describe() for operation in plan.operations] == READ_AS[prompt]
    assert not plan.not_understood


@pytest.mark.parametrize("prompt", NOT_READ)
def test_what_is_not_understood_is_reported_and_not_done(prompt: str) -> None:
    plan = parse(prompt)
    assert plan.operations == ()
    assert plan.not_understood


@pytest.mark.parametrize("prompt", ["make it feel like golden hour", "a moody, cinematic picture", "make it bright", "vintage"])
def test_mood_words_nudge_and_no_more(prompt: str) -> None:
    operations = parse(prompt).operations
    assert operations
    assert all(operation.nudge and 0.05 <= abs(operation.amount) <= 0.1 for operation in operations)


def test_an_explicit_amount_outweighs_a_mood() -> None:
    assert [
        operation.describe() for operation in parse("warm, moody; warmth +40%").operations if operation.kind is Kind.WARMTH
    ] == ["warmth +40%"]


def test_a_forbidden_operation_is_not_nudged_either() -> None:
    assert all(operation.kind is not Kind.GRAIN for operation in parse("filmic, but no grain").operations)


@pytest.mark.parametrize("prompt", ["don't change the sky", "keep the sky unchanged", "leave the sky as it is"])
def test_a_region_that_must_not_change_is_protected(prompt: str) -> None:
    plan = parse("increase the warmth by 20%; " + prompt)
    assert [str(region) for region in plan.protected] == ["sky"]
    assert len(plan.operations) == 1


def test_parts_of_a_clause_that_were_not_used_are_reported() -> None:
    assert parse("increase the contrast by 20% in a painterly way").not_understood == ("painterly way",)


_WORDS = st.sampled_from(
    [*sorted({" ".join(phrase) for phrase in VOCABULARY}), "red", "#f80", "20%", "-5", "zebra", ",", ".", '"x"', "16:9"]
)


@given(st.text(max_size=400))
def test_parse_is_total_on_any_text(prompt: str) -> None:
    parse(prompt)


@given(st.lists(_WORDS, max_size=25))
def test_parse_is_total_on_its_own_vocabulary(words: list[str]) -> None:
    for operation in parse(" ".join(words)).operations:
        assert -1 <= operation.amount <= 1 or operation.kind is Kind.HUE
        assert SPECS[operation.kind].signed or operation.amount >= 0
        operation.describe()


@given(st.sampled_from(sorted(READ_AS)))
def test_case_and_spacing_do_not_matter(prompt: str) -> None:
    if '"' in prompt or "saying" in prompt:
        return
    assert parse(prompt.upper().replace(" ", "  ")).operations == parse(prompt).operations


@pytest.mark.parametrize(
    "piece",
    [
        "increase the contrast by 20% and ",
        "make the red cup blue with ",
        "the ",
        "cat ",
        "not ",
        "gradient red and ",
        "with contrast ",
    ],
)
def test_the_longest_prompt_is_read_in_linear_time(piece: str) -> None:
    assert grows_linearly(lambda size: parse((piece * size)[:size]), 32_000)


@pytest.mark.parametrize("piece", ['"', "'", "“", "1-", "a'", "1.1:", "-", "(", "%", "\n", "\u0130"])
def test_repeated_marks_do_not_backtrack(piece: str) -> None:
    assert grows_linearly(lambda size: parse((piece * size)[:size]), 32_000)


@pytest.mark.parametrize(
    ("words", "amount"),
    [
        ("slightly", 0.12),
        ("a touch of", 0.12),
        ("a bit of", 0.15),
        ("", 0.3),
        ("much", 0.55),
        ("a lot of", 0.55),
        ("completely", 1.0),
    ],
)
def test_amounts_in_words(words: str, amount: float) -> None:
    assert [operation.amount for operation in parse(f"add {words} film grain").operations] == [amount]


@pytest.mark.parametrize(
    ("prompt", "kind", "sign"),
    [
        ("decrease the warmth by 22%, shift the tint towards magenta by 69%", Kind.TINT, 1),
        ("decrease the contrast by 5% and shift the tint towards green by 8%", Kind.TINT, -1),
        ("reduce the saturation by 10%, tint the shadows teal by 20%", Kind.SPLIT_TONE, 1),
    ],
)
def test_a_clause_with_a_verb_of_its_own_inherits_none(prompt: str, kind: Kind, sign: int) -> None:
    """ "decrease" before the comma does not apply to a shift or tint after it."""
    (found,) = [operation for operation in parse(prompt).operations if operation.kind is kind]

    assert found.amount * sign > 0

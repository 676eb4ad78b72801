"""The loop of instructions with an editor that responds differently from the slider model."""

from __future__ import annotations

import pytest

from services.embedded.instructions import parse
from services.embedded.thinker import judge
from services.embedded.thinker.looks import LOOKS, joined
from tests.unit.embedded.thinker.sample_editor import Image, edit, photograph


def run(
    instruction: str, turns: int = 4, gains: dict[str, float] | None = None, unresponsive: tuple[str, ...] = ()
) -> list[tuple[float, str]]:
    """(semantic, refined instruction) of every turn."""
    source: Image = photograph()
    used, out = instruction, []
    for _ in range(turns):
        verdict = judge(source, edit(source, used, gains, unresponsive), instruction, used)
        used = verdict.refined_instruction or instruction
        out.append((verdict.semantic, used))
    return out


@pytest.mark.parametrize(
    "instruction",
    [
        "blue hour", "a faded 1970s print", "black-and-white film noir", "high-key", "moody", "foggy morning", "dreamy",
        "bright sunny day", "antique sepia", "a cold winter day", "pastel",
    ],
)  # fmt: skip
def test_most_instructions_are_met_within_four_turns(instruction: str) -> None:
    scores = [semantic for semantic, _ in run(instruction)]
    assert scores[0] < 3 or instruction == "antique sepia"
    assert max(scores) >= 7, "this editor answers otherwise than its manual says"


@pytest.mark.parametrize("instruction", ["make it look like golden hour", "underwater", "candlelight"])
def test_the_other_instructions_come_close(instruction: str) -> None:
    scores = [semantic for semantic, _ in run(instruction)]
    assert max(scores) >= scores[0] + 3


@pytest.mark.parametrize("gain", [0.5, 1.6])
def test_an_editor_that_responds_too_weakly_or_strongly_is_corrected(gain: float) -> None:
    scores = [semantic for semantic, _ in run("moody", gains={"exposure": gain, "midtones": gain, "saturation": gain})]
    assert max(scores[2:]) > scores[1]


def test_a_phrase_without_effect_is_replaced() -> None:
    turns = run("make it look like golden hour", unresponsive=("increase the warmth",))
    assert "increase the warmth by" in turns[0][1]
    assert "warmer by" in turns[1][1] or "temperature" in turns[1][1]
    assert turns[-1][0] > turns[1][0]


def test_explicit_requests_of_the_caller_stay_word_for_word() -> None:
    instruction = 'add the text "SALE!" at the bottom in white, and make it moody'
    for _, refined in run(instruction, turns=2):
        assert 'add the text "SALE!" at the bottom in white' in refined
        assert "moody" not in refined


def test_the_refined_instruction_is_complete_and_explicit() -> None:
    refined = run("a faded 1970s print", turns=1)[0][1]
    reading = parse(refined)
    assert not reading.unjudged and not reading.refusals and not reading.looks
    assert {"blacks", "warmth", "saturation", "grain"} <= {op.kind for op in reading.operations}
    assert all(op.explicit and 0 < abs(op.amount) <= 1 for op in reading.operations)


def test_nothing_left_to_do_leaves_the_instruction_alone() -> None:
    source = photograph()
    used = "increase the exposure by 20%"
    assert judge(source, edit(source, used), "make it brighter", used).refined_instruction == used


def test_forbidden_effects_stay_out() -> None:
    for _, refined in run("a vintage look without grain or vignette", turns=3):
        names = {op.kind for op in parse(refined).operations}
        assert "grain" not in names
        assert "no grain" in refined


def test_a_named_operation_stays_in_every_refinement() -> None:
    for _, refined in run("a faded 1970s print with heavy film grain", turns=3):
        assert "grain" in {op.kind for op in parse(refined).operations}


def test_candlelight_at_night_is_no_darker_than_night() -> None:
    both = joined([(LOOKS["candlelight"], 1.0), (LOOKS["night"], 1.0)])
    assert both.light == LOOKS["night"].light
    assert both.vignette == LOOKS["candlelight"].vignette
    assert joined([(LOOKS["candlelight"], 1.0), (LOOKS["high-key"], 1.0)]).light == 4

"""The closed loop in words, against an editor that answers otherwise than expected."""

from __future__ import annotations

import pytest

from services.embedded.thinker import judge
from services.embedded.thinker.instruction_parser import read_instruction
from tests.unit.embedded.thinker.sample_editor import Image, edit, photograph


def run(wish: str, turns: int = 4, gains: dict[str, float] | None = None, deaf: tuple[str, ...] = ()) -> list[tuple[float, str]]:
    """(semantic, refined instruction) of every turn."""
    source: Image = photograph()
    used, out = wish, []
    for _ in range(turns):
        verdict = judge(source, edit(source, used, gains, deaf), wish, used)
        used = verdict.refined_instruction or wish
        out.append((verdict.semantic, used))
    return out


@pytest.mark.parametrize(
    "wish",
    [
        "blue hour", "a faded 1970s print", "black-and-white film noir", "high-key", "moody", "foggy morning", "dreamy",
        "bright sunny day", "antique sepia", "a cold winter day", "pastel",
    ],
)  # fmt: skip
def test_most_wishes_come_true_within_four_turns(wish: str) -> None:
    scores = [semantic for semantic, _ in run(wish)]
    assert scores[0] < 3 or wish == "antique sepia"
    assert max(scores) >= 8


@pytest.mark.parametrize("wish", ["make it look like golden hour", "underwater", "candlelight"])
def test_the_others_come_much_nearer(wish: str) -> None:
    scores = [semantic for semantic, _ in run(wish)]
    assert max(scores) >= scores[0] + 3


@pytest.mark.parametrize("gain", [0.5, 1.6])
def test_an_editor_that_answers_too_weakly_or_strongly_is_corrected(gain: float) -> None:
    scores = [semantic for semantic, _ in run("moody", gains={"exposure": gain, "midtones": gain, "saturation": gain})]
    assert max(scores[2:]) > scores[1]


def test_a_phrase_without_effect_is_said_otherwise() -> None:
    turns = run("make it look like golden hour", deaf=("increase the warmth",))
    assert "increase the warmth by" in turns[0][1]
    assert "warmer by" in turns[1][1] or "temperature" in turns[1][1]
    assert turns[-1][0] > turns[1][0]


def test_explicit_requests_of_the_caller_stay_word_for_word() -> None:
    wish = 'add the text "SALE!" at the bottom in white, and make it moody'
    for _, refined in run(wish, turns=2):
        assert refined.startswith('add the text "SALE!" at the bottom in white')
        assert "moody" not in refined


def test_the_refined_instruction_is_complete_and_explicit() -> None:
    refined = run("a faded 1970s print", turns=1)[0][1]
    reading = read_instruction(refined)
    assert not reading.unknown and not reading.looks
    assert {"blacks", "warmth", "saturation", "grain"} <= {op.name for op in reading.ops}
    assert all(op.amount is not None and 0 < op.amount <= 100 for op in reading.ops)


def test_nothing_left_to_do_leaves_the_instruction_alone() -> None:
    source = photograph()
    used = "increase the exposure by 20%"
    assert judge(source, edit(source, used), "make it brighter", used).refined_instruction == used


def test_what_was_ruled_out_stays_out() -> None:
    for _, refined in run("a vintage look without grain or vignette", turns=3):
        names = {op.name for op in read_instruction(refined).ops}
        assert "grain" not in names
        assert "no grain" in refined

"""Judges side by side: agreement, position bias, self-consistency, and people."""

from __future__ import annotations

import pytest

from evaluation.comparing import measures, work
from evaluation.scoring.judge import JudgeError


def test_agreement_of_two_judges() -> None:
    first = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 9.0, "only": 5.0}
    second = {"a": 2.0, "b": 4.0, "c": 3.0, "d": 8.0}
    found = measures.agreement(first, second, dict.fromkeys(first, "item") | {"d": "other"})
    assert (found.pictures, found.pairs) == (4, 3)
    assert [found.spearman, found.kendall] == pytest.approx([0.8, 2 / 3])
    assert [found.same_order, found.difference] == pytest.approx([2 / 3, 1.0])
    assert measures.agreement({}, second, {}).spearman is None


def test_bins_of_a_calibration_hold_equal_scores_together() -> None:
    bins = measures.calibration([1.0] * 10 + [2.0, 3.0], [0.0] * 10 + [4.0, 6.0])
    assert bins == [(1.0, 0.0, 10), (2.5, 5.0, 2)]


def test_a_judge_that_always_names_the_first_turns_with_the_order() -> None:
    assert measures.positions([("A", "A")] * 4) == measures.Positions(4, 1.0, 1.0)
    assert measures.positions([("A", "B"), ("B", "A"), ("tie", "tie"), (None, "A")]) == measures.Positions(3, 0.0, 0.6)
    assert measures.positions([]) == measures.Positions(0, None, None)


@pytest.mark.parametrize(
    ("shown", "turned", "won"), [("A", "B", "A"), ("B", "A", "B"), ("A", "A", "tie"), ("tie", "tie", "tie"), (None, "A", None)]
)
def test_who_won_in_both_orders(shown: str | None, turned: str | None, won: str | None) -> None:
    assert measures.winner(shown, turned) == won


def test_the_spread_of_a_judges_own_scores() -> None:
    assert measures.spread([[1.0, 3.0], [2.0, 2.0], [5.0]]) == 0.5
    assert measures.spread([[1.0]]) is None


def test_a_judge_against_people() -> None:
    found = measures.people([("a", "a"), ("b", "a"), ("a", "tie"), ("tie", "a"), ("a", None)])
    assert (found.votes, found.agreed) == (3, 0.5) and found.ties == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a", "write NAME:url=URL,model=MODEL"),
        ("a:url=http://x/v1", "write NAME:url=URL,model=MODEL"),
        ("server:url=http://x/v1,model=m", "NAME is not 'server'"),
        ("a:url=http://x/v1,model=m,temperature=1", "write NAME:url=URL,model=MODEL"),
        ("a:url=http://x/v1,model=m,key_env=NONE", "the environment variable 'NONE' is not set"),
        ("a:url=http://x/v1,model=m,key=sk-secret", "others can read a key that is on the command line"),
        ("a:url=x/v1,model=m", "'x/v1' is not the URL of a judge"),
        ("a:url=http://:99999999/v1,model=m", "is not the URL of a judge"),
        ("a:url=http://x/v1,model=m,key_env=BROKEN", "the API key is invalid"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused_without_its_key(words: str, said: str) -> None:
    with pytest.raises((work.CompareError, JudgeError), match=said) as caught:
        work.parse_judges([words], {"BROKEN": "sk-\u00e9"})
    assert "sk-" not in str(caught.value)


def test_two_judges_of_one_name_are_refused() -> None:
    with pytest.raises(work.CompareError, match="two judges have this name"):
        work.parse_judges(["a:url=http://x/v1,model=m", "a:url=http://x/v1,model=n"], {})

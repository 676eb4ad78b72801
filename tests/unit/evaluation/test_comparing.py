"""Judges side by side: agreement, position bias, self-consistency, and people."""

from __future__ import annotations

import pytest

from evaluation.comparing import measures


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

"""The simulation of the loop's decisions."""

from __future__ import annotations

import pytest

from benchmarks import policies
from benchmarks.policies import Judge, sessions, summarize


def test_a_judge_without_noise_is_never_satisfied_falsely() -> None:
    outcomes = [outcome for kind in policies.KINDS for outcome in sessions("think", Judge(0.0), kind, 40, 1)]
    row = summarize("today", "think", Judge(0.0), "both", outcomes)

    assert row.false_satisfied[0] == 0
    assert any(outcome.satisfied for outcome in outcomes) and not all(outcome.satisfied for outcome in outcomes)


def test_noise_makes_sessions_falsely_satisfied() -> None:
    outcomes = list(sessions("think", Judge(2.0), "easy", 60, 1))

    assert any(outcome.satisfied and not outcome.rightly for outcome in outcomes)


def test_the_same_seed_makes_the_same_wishes() -> None:
    assert list(sessions("think", Judge(1.0), "hard", 5, 3)) == list(sessions("think", Judge(1.0), "hard", 5, 3))


def test_the_intervals_are_those_of_a_mean_and_a_ratio() -> None:
    middle, width = policies.mean([1.0, 2.0, 3.0, 4.0])
    assert (middle, width) == pytest.approx((2.5, 1.96 * (5 / 3 / 4) ** 0.5))
    assert policies.ratio([2.0, 4.0], [1.0, 2.0]) == (2.0, 0.0)

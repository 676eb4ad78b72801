"""The simulation of the loop's decisions."""

from __future__ import annotations

import pytest

from benchmarks import policies
from benchmarks.policies import Judge, sessions, summarize


def test_a_judge_without_noise_is_never_satisfied_falsely() -> None:
    outcomes = [outcome for kind in policies.KINDS for outcome in sessions("single scores", "think", Judge(0.0), kind, 40, 1)]
    row = summarize("single scores", "think", Judge(0.0), "both", outcomes)

    assert row.false_satisfied[0] == 0
    assert any(outcome.satisfied for outcome in outcomes) and not all(outcome.satisfied for outcome in outcomes)


def test_noise_makes_sessions_falsely_satisfied() -> None:
    outcomes = list(sessions("single scores", "think", Judge(2.0), "easy", 60, 1))

    assert any(outcome.satisfied and not outcome.rightly for outcome in outcomes)


def test_asking_again_makes_satisfied_truer() -> None:
    judge, kinds = Judge(1.0), policies.KINDS
    single = [each for kind in kinds for each in sessions("single scores", "think", judge, kind, 60, 1)]
    again = [each for kind in kinds for each in sessions("repeated", "think", judge, kind, 60, 1)]

    rows = [summarize("repeated", "think", judge, "both", outcomes) for outcomes in (single, again)]
    assert rows[1].false_satisfied[0] < rows[0].false_satisfied[0] / 2
    assert rows[1].best[0] > rows[0].best[0]


def test_a_judge_without_noise_is_soon_asked_once() -> None:
    outcomes = list(sessions("repeated", "think", Judge(0.0), "easy", 60, 1))
    single = list(sessions("single scores", "think", Judge(0.0), "easy", 60, 1))
    late = [(now.true, now.edits) == (before.true, before.edits) for now, before in zip(outcomes, single, strict=True)][10:]

    assert all(late)
    # Further: the untouched source, where the session ended unsatisfied.
    assert all(outcome.critiques == outcome.edits + (not outcome.satisfied) for outcome in outcomes[10:])


def test_a_render_is_as_good_as_its_draft_where_they_agree() -> None:
    """Then drafts find the same answers for less: here the judge has no noise."""
    judge, kinds = Judge(), policies.KINDS
    agreeing = [each for kind in kinds for each in sessions("single scores", "think", judge, kind, 40, 1, agreement=1.0)]
    strangers = [each for kind in kinds for each in sessions("single scores", "think", judge, kind, 40, 1, agreement=0.0)]

    assert all(outcome.rightly for outcome in agreeing if outcome.satisfied)
    assert all(outcome.cost < outcome.edits for outcome in agreeing)
    # One render of each draft that satisfies, where they agree; more where the luck of a draft says nothing of its render's.
    assert policies.mean([each.cost for each in agreeing])[0] < policies.mean([each.cost for each in strangers])[0]


def test_the_same_seed_makes_the_same_cases() -> None:
    assert list(sessions("single scores", "think", Judge(1.0), "hard", 5, 3)) == list(
        sessions("single scores", "think", Judge(1.0), "hard", 5, 3)
    )


def test_the_intervals_are_those_of_a_mean_and_a_ratio() -> None:
    middle, width = policies.mean([1.0, 2.0, 3.0, 4.0])
    assert (middle, width) == pytest.approx((2.5, 1.96 * (5 / 3 / 4) ** 0.5))
    assert policies.ratio([2.0, 4.0], [1.0, 2.0]) == (2.0, 0.0)

"""How long sessions take, learned from their ends."""

from __future__ import annotations

import random

import pytest

from orchestrator.execution.session_durations import SessionDurations
from orchestrator.loop.events import Finished, FinishReason, Totals


def end(reason: FinishReason, edits: int = 3) -> Finished:
    return Finished(at=1, reason=reason, best=None, totals=Totals(edits=edits))


def test_most_sessions_are_done_within_it() -> None:
    """The time itself if all take the same; otherwise about the 90th percentile."""
    chance = random.Random(1)
    durations = SessionDurations()
    for _ in range(400):
        durations.ended("alike", end("satisfied"), 12.0)
        durations.ended("differ", end("max_turns"), chance.uniform(5, 20))
    most = durations.most()

    assert most["alike"] == pytest.approx(12.0)
    assert 15 < most["differ"] < 21
    assert SessionDurations().most() == {}


def test_sessions_that_ran_out_of_time_are_not_left_out() -> None:
    """Otherwise only short ones would count, and estimates would become ever shorter."""
    chance = random.Random(2)
    durations = SessionDurations()
    for _ in range(400):
        takes = chance.uniform(5, 20)
        durations.ended("e", end("satisfied" if takes < 10 else "deadline"), min(takes, 10.0))
    assert durations.most()["e"] > 9.5


@pytest.mark.parametrize(("reason", "edits"), [("cancelled", 3), ("accepted", 3), ("failed", 0), ("deadline", 0)])
def test_other_sessions_do_not_count(reason: FinishReason, edits: int) -> None:
    """Those that a person ended, that failed, or that were late before they began."""
    durations = SessionDurations()
    for _ in range(20):
        durations.ended("e", end("satisfied"), 12.0)
    durations.ended("e", end(reason, edits), 500.0)
    assert durations.most()["e"] == pytest.approx(12.0)

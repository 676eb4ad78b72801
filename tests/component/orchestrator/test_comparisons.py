"""A judge that sees two pictures side by side is asked; one that does not scores the untouched source."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.execution.performer import Performer
from orchestrator.loop import events as ev
from orchestrator.loop.actions import CompareJob
from orchestrator.loop.session import Session, fold
from orchestrator.ports.collaborators import (
    ChecklistOrder,
    ChecklistReply,
    CompareOrder,
    CompareReply,
    CritiqueOrder,
    CritiqueReply,
    EditorUsage,
    Usage,
)
from orchestrator.ports.errors import ThinkerError
from tests.component.orchestrator.desk import stored
from tests.component.orchestrator.test_editor_seconds import PICTURE, Store
from tests.unit.imaging.pictures import saved, scene

SOURCE = stored(PICTURE).ref
EDITED = stored(saved(scene(), "PNG")).ref
FIRST, SECOND = (ev.CandidateRef(turn=1, candidate=number) for number in (1, 2))


@dataclass
class Judge:
    """Scores everything 5, and keeps what it was asked to critique."""

    critiques: list[CritiqueOrder] = field(default_factory=list)

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        self.critiques.append(order)
        return CritiqueReply(5.0, 5.0, "so so", None, usage=Usage(7, 1, 0))

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        raise AssertionError

    async def ready(self) -> bool:
        return True


@dataclass
class PairJudge(Judge):
    """Prefers the second picture, or fails."""

    pairs: list[CompareOrder] = field(default_factory=list)
    failure: ThinkerError | None = None

    async def compare(self, order: CompareOrder) -> CompareReply:
        self.pairs.append(order)
        if self.failure:
            raise self.failure
        return CompareReply("second", "the sky is bluer", Usage(20, 2, 0))


def session(score: float = 5.0, *, compares: bool) -> Session:
    """Two critiqued candidates of one turn."""
    now = time.time()
    choosing = ev.Choosing(noise=1.0, weight=10, confirmations=1, compares=compares)
    limits = ev.Limits(candidates=2, deadline_at=now + 20)
    created = ev.SessionCreated(
        at=now, version=3, source=SOURCE, instruction="x", editor="e", thinker="t", limits=limits, choosing=choosing
    )
    events: list[ev.Event] = [
        created,
        ev.TurnStarted(at=now, turn=1, instruction="x", author="caller", candidates=2, first_seed=0),
    ]
    for number in (1, 2):
        place: dict[str, Any] = {"at": now, "turn": 1, "candidate": number}
        events.append(ev.Edited(**place, image=EDITED, editor_seconds=1))
        events.append(ev.Critiqued(**place, semantic=score, quality=score, reasoning="", instruction=None))
    return fold(events)


async def compared(judge: Judge, state: Session, second: ev.CandidateRef | None) -> ev.Event:
    class Now:
        def now(self) -> float:
            return time.time()

    performer = Performer({}, {"t": judge}, Store(), Now())
    return await performer.perform("s", state, CompareJob(FIRST, second, 1), EditorUsage())


async def test_a_judge_that_compares_sees_both_candidates() -> None:
    judge = PairJudge()
    event = await compared(judge, session(compares=True), SECOND)

    assert isinstance(event, ev.Compared)
    assert (event.winner, event.by, event.reasoning, event.prompt_tokens) == ("second", "pair", "the sky is bluer", 20)
    (order,) = judge.pairs
    assert (order.first.ref, order.second.ref, order.source.ref) == (EDITED, EDITED, SOURCE)
    assert not judge.critiques


async def test_the_source_is_the_second_picture_where_it_is_a_candidate() -> None:
    judge = PairJudge()
    event = await compared(judge, session(compares=True), None)

    assert isinstance(event, ev.Compared) and event.second is None
    assert judge.pairs[0].second.ref == SOURCE


@pytest.mark.parametrize(("score", "winner"), [(6.0, "first"), (5.0, "tie"), (4.0, "second")])
async def test_a_judge_that_only_scores_is_shown_the_source_as_if_it_were_an_edit(score: float, winner: str) -> None:
    judge = Judge()
    event = await compared(judge, session(score, compares=False), None)

    assert isinstance(event, ev.Compared)
    assert (event.winner, event.by, event.prompt_tokens) == (winner, "scores", 7)
    assert judge.critiques[0].candidate.ref == SOURCE


async def test_a_comparison_that_fails_is_an_event() -> None:
    judge = PairJudge(failure=ThinkerError("thinker_bad_reply", "no winner", retryable=True))
    event = await compared(judge, session(compares=True), SECOND)

    assert isinstance(event, ev.CompareFailed)
    assert (event.first, event.second, event.attempt, event.code, event.retryable) == (
        FIRST,
        SECOND,
        1,
        "thinker_bad_reply",
        True,
    )

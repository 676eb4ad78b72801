"""A replica as a state machine that is stepped explicitly: `orchestrator.execution` without its tasks.

What it decides is decided by the real policy; an edit or a critique is a stroke of luck. A replica that is not stepped is
paused; what it computed before and sends after is a zombie's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.loop import events as ev
from orchestrator.loop.actions import AskReview, CritiqueJob, EditJob, Finish, Rest, StartTurn, Wait, Work
from orchestrator.loop.policy import decide
from orchestrator.loop.session import CorruptLogError, Session, apply, fold
from orchestrator.ports.stores import Claim, Taken
from tests.model.messages import Append, Message, Park
from tests.model.world import World

LOST = "lost"
"""Used in place of an answer that did not arrive in time."""


@dataclass
class Drive:
    """One session that a replica drives; `orchestrator.execution.driver.Driver` without its tasks."""

    claim: Claim
    known: list[ev.Event] = field(default_factory=list)
    session: Session | None = None
    drafts: list[tuple[ev.Event, bool]] = field(default_factory=list)
    """Events to record, and whether each is an outcome, which is kept on a conflict."""
    pending: Message | None = None
    stale: bool = True
    leaving: bool = False
    gone: bool = False

    def think(self, world: World, now: float, *, luck: bool) -> None:
        """Compute the next command, which is then pending, or end."""
        if self.leaving:
            self.pending = Park(self.claim, 0, None)
            return
        if self.stale:
            self._resync(world)
        while not self.gone and self.pending is None:
            self._step(now, luck=luck)

    def answered(self, reply: Any) -> None:
        """Process the answer to the pending command."""
        message, self.pending = self.pending, None
        if self.leaving or reply == "fenced" or (isinstance(message, Park) and reply is not False):
            self.gone = True
        elif reply is True:
            self.known += [event for event, _ in self.drafts]
            self.drafts.clear()
        else:
            self.stale = True

    def _resync(self, world: World) -> None:
        self.known = world.read(self.claim.session_id)
        self.stale, self.gone = False, not self.known
        if self.gone:
            return
        lost = [event for event, is_outcome in self.drafts if is_outcome and event not in self.known]
        self.session, self.drafts = fold(self.known), []
        for event in lost:
            with contextlib.suppress(CorruptLogError):
                self._draft(event, is_outcome=True)

    def _draft(self, event: ev.Event, *, is_outcome: bool = False) -> None:
        assert self.session is not None
        self.session = apply(self.session, event)
        self.drafts.append((event, is_outcome))

    def _step(self, now: float, *, luck: bool) -> None:
        assert self.session is not None
        action = decide(self.session, now)
        if self.drafts and (isinstance(action, Rest | Wait) or (isinstance(action, Work) and not _to_start(action))):
            self.pending = Append(self.claim, tuple(self.known), tuple(event for event, _ in self.drafts))
            return
        match action:
            case Rest():
                self.gone = True
            case Wait():
                self.pending = Park(self.claim, len(self.known), self.session.created.limits.deadline_at)
            case Work():
                for job in _to_start(action):
                    self._draft(_intent(self.claim.session_id, job, now))
                if not self.drafts:
                    self._draft(_outcome(action.jobs[0], now, luck=luck), is_outcome=True)
            case _:
                self._draft(_decision(action, self.session, now))


@dataclass
class Replica:
    """`orchestrator.execution.runner.Runner` without its tasks. Its clock is off by `skew` milliseconds."""

    name: str
    skew: int
    awake: bool = True
    drives: dict[str, Drive] = field(default_factory=dict)
    leavers: list[Drive] = field(default_factory=list)
    """Drivers that were cancelled and have not released their sessions in Redis yet."""
    strays: set[str] = field(default_factory=set)
    missed: set[Claim] = field(default_factory=set)
    chores: list[str] = field(default_factory=list)
    mail: list[tuple[Taken, list[Drive]]] = field(default_factory=list)
    """Answers to claims in flight, each with the sessions that were driven at its sending."""

    def begin(self, taken: Taken, before: Iterable[Drive]) -> list[Message]:
        """Process the answer to a claim; return what cancelled drivers had sent, since it may still arrive."""
        sent = self.lost(before) if taken.joined else []
        for claim in taken.claims:
            mine = self.drives.get(claim.session_id)
            sent += self.cancel([mine]) if mine else []
            self.drives[claim.session_id] = Drive(claim)
        self.chores += [chore for chore in taken.chores if chore not in self.chores]
        return sent

    def lost(self, drives: Iterable[Drive]) -> list[Message]:
        """Its lease was found expired."""
        return self.cancel([drive for drive in drives if self.drives.get(drive.claim.session_id) is drive])

    def cancel(self, drives: Iterable[Drive]) -> list[Message]:
        """Stop drivers, each of which still tries to queue its session again."""
        sent = [drive.pending for drive in drives if drive.pending]
        for drive in drives:
            drive.pending, drive.leaving = None, True
            del self.drives[drive.claim.session_id]
            self.leavers.append(drive)
        return sent

    def audit(self, owned: set[str]) -> tuple[list[Message], list[str]]:
        """Compare owned and driven sessions; return what cancelled drivers had sent, and what to release."""
        missed = {drive.claim for name, drive in self.drives.items() if name not in owned}
        gone = missed & self.missed
        self.missed = missed - gone
        sent = self.cancel([drive for drive in self.drives.values() if drive.claim in gone])
        strays = owned - self.drives.keys()
        again = strays & self.strays
        self.strays = strays - again
        return sent, sorted(again)

    def forget_gone(self) -> None:
        """Remove ended drivers."""
        self.drives = {name: drive for name, drive in self.drives.items() if not drive.gone}
        self.leavers = [drive for drive in self.leavers if not drive.gone]


def _to_start(work: Work) -> list[EditJob]:
    return [job for job in work.jobs if isinstance(job, EditJob) and not job.started]


def _intent(session_id: str, job: EditJob, now: float) -> ev.Event:
    return ev.EditStarted(
        at=now, turn=job.turn, candidate=job.candidate, attempt=job.attempt, key=f"{session_id}/{job.key}", seed=job.seed
    )


def _outcome(job: object, now: float, *, luck: bool) -> ev.Event:
    if isinstance(job, EditJob):
        if luck:
            return ev.Edited(at=now, turn=job.turn, candidate=job.candidate, image=IMAGE, editor_seconds=1.0)
        return ev.EditFailed(
            at=now, turn=job.turn, candidate=job.candidate, attempt=job.attempt, code="x", message="x", retryable=True
        )
    assert isinstance(job, CritiqueJob)
    score = 9.0 if luck else 5.0
    return ev.Critiqued(
        at=now, turn=job.turn, candidate=job.candidate, semantic=score, quality=score, reasoning="", instruction=job.instruction
    )


def _decision(action: object, session: Session, now: float) -> ev.Event:
    match action:
        case StartTurn(turn, instruction, author, candidates, first_seed):
            return ev.TurnStarted(
                at=now, turn=turn, instruction=instruction, author=author, candidates=candidates, first_seed=first_seed
            )
        case AskReview(turn, best, reason):
            return ev.ReviewRequested(at=now, turn=turn, best=best, reason=reason)
    assert isinstance(action, Finish)
    return ev.Finished(
        at=now, reason=action.reason, best=action.best, results=action.results, error=action.error, totals=session.totals
    )


IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)

"""Drives one session: decide, record the intent, perform, record the outcome, decide again.

    while action := decide(session, now …): pure, see `orchestrator.loop.policy`
        stop what is under way and no longer wanted
        decisions are events too: apply them here, record them in one append before the next I/O
        start the edits and critiques that are wanted and not under way; wait for the first to end

A driver may die anywhere. What it recorded is kept; what it had not recorded is decided and done again by whichever
replica claims the session next, with the same idempotency keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import stamina

from orchestrator.drive.performer import Job, Performer
from orchestrator.drive.spans import SessionSpans
from orchestrator.loop import events as ev
from orchestrator.loop.policy import Action, AskReview, ChecklistJob, EditJob, Finish, Rest, StartTurn, Wait, Work, decide
from orchestrator.loop.session import CorruptLog, Session, apply, fold
from orchestrator.ports import Claim, Clock, Fenced, Hooks, Recorded, Sessions, StorageUnavailable

log = logging.getLogger(__name__)

_Place = tuple[str, int, int]
_LONGEST_SLEEP_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class _Draft:
    """An event not yet recorded; a decision is made anew when the log has grown meanwhile, an outcome is kept."""

    event: ev.Event
    is_outcome: bool


class Driver:
    """One session in this replica's hands."""

    def __init__(
        self, claim: Claim, sessions: Sessions, performer: Performer, clock: Clock, hooks: Hooks, entries: list[Recorded]
    ) -> None:
        self._claim = claim
        self._sessions = sessions
        self._performer = performer
        self._clock = clock
        self._hooks = hooks
        self._seq = entries[-1].seq
        self._session = fold(recorded.event for recorded in entries)
        self._drafts: list[_Draft] = []
        self._begun: set[_Place] = set()
        """Edits that this driver began; another that is under way was begun by a driver before it."""
        self._running: dict[_Place, asyncio.Task[ev.Event]] = {}
        self._since: dict[_Place, float] = {}
        self._spans = SessionSpans(claim.session_id, (recorded.event for recorded in entries))
        self._signal = asyncio.Event()

    @property
    def finished(self) -> ev.Finished | None:
        """How the session ended, once it has."""
        return self._session.finished

    def signal(self) -> None:
        """Somebody else wrote to this session: look at the log before the next step."""
        self._signal.set()

    async def run(self) -> None:
        """Drive until the session is finished, waits for a person, or belongs to another replica.

        Raises:
            Fenced: when another replica owns the session.
        """
        with self._spans.driving(self._session):
            try:
                while not await self._step():
                    pass
            finally:
                await self._stop(list(self._running))

    async def _step(self) -> bool:
        """Decide once and carry it out; whether this replica is done with the session."""
        action = decide(self._session, self._clock.now(), self._performer.pace(self._session.created.editor))
        if await self._stop_unwanted(action):
            return False
        match action:
            case Rest():
                return await self._flush()
            case Wait():
                return await self._flush() and await self._park()
            case Work(jobs):
                await self._work(jobs)
            case _:
                self._draft(_decision(action, self._session, self._clock.now()))
        return False

    # --- record ---------------------------------------------------------------------------------------------

    def _draft(self, event: ev.Event, *, is_outcome: bool = False) -> None:
        # Applied first: an event that cannot follow what is recorded must not be recorded.
        self._session = apply(self._session, event)
        self._drafts.append(_Draft(event, is_outcome))

    async def _flush(self) -> bool:
        """Record every draft in one append; False when the log had grown and everything must be decided anew."""
        if not self._drafts:
            return True
        events = [draft.event for draft in self._drafts]
        try:
            done = await self._sessions.append(self._claim.session_id, self._seq, events, self._claim.fence)
        except StorageUnavailable:
            # Whether the append happened is not known: the log itself tells.
            await self._resync()
            return False
        if not done:
            await self._resync()
            return False
        for event in events:
            self._seq += 1
            self._hooks.recorded(self._claim.session_id, Recorded(self._seq, event), self._session)
            self._spans.recorded(event, self._session)
        self._drafts.clear()
        return True

    async def _resync(self) -> None:
        """Take up what others recorded; keep outcomes that are not in the log, forget decisions."""
        entries = await self._log()
        if not entries:
            raise Fenced(self._claim.session_id)
        known = [recorded.event for recorded in entries]
        if entries[-1].seq < self._seq:
            # Redis came back older than we are (restored from an older file): what it forgot is to be done again.
            self._hooks.forgotten(self._claim.session_id, self._seq - entries[-1].seq)
            await self._stop(list(self._running))
            # An outcome may belong to what was forgotten: a critique of an image that is in no event any more.
            self._drafts.clear()
        self._seq = entries[-1].seq
        self._spans.learn(known)
        lost = [draft for draft in self._drafts if draft.is_outcome and draft.event not in known]
        self._session, self._drafts = fold(known), []
        for draft in lost:
            with contextlib.suppress(CorruptLog):  # its turn was forgotten
                self._draft(draft.event, is_outcome=True)

    async def _log(self) -> list[Recorded]:
        """The whole log, as it is; waits for Redis as long as the lease machinery lets us."""
        patiently = stamina.AsyncRetryingCaller(attempts=None, timeout=None, wait_max=2.0)
        return await patiently(StorageUnavailable, self._sessions.read, self._claim.session_id)

    # --- perform --------------------------------------------------------------------------------------------

    async def _work(self, jobs: tuple[Job, ...]) -> None:
        """Start what is missing, record first; then wait for an end, a signal or the deadline."""
        new = [job for job in jobs if _is_new(job)]
        for job in new:
            self._draft(_intent(self._claim.session_id, job, self._clock.now()))
        self._begun.update(map(_place, new))
        if new:
            # The jobs now say that they are started; decide once more, so that what runs is what was recorded.
            return
        if not await self._flush():
            return
        for job in jobs:
            place = _place(job)
            if place not in self._running:
                order = partial(
                    self._performer.perform,
                    self._claim.session_id,
                    self._session,
                    job,
                    resumed=place not in self._begun,
                    sent=partial(self._sent, place),
                )
                self._running[place] = asyncio.create_task(self._spans.job(job, order))
        await self._wait_for_news()

    def _sent(self, place: _Place) -> None:
        """The edit left for the editor: until then it cost none of the editor's time."""
        self._since[place] = self._clock.now()

    async def _wait_for_news(self) -> None:
        signal = asyncio.create_task(self._signal.wait())
        left = self._session.created.limits.deadline_at - self._clock.now()
        timeout = min(max(left, 0.0), _LONGEST_SLEEP_S)
        try:
            await asyncio.wait({signal, *self._running.values()}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            signal.cancel()
        if self._signal.is_set():
            self._signal.clear()
            await self._resync()
        for place in [place for place, task in self._running.items() if task.done()]:
            self._since.pop(place, None)
            self._draft(self._running.pop(place).result(), is_outcome=True)

    async def _stop_unwanted(self, action: Action) -> bool:
        """Stop what the action does not list; True when an edit was stopped, which is recorded as its outcome."""
        wanted = {_place(job) for job in action.jobs} if isinstance(action, Work) else set()
        unwanted = [place for place in self._running if place not in wanted]
        if isinstance(action, Rest) or not unwanted:
            return False
        began = dict(self._since)
        await self._stop(unwanted)
        now = self._clock.now()
        for kind, turn, candidate in unwanted:
            if kind == "edit":
                seconds = now - began.get(("edit", turn, candidate), now)
                self._draft(_superseded(self._session, turn, candidate, now, seconds), is_outcome=True)
        return any(kind == "edit" for kind, _, _ in unwanted)

    async def _stop(self, places: Iterable[_Place]) -> None:
        tasks = [self._running.pop(place) for place in places]
        for task in tasks:
            task.cancel()
        if tasks:
            # Unlike awaiting them one by one, this lets our own cancellation through.
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (bug := task.exception()):
                log.error("a job of session %s broke", self._claim.session_id, exc_info=bug)

    async def _park(self) -> bool:
        """Let go until a person speaks or the deadline comes; False when somebody spoke just now."""
        until = self._session.created.limits.deadline_at
        if await self._sessions.park(self._claim, self._seq, until):
            return True
        await self._resync()
        return False


def _decision(action: StartTurn | AskReview | Finish, session: Session, now: float) -> ev.Event:
    match action:
        case StartTurn():
            return ev.TurnStarted(
                at=now,
                turn=action.turn,
                instruction=action.instruction,
                author=action.author,
                candidates=action.candidates,
                first_seed=action.first_seed,
            )
        case AskReview():
            return ev.ReviewRequested(at=now, turn=action.turn, best=action.best, reason=action.reason)
        case Finish():
            return ev.Finished(
                at=now,
                reason=action.reason,
                best=action.best,
                results=action.results,
                error=action.error,
                totals=session.totals,
            )


def _intent(session_id: str, job: Job, now: float) -> ev.EditStarted:
    assert isinstance(job, EditJob)
    return ev.EditStarted(
        at=now,
        turn=job.turn,
        candidate=job.candidate,
        attempt=job.attempt,
        key=f"{session_id}/{job.key}",
        seed=job.seed,
        allowance_s=job.allowance_s,
    )


def _superseded(session: Session, turn: int, candidate: int, now: float, seconds: float) -> ev.EditFailed:
    known = session.candidate(ev.CandidateRef(turn=turn, candidate=candidate))
    return ev.EditFailed(
        at=now,
        turn=turn,
        candidate=candidate,
        attempt=known.attempts if known else 1,
        code=ev.SUPERSEDED,
        message="stopped: its result was no longer needed",
        retryable=False,
        editor_seconds=max(0.0, seconds),
    )


def _is_new(job: Job) -> bool:
    return isinstance(job, EditJob) and not job.started


def _place(job: Job) -> _Place:
    if isinstance(job, ChecklistJob):
        return "checklist", 0, 0
    return ("edit" if isinstance(job, EditJob) else "critique", job.turn, job.candidate)

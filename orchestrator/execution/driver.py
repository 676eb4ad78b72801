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
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import stamina

from orchestrator.execution.performer import Job, Performer
from orchestrator.execution.spans import SessionSpans
from orchestrator.loop import events as ev
from orchestrator.loop.policy import Action, AskReview, ChecklistJob, EditJob, Finish, Rest, StartTurn, Wait, Work, decide
from orchestrator.loop.session import CorruptLogError, Session, apply, fold
from orchestrator.ports import Claim, Clock, FencedError, Recorded, SessionObserver, Sessions, StorageUnavailableError
from orchestrator.request_timing import RequestTiming, spent

log = logging.getLogger(__name__)

_Place = tuple[str, int, int]
_LONGEST_SLEEP_S: Final = 3600.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_DOUBLINGS: Final = 8
"""Of a pause between appends that fail."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """An event not yet recorded; a decision is made anew when the log has grown meanwhile, an outcome is kept."""

    event: ev.Event
    is_outcome: bool


@dataclass(frozen=True, slots=True)
class _Running:
    """A job under way, and, of an edit, its sendings."""

    task: asyncio.Task[ev.Event]
    tries: list[RequestTiming]


class Driver:
    """One session in this replica's hands."""

    def __init__(
        self,
        claim: Claim,
        sessions: Sessions,
        performer: Performer,
        clock: Clock,
        hooks: SessionObserver,
        entries: list[Recorded],
    ) -> None:
        self._claim = claim
        self._sessions = sessions
        self._performer = performer
        self._clock = clock
        self._hooks = hooks
        self._seq = entries[-1].seq
        self._session = fold(recorded.event for recorded in entries)
        self._drafts: list[_Draft] = []
        self._failures = 0
        """Appends in a row that failed."""
        started = (recorded.event for recorded in entries if isinstance(recorded.event, ev.EditStarted))
        self._inherited: Final = frozenset((event.turn, event.candidate, event.attempt) for event in started)
        """Edits that drivers before this one began."""
        self._running: dict[_Place, _Running] = {}
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
            FencedError: when another replica owns the session.
        """
        with self._spans.driving(self._session):
            try:
                while not await self._step():
                    pass
            finally:
                await self._stop(list(self._running))

    async def _step(self) -> bool:
        """Decide once and carry it out; whether this replica is done with the session."""
        action = decide(self._session, self._clock.now(), self._performer.edit_s(self._session.created.editor))
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
            self._failures = 0
        except StorageUnavailableError:
            # Whether the append happened is not known: the log itself tells.
            done = False
            await self._pause()
        if not done:
            await self._resync()
            return False
        self._tell([Recorded(self._seq + number, event) for number, event in enumerate(events, 1)])
        self._seq += len(events)
        self._drafts.clear()
        return True

    async def _pause(self) -> None:
        """A Redis that refuses to write (out of memory, read-only) says so at once, and reads: it must not be asked without end.
        News end the pause, since it ends with a look at the log.
        """
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, _DOUBLINGS))
        self._failures += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest * random.uniform(0.5, 1.0)):
                await self._signal.wait()
        self._signal.clear()

    def _tell(self, recordeds: Iterable[Recorded]) -> None:
        """Of what this driver recorded."""
        for recorded in recordeds:
            self._hooks.recorded(self._claim.session_id, recorded, self._session)
            self._spans.recorded(recorded.event, self._session)

    async def _resync(self) -> None:
        """Take up what is recorded, by others or by an append whose answer was lost; keep outcomes that are not in the log,
        forget decisions.
        """
        entries = await self._log()
        if not entries:
            raise FencedError(self._claim.session_id)
        known = [recorded.event for recorded in entries]
        if entries[-1].seq < self._seq:
            # Redis came back older than we are (restored from an older file): what it forgot is to be done again.
            self._hooks.forgotten(self._claim.session_id, self._seq - entries[-1].seq)
            await self._stop(list(self._running))
            # An outcome may belong to what was forgotten: a critique of an image that is in no event any more.
            self._drafts.clear()
        lost = [draft for draft in self._drafts if draft.is_outcome and draft.event not in known]
        drafted, before = [draft.event for draft in self._drafts], self._seq
        self._seq = entries[-1].seq
        self._session, self._drafts = fold(known), []
        self._tell(recorded for recorded in entries if recorded.seq > before and recorded.event in drafted)
        self._spans.learn(known)
        for draft in lost:
            with contextlib.suppress(CorruptLogError):  # its turn was forgotten
                self._draft(draft.event, is_outcome=True)

    async def _log(self) -> list[Recorded]:
        """The whole log, as it is; waits for Redis as long as the lease machinery lets us."""
        patiently = stamina.AsyncRetryingCaller(attempts=None, timeout=None, wait_max=2.0)
        return await patiently(StorageUnavailableError, self._sessions.read, self._claim.session_id)

    # --- perform --------------------------------------------------------------------------------------------

    async def _work(self, jobs: tuple[Job, ...]) -> None:
        """Start what is missing, record first; then wait for an end, a signal or the deadline."""
        new = [job for job in jobs if _is_new(job)]
        for job in new:
            self._draft(_intent(self._claim.session_id, job, self._clock.now()))
        if new:
            # The jobs now say that they are started; decide once more, so that what runs is what was recorded.
            return
        if not await self._flush():
            return
        for job in jobs:
            place = _place(job)
            if place not in self._running:
                tries: list[RequestTiming] = []
                resumed = isinstance(job, EditJob) and (job.turn, job.candidate, job.attempt) in self._inherited
                perform = self._performer.perform
                order = partial(perform, self._claim.session_id, self._session, job, resumed=resumed, tries=tries)
                self._running[place] = _Running(asyncio.create_task(self._spans.job(job, order)), tries)
        await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        signal = asyncio.create_task(self._signal.wait())
        left = self._session.created.limits.deadline_at - self._clock.now()
        timeout = min(max(left, 0.0), _LONGEST_SLEEP_S)
        try:
            tasks = {running.task for running in self._running.values()}
            await asyncio.wait({signal, *tasks}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            signal.cancel()
        if self._signal.is_set():
            self._signal.clear()
            await self._resync()
        for place in [place for place, running in self._running.items() if running.task.done()]:
            self._draft(self._running.pop(place).task.result(), is_outcome=True)

    async def _stop_unwanted(self, action: Action) -> bool:
        """Stop what the action does not list; True when an edit was stopped, which is recorded as its outcome."""
        wanted = {_place(job) for job in action.jobs} if isinstance(action, Work) else set()
        unwanted = [place for place in self._running if place not in wanted]
        if isinstance(action, Rest) or not unwanted:
            return False
        edits = [(place, self._running[place].tries) for place in unwanted if place[0] == "edit"]
        await self._stop(unwanted)
        now = self._clock.now()
        for (_, turn, candidate), tries in edits:
            self._draft(_superseded(self._session, turn, candidate, now, spent(tries)), is_outcome=True)
        return bool(edits)

    async def _stop(self, places: Iterable[_Place]) -> None:
        tasks = [self._running.pop(place).task for place in places]
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
        if await self._sessions.suspend(self._claim, self._seq, until):
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
        editor_seconds=seconds,
    )


def _is_new(job: Job) -> bool:
    return isinstance(job, EditJob) and not job.started


def _place(job: Job) -> _Place:
    if isinstance(job, ChecklistJob):
        return "checklist", 0, 0
    return ("edit" if isinstance(job, EditJob) else "critique", job.turn, job.candidate)

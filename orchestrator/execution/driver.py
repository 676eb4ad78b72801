"""Drives one session: decide, record the intent, perform, record the outcome, decide again.

    while action := decide(session, now …): pure, see `orchestrator.loop.policy`
        stop running jobs that the action no longer lists
        decisions are events too: apply them here, record them in one append before the next I/O
        start the listed edits and critiques that are not running; wait for the first to end

A driver may crash at any point. Recorded events are kept; what was not recorded is decided and done again by the replica that
claims the session next, with the same idempotency keys.

A driver whose replica shuts down starts nothing more, records what is under way, and queues the session for another replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import stamina

from orchestrator.execution.performer import Performer, needs_scaling
from orchestrator.execution.spans import SessionSpans
from orchestrator.loop import events as ev
from orchestrator.loop.actions import (
    Action,
    AskReview,
    ChecklistJob,
    CompareJob,
    EditJob,
    Finish,
    Job,
    PrepareJob,
    RejectEdit,
    Rest,
    StartTurn,
    Wait,
    Work,
    kind_of,
)
from orchestrator.loop.policy import decide
from orchestrator.loop.session import CorruptLogError, Session, SessionBounds, apply, fold
from orchestrator.ports.collaborators import Clock, EditorUsage
from orchestrator.ports.errors import AbandonedError, CallerLeftError, FencedError, StorageUnavailableError
from orchestrator.ports.stores import Claim, Recorded, SessionObserver, Sessions
from services.serving.retry import backoff_s

log = logging.getLogger(__name__)

_JobKey = tuple[str, int, int]
"""Kind, turn and candidate of a job."""
_MAX_SLEEP_S: Final = 3600.0
_REJECTED: Final = "stopped: its unfinished picture was too far below the best so far"
_INITIAL_BACKOFF_S: Final = 0.1
_MAX_BACKOFF_S: Final = 2.0
"""Between failed appends."""
_UNTIL_REDIS_ANSWERS: Final = stamina.AsyncRetryingCaller(attempts=None, timeout=None, wait_max=2.0)


@dataclass(frozen=True, slots=True)
class _Draft:
    """An event not yet recorded. On conflict, decisions are recomputed; outcomes are kept."""

    event: ev.Event
    is_outcome: bool


@dataclass(frozen=True, slots=True)
class _Running:
    """A running job, and its editor time if it is an edit."""

    task: asyncio.Task[ev.Event]
    usage: EditorUsage


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """What all drivers of a replica have in common.

    Attributes:
        bounds: what a session may grow to.
        caller_grace_s: seconds for which a caller who alone could get the result may be unheard of before the session ends:
            after an outage of Redis, callers that wait need a moment to renew their leases.
    """

    bounds: SessionBounds = field(default_factory=SessionBounds)
    caller_grace_s: float = 5.0


class Driver:
    """Drives one session that this replica owns."""

    def __init__(
        self,
        claim: Claim,
        sessions: Sessions,
        performer: Performer,
        clock: Clock,
        observer: SessionObserver,
        entries: list[Recorded],
        *,
        options: DriverOptions | None = None,
    ) -> None:
        self._claim = claim
        self._sessions = sessions
        self._performer = performer
        self._clock = clock
        self._observer = observer
        self._seq = entries[-1].seq
        self._options = options or DriverOptions()
        self._bounds = self._options.bounds
        self._recorded = self._session = fold((recorded.event for recorded in entries), self._bounds)
        """The session as it is recorded, and with the drafts."""
        self._drafts: list[_Draft] = []
        self._failures = 0
        """Consecutive failed appends."""
        self._abandoned = False
        """Whether the caller was gone at the last append."""
        self._leaving = False
        started = (recorded.event for recorded in entries if isinstance(recorded.event, ev.EditStarted))
        self._resumed: Final = frozenset((event.turn, event.candidate, event.attempt) for event in started)
        """Edits that earlier drivers started."""
        self._running: dict[_JobKey, _Running] = {}
        self._reported: list[ev.Event] = []
        """What running jobs have reported, and is no draft yet."""
        self._reports = asyncio.Event()
        self._spans = SessionSpans(claim.session_id, (recorded.event for recorded in entries))
        self._signal = asyncio.Event()
        self._missed = False
        """Whether what was read before may no longer be the log."""

    @property
    def finished(self) -> ev.Finished | None:
        """How the session ended, once it has."""
        return self._session.finished

    @property
    def last_event(self) -> int:
        """The number of the last event that it knows to be recorded."""
        return self._seq

    def signal(self, *, missed: bool = False) -> None:
        """Another writer appended to this session: read the log before the next step.

        Args:
            missed: notifications were lost, perhaps because another Redis took over: read all of it.
        """
        self._missed = self._missed or missed
        self._signal.set()

    def leave(self) -> None:
        """Start no more jobs, and let another replica continue once those under way have ended."""
        self._leaving = True
        self._signal.set()

    async def run(self) -> None:
        """Drive until the session is finished, suspended for a review, or left to another replica.

        Raises:
            FencedError: if another replica owns the session.
        """
        with self._spans.driving(self._session):
            try:
                while not await self._step():
                    pass
            finally:
                await self._stop(list(self._running))

    async def _step(self) -> bool:
        """Decide once and carry the action out; True once this replica is done with the session."""
        action = decide(self._session, self._clock.now(), self._performer.edit_s(self._session.created.editor))
        if await self._stop_unwanted(action):
            return False
        match action:
            case Rest():
                return await self._flush()
            case Wait():
                return await self._flush() and await self._suspend()
            case Work() if self._leaving:
                return await self._leave()
            case Work(jobs):
                await self._work(jobs)
            case RejectEdit():
                self._reject(action)
            case Finish() if needs_scaling(self._session, action.results):
                await self._finish_scaled(action)
            case _:
                self._draft(_decision(action, self._session, self._clock.now()))
        return False

    # --- record ---------------------------------------------------------------------------------------------

    def _draft(self, event: ev.Event, *, is_outcome: bool = False) -> None:
        # Applied first: an event that does not fit the log must not be recorded.
        self._session = apply(self._session, event)
        self._drafts.append(_Draft(event, is_outcome))

    async def _flush(self) -> bool:
        """Record all drafts in one append; False if the log had grown, so that the next action must be decided again."""
        if not self._drafts:
            return True
        events = [draft.event for draft in self._drafts]
        try:
            appended = await self._sessions.append(self._claim.session_id, self._seq, events, self._claim.fence)
            self._failures, self._abandoned = 0, False
        except AbandonedError:
            await self._caller_unheard()
            return False
        except CallerLeftError:
            # Until it is back, which is signalled, or for good.
            await self._pause(self._options.caller_grace_s)
            await self._resync()
            return False
        except StorageUnavailableError:
            # The append may have happened nevertheless: the log shows it.
            appended, self._missed = None, True
            await self._back_off()
        if not appended:
            await self._resync()
            return False
        self._observe([Recorded(self._seq + number, event) for number, event in enumerate(events, 1)])
        self._seq += len(events)
        self._recorded = self._session
        self._drafts.clear()
        if appended == "full":
            # The tenant's other sessions count too: this one makes no more images.
            self._bounds = replace(self._bounds, image_bytes=0)
            self._recorded = self._session = replace(self._session, bounds=self._bounds)
        return True

    async def _caller_unheard(self) -> None:
        """Give a caller who was not heard of time to renew its lease; cancel the session if it did not."""
        again, self._abandoned = self._abandoned, True
        if not again:
            await self._pause(self._options.caller_grace_s)
        await self._resync()
        if again and self._session.finished is None and not self._session.cancelled:
            self._draft(ev.CancelRequested(at=self._clock.now(), by="disconnect"), is_outcome=True)

    async def _back_off(self) -> None:
        """Wait after a failed append. A Redis that cannot write (out of memory, read-only) fails at once but can be read, so the
        driver would spin without this.
        """
        seconds = backoff_s(self._failures, initial_s=_INITIAL_BACKOFF_S, max_s=_MAX_BACKOFF_S)
        self._failures += 1
        await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        """Wait, at most until a signal: another writer appended, so that the next append shows the log to be read."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        self._signal.clear()

    def _observe(self, entries: Iterable[Recorded]) -> None:
        """Notify observers of what this driver recorded."""
        for recorded in entries:
            self._observer.recorded(self._claim.session_id, recorded, self._session)
            self._spans.recorded(recorded.event, self._session)

    async def _resync(self) -> None:
        """Read what the log has more: other writers, or an append whose response was lost, have extended it. Outcomes that are
        not in it remain drafts; decisions are dropped.
        """
        new = [] if self._missed else await self._log(self._seq)
        whole: list[Recorded] = []
        if self._missed or not (new or await self._ends_here()):
            whole = await self._log()
            new = await self._replace(whole)
        else:
            for entry in new:
                self._recorded = apply(self._recorded, entry.event)
        known = [entry.event for entry in new]
        lost = [draft for draft in self._drafts if draft.is_outcome and draft.event not in known]
        drafted = [draft.event for draft in self._drafts]
        self._seq = new[-1].seq if new else self._seq
        self._session, self._drafts = self._recorded, []
        self._observe(entry for entry in new if entry.event in drafted)
        if whole:
            self._spans.learn(entry.event for entry in whole)
        for draft in lost:
            with contextlib.suppress(CorruptLogError):  # its turn was lost
                self._draft(draft.event, is_outcome=True)

    async def _replace(self, entries: list[Recorded]) -> list[Recorded]:
        """Start from another log, and return what is new in it."""
        self._missed = False
        if not entries:
            raise FencedError(self._claim.session_id)
        last, before = entries[-1].seq, self._seq
        if last < before:
            # Redis was restored from an older snapshot: what it lost is done again.
            self._observer.forgotten(self._claim.session_id, before - last)
            await self._stop(list(self._running))
            # An outcome may refer to lost events: a critique of an image that no event names any more.
            self._drafts.clear()
            self._reported.clear()
        self._seq, self._recorded = last, fold((entry.event for entry in entries), self._bounds)
        return [entry for entry in entries if entry.seq > before]

    async def _ends_here(self) -> bool:
        """Whether the log still ends where it was read to."""
        tail = await _UNTIL_REDIS_ANSWERS(StorageUnavailableError, self._sessions.tail, self._claim.session_id)
        return tail is not None and tail.seq == self._seq

    async def _log(self, after: int = 0) -> list[Recorded]:
        """The log after that event; waits for Redis until the lease is lost."""
        return await _UNTIL_REDIS_ANSWERS(StorageUnavailableError, self._sessions.read, self._claim.session_id, after)

    def _reject(self, action: RejectEdit) -> None:
        """Record that an edit is rejected. One that an earlier driver left is charged what an edit takes: nobody knows more."""
        now = self._clock.now()
        known = self._session.candidate(ev.CandidateRef(turn=action.turn, candidate=action.candidate))
        self._draft(_decision(action, self._session, now))
        if ("edit", action.turn, action.candidate) not in self._running:
            edit_s = self._performer.edit_s(self._session.created.editor)
            allowed = math.inf if known is None or known.allowance_s is None else known.allowance_s
            failed = _superseded(self._session, action.turn, action.candidate, now, min(edit_s, allowed))
            self._draft(failed, is_outcome=True)

    # --- perform --------------------------------------------------------------------------------------------

    async def _work(self, jobs: tuple[Job, ...]) -> None:
        """Record and start jobs that are not running yet; then wait until one ends, for a signal, or for the deadline."""
        new = [job for job in jobs if _is_new(job)]
        for job in new:
            self._draft(_intent(self._claim.session_id, job, self._clock.now()))
        if new:
            # Their intents are drafts now; decide again, so that exactly what was recorded is run.
            return
        if not await self._flush():
            return
        for job in jobs:
            key = _job_key(job)
            if key not in self._running:
                usage = EditorUsage()
                resumed = isinstance(job, EditJob) and (job.turn, job.candidate, job.attempt) in self._resumed
                perform = partial(
                    self._performer.perform,
                    self._claim.session_id,
                    self._session,
                    job,
                    usage,
                    resumed=resumed,
                    report=self._report,
                )
                self._running[key] = _Running(asyncio.create_task(self._spans.job(job, perform)), usage)
        await self._wait_for_change()

    async def _finish_scaled(self, action: Finish) -> None:
        """Scale the results, and finish. After a crash in between, or if the log has grown, `decide` runs again."""
        # It takes seconds: what is known is recorded first.
        if not await self._flush():
            return
        scaled = await self._performer.scaled(self._claim.session_id, self._session, action.results)
        self._draft(_decision(action, self._session, self._clock.now()).model_copy(update={"scaled": scaled}))

    async def _leave(self) -> bool:
        """Queue the session for another replica once no job is running; True when that is done."""
        if any(isinstance(draft.event, ev.EditStarted) for draft in self._drafts):
            # An intent that was not recorded: the edit must not look as if it had been requested.
            await self._resync()
            return False
        if not await self._flush():
            return False
        if self._running:
            await self._wait_for_change()
            return False
        await self._sessions.suspend(self._claim, self._seq, None)
        return True

    def _report(self, event: ev.Event) -> None:
        self._reported.append(event)
        self._reports.set()

    async def _wait_for_change(self) -> None:
        signal = asyncio.create_task(self._signal.wait())
        reports = asyncio.create_task(self._reports.wait())
        left = self._session.created.limits.deadline_at - self._clock.now()
        timeout = min(max(left, 0.0), _MAX_SLEEP_S)
        try:
            tasks = {running.task for running in self._running.values()}
            await asyncio.wait({signal, reports, *tasks}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            signal.cancel()
            reports.cancel()
        if self._signal.is_set():
            self._signal.clear()
            await self._resync()
        self._reports.clear()
        while self._reported:
            self._draft(self._reported.pop(0), is_outcome=True)
        for key in [key for key, running in self._running.items() if running.task.done()]:
            self._draft(self._running.pop(key).task.result(), is_outcome=True)

    async def _stop_unwanted(self, action: Action) -> bool:
        """Stop jobs that the action does not list; True if an edit was stopped, which is recorded as its outcome."""
        wanted = {_job_key(job) for job in action.jobs} if isinstance(action, Work) else set()
        unwanted = [key for key in self._running if key not in wanted]
        if isinstance(action, Rest | RejectEdit) or not unwanted:
            return False
        edits = [(key, self._running[key].usage) for key in unwanted if key[0] == "edit"]
        await self._stop(unwanted)
        now = self._clock.now()
        for (_, turn, candidate), usage in edits:
            self._draft(_superseded(self._session, turn, candidate, now, usage.seconds), is_outcome=True)
        return bool(edits)

    async def _stop(self, keys: Iterable[_JobKey]) -> None:
        tasks = [self._running.pop(key).task for key in keys]
        for task in tasks:
            task.cancel()
        if tasks:
            # Unlike awaiting them one by one, this does not swallow our own cancellation.
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (bug := task.exception()):
                log.error("a job of session %s failed because of a bug", self._claim.session_id, exc_info=bug)

    async def _suspend(self) -> bool:
        """Give the session up until a person responds or the deadline passes; False if the log has grown in between."""
        until = self._session.created.limits.deadline_at
        if await self._sessions.suspend(self._claim, self._seq, until):
            return True
        await self._resync()
        return False


def _decision(action: StartTurn | RejectEdit | AskReview | Finish, session: Session, now: float) -> ev.Event:
    match action:
        case StartTurn():
            return ev.TurnStarted(
                at=now,
                turn=action.turn,
                instruction=action.instruction,
                author=action.author,
                candidates=action.candidates,
                first_seed=action.first_seed,
                draft=action.draft,
                renders=action.renders,
            )
        case RejectEdit():
            return ev.EditRejected(at=now, turn=action.turn, candidate=action.candidate)
        case AskReview():
            return ev.ReviewRequested(at=now, turn=action.turn, best=action.best, reason=action.reason)
        case Finish():
            return ev.Finished(
                at=now,
                reason=action.reason,
                best=action.best,
                results=action.results,
                error=action.error,
                preferred=action.preferred,
                totals=session.totals,
            )


def _intent(session_id: str, job: Job, now: float) -> ev.EditStarted | ev.PrepareStarted:
    if isinstance(job, PrepareJob):
        return ev.PrepareStarted(at=now, attempt=job.attempt)
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
        message=_REJECTED if known and known.rejected else "stopped: its result was no longer needed",
        retryable=False,
        editor_seconds=seconds,
    )


def _is_new(job: Job) -> bool:
    return isinstance(job, EditJob | PrepareJob) and not job.started


def _job_key(job: Job) -> _JobKey:
    if isinstance(job, ChecklistJob | PrepareJob):
        return kind_of(job), 0, 0
    if isinstance(job, CompareJob):
        second = job.second or ev.CandidateRef(turn=0, candidate=0)
        return f"compare {second.turn}/{second.candidate}", job.first.turn, job.first.candidate
    return kind_of(job), job.turn, job.candidate

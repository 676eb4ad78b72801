"""The one thread that owns the pipeline and the device.

A pipeline shared by threads gives silently wrong pictures, so it is built, warmed up and used on a single thread.
Concurrency comes from interleaving: between two advances edits join, leave, and change places, as
`services.editor.engine.scheduler` decides. Whatever ends the thread answers everyone who waits.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Protocol

from services.editor.engine.scheduler import SLACK, Choice, Entry, Limits, choose, crowded, dispensable, expired, next_expiry
from services.editor.engine.tickets import Listener, Outcome, Ticket, out_of_memory
from services.editor.engine.warmup import Wanted, warm_up
from services.editor.pipelines import EditJob, OutOfMemoryError, Pipeline, PipelineBrokenError
from services.errors import ApiError

log = logging.getLogger(__name__)
_FIRST_GUESS_S = 1.0  # of a call's duration, before one was measured
_FORGET = 0.9  # weight of the past in the running mean of call durations
_LONGEST_PROMISE_S = 60.0  # of Retry-After
_MOST_HELD = 64  # edits set aside; beyond that the one that is to expire first goes


class State(StrEnum):
    """Where the executor is in its life; only ``READY`` takes requests."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


class Meter(Protocol):
    """Who is told what the executor does; on its thread."""

    def advanced(self, edits: int, seconds: float, *, start: bool) -> None:
        """So many edits were advanced together, or one was started."""
        ...

    def wasted(self, steps: int) -> None:
        """An edit was dropped after so many steps."""
        ...


class Executor:
    """Runs edits, interleaved, on its own thread.

    Args:
        build: makes the pipeline; called on the executor's thread.
        meter: is told what happens.
        wanted: the operator's limits.
        queue: how many edits may wait beside those that run.
        on_failure: told why, if the pipeline cannot be built or warmed up.
    """

    def __init__(
        self,
        build: Callable[[], Pipeline],
        meter: Meter,
        wanted: Wanted,
        *,
        queue: int,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_failure = on_failure
        self._build = build
        self._meter = meter
        self._wanted = wanted
        self._queue = queue
        self._tickets: dict[int, Ticket] = {}
        self._numbers = itertools.count(1)
        self._admitted = 0
        self._wake = threading.Condition()
        self._state = State.STARTING
        self._cause = "starting"
        self._pipeline: Pipeline | None = None
        self._limits = Limits(1, 1, 1)
        self._call_s = _FIRST_GUESS_S
        self._just_started = False
        self._promised = 0.0
        self._thread = threading.Thread(target=self._live, name="pipeline", daemon=True)

    @property
    def state(self) -> State:
        """Where the executor is in its life."""
        return self._state

    @property
    def cause(self) -> str:
        """Why the executor is not ready, in words."""
        return self._cause

    @property
    def admitted(self) -> int:
        """Requests inside: decoding, waiting, running or encoding."""
        return self._admitted

    @property
    def limits(self) -> Limits:
        """What the device takes at a time, as set, measured, and shrunk where memory ran out."""
        return self._limits

    @property
    def waiting(self) -> int:
        """Edits that wait for their first advance."""
        return sum(ticket.began is None for ticket in self._wanted_ones())

    @property
    def running(self) -> int:
        """Edits that are started and not over, without those set aside."""
        return sum(ticket.began is not None for ticket in self._wanted_ones())

    def _wanted_ones(self) -> list[Ticket]:
        return [ticket for ticket in list(self._tickets.values()) if ticket.held_until is None]

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline, for what any thread may ask of it: edits go through `submit`.

        Raises:
            ApiError: ``not_ready`` until it is warmed up, and after its death.
        """
        if self._pipeline is None or self._state is State.DEAD:
            raise self._not_ready()
        return self._pipeline

    def _not_ready(self) -> ApiError:
        retry = None if self._state is State.DEAD else 1.0
        return ApiError("not_ready", f"the editor is not ready: {self._cause}", retry_after=retry)

    def start(self) -> None:
        """Start the thread; it builds and warms up the pipeline by itself."""
        self._thread.start()

    def admit(self, edits: int = 1) -> None:
        """Take places for so many edits; give them back with `release`. One request always fits when nothing else is inside.

        Raises:
            ApiError: ``overloaded`` when there are not so many, ``not_ready`` when the executor is not ready.
        """
        with self._wake:
            if self._state is not State.READY:
                raise self._not_ready()
            if self._admitted and self._admitted + edits > self._queue + self._limits.active:
                message = f"{self._admitted} edits are under way, {self.waiting} of them waiting; try again later"
                raise ApiError("overloaded", message, retry_after=self._next_promise(edits))
            self._admitted += edits

    def figures(self) -> Mapping[str, float]:
        """What the pipeline counts; nothing until there is one."""
        return {} if self._pipeline is None else self._pipeline.figures()

    def _next_promise(self, edits: int) -> float:
        """Seconds after which to come back. Whoever is refused gets the place behind those refused before, so that they do not
        all come back at once, only to be refused again.
        """
        now, backlog = time.monotonic(), self.backlog_s()
        each = backlog / max(1, len(self._wanted_ones()))
        self._promised = max(self._promised, now + backlog / 2) + edits * each
        return min(_LONGEST_PROMISE_S, max(1.0, self._promised - now))

    def backlog_s(self) -> float:
        """Seconds until everything that is inside now, and not set aside, would be done."""
        left = 0
        for ticket in self._wanted_ones():
            edit = ticket.edit
            left += 1 if edit is None else 1 + max(0, edit.calls - edit.calls_done)
        return left * self._call_s

    def release(self, edits: int = 1) -> None:
        """Give back places taken by `admit`."""
        with self._wake:
            self._admitted -= edits
            self._wake.notify_all()

    def submit(self, jobs: Sequence[EditJob], urgency: int = 0, listeners: Sequence[Listener] = ()) -> list[Ticket]:
        """Queue the jobs of one admitted request. An answer that is cancelled stops its edit before the next advance.

        Args:
            jobs: prepared by the pipeline.
            urgency: how many head starts they get.
            listeners: one a job, or none.

        Raises:
            ApiError: ``not_ready`` when the executor died meanwhile.
        """
        tickets = [Ticket(next(self._numbers), job, urgency) for job in jobs]
        for ticket, listener in zip(tickets, listeners, strict=False):
            ticket.listener = listener
        with self._wake:
            if self._state is State.DEAD:
                raise self._not_ready()
            self._tickets.update((ticket.id, ticket) for ticket in tickets)
            self._wake.notify_all()
        return tickets

    def hold(self, tickets: Sequence[Ticket], seconds: float) -> None:
        """Set edits aside: they keep what they have, take no more of the device, and are dropped after so many seconds."""
        until = time.monotonic() + seconds
        with self._wake:
            for ticket in tickets:
                ticket.held_until = until
            held = sorted((t for t in self._tickets.values() if t.held_until is not None), key=lambda t: t.held_until or 0.0)
            for ticket in held[:-_MOST_HELD]:
                ticket.answer.cancel()
            self._wake.notify_all()

    def resume(self, tickets: Sequence[Ticket]) -> None:
        """Go on with edits that were set aside, where they stopped."""
        with self._wake:
            for ticket in tickets:
                ticket.held_until = None
            self._wake.notify_all()

    def notice(self) -> None:
        """Look again: an answer was cancelled."""
        with self._wake:
            self._wake.notify_all()

    def stop(self, patience_s: float) -> None:
        """Take no more, finish what is queued for up to ``patience_s`` seconds, then answer the rest with an error."""
        with self._wake:
            if self._state is not State.DEAD:
                self._state, self._cause = State.DRAINING, "shutting down"
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(patience_s)
        self._end("shut down")

    def _live(self) -> None:
        try:
            pipeline = self._build()
            measured = warm_up(pipeline, self._wanted)
            with self._wake:
                self._pipeline, self._limits, self._call_s = pipeline, measured.limits, measured.call_s
                if self._state is State.STARTING:
                    self._state, self._cause = State.READY, "ready"
            while self._turn(pipeline):
                pass
        # The edge of the thread: whatever ends it, those who wait must be told and readiness must go.
        except BaseException as exc:
            log.critical("the pipeline's thread died", exc_info=exc)
            failed_at_start = self._state is State.STARTING
            self._end(f"the pipeline failed: {type(exc).__name__}")
            if failed_at_start:
                self._on_failure(f"{type(exc).__name__}: {exc}")
        else:
            self._end("shut down")

    def _turn(self, pipeline: Pipeline) -> bool:
        """Advance whoever's turn it is, or wait until there is somebody; False at the end."""
        with self._wake:
            choice = self._choose(pipeline)
            if choice is None:
                # A request that was let in may still be decoding; it is to be served before the end.
                if self._state is State.DEAD or (self._state is State.DRAINING and self._admitted == 0):
                    return False
                expiry = next_expiry(self._entries())
                self._wake.wait(None if expiry is None else max(0.0, expiry - time.monotonic()))
                return True
            chosen = [self._tickets[number] for number in choice.ids]
        self._just_started = choice.start
        self._advance(pipeline, choice, chosen)
        return True

    def _choose(self, pipeline: Pipeline) -> Choice | None:
        """Whose turn it is. Where memory is short, those set aside go before one more is started."""
        while True:
            self._drop(pipeline)
            self._open(pipeline)
            entries = self._entries()
            choice = choose(entries, self._limits, just_started=self._just_started)
            starts = choice is not None and choice.start
            if not starts or not crowded(entries, self._limits) or not self._make_room(pipeline):
                return choice

    def _entries(self) -> list[Entry]:
        return [ticket.entry() for ticket in self._tickets.values()]

    def _drop(self, pipeline: Pipeline) -> None:
        """Let go of edits whose callers have gone, or whose time set aside is up."""
        late = expired((ticket.entry() for ticket in self._tickets.values()), time.monotonic())
        for number in late:
            self._tickets[number].settle(ApiError("request_timeout", "the caller left, and nobody came back for the edit"))
        for ticket in [ticket for ticket in self._tickets.values() if ticket.answer.done()]:
            del self._tickets[ticket.id]
            if ticket.edit is not None:
                self._meter.wasted(ticket.edit.step)
                pipeline.close(ticket.edit)

    def _open(self, pipeline: Pipeline) -> None:
        """Make edits of the tickets that have just come."""
        for ticket in [ticket for ticket in self._tickets.values() if ticket.edit is None]:
            try:
                ticket.edit = pipeline.open(ticket.job)
            # A job that cannot even be opened must not end the thread that the others need.
            except Exception as exc:
                log.exception("an edit could not be opened")
                del self._tickets[ticket.id]
                ticket.settle(exc)
            else:
                ticket.plan((1 + ticket.edit.calls) * self._call_s)

    def _advance(self, pipeline: Pipeline, choice: Choice, tickets: list[Ticket]) -> None:
        start = time.monotonic()
        for ticket in tickets:
            ticket.began = ticket.began or start
        short: list[Ticket] = []
        try:
            pipeline.advance([ticket.edit for ticket in tickets if ticket.edit is not None])
        except OutOfMemoryError as exc:
            # Dealt with below: in here what the failed pass had allocated may still be alive.
            short = [ticket for ticket in tickets if not exc.edits or ticket.edit in exc.edits]
        except PipelineBrokenError:
            for ticket in tickets:
                ticket.settle(ApiError("internal_error", "the pipeline broke during this edit; another worker may do it"))
            raise
        done = [ticket for ticket in tickets if ticket not in short]
        if done:
            took = time.monotonic() - start
            self._meter.advanced(len(done), took, start=choice.start)
            self._call_s = _FORGET * self._call_s + (1 - _FORGET) * took / len(done)
            for ticket in done:
                ticket.advanced(took, len(done))
                self._report(ticket)
        if short:
            self._make_do(pipeline, short)

    def _report(self, ticket: Ticket) -> None:
        """Tell the ticket's caller what has become of it."""
        edit = ticket.edit
        assert edit is not None
        if edit.error is not None:
            log.error("an edit failed", exc_info=edit.error)
            self._conclude(ticket, edit.error)
        elif edit.result is not None:
            self._conclude(ticket, ticket.outcome(edit.result))
        elif ticket.listener is not None and not ticket.answer.done():
            preview, edit.preview = edit.preview, None
            ticket.listener(edit.step, edit.steps, preview)

    def _conclude(self, ticket: Ticket, outcome: Outcome | Exception) -> None:
        with self._wake:
            self._tickets.pop(ticket.id, None)
            ticket.settle(outcome)

    def _make_do(self, pipeline: Pipeline, tickets: list[Ticket]) -> None:
        """Memory ran out: smaller batches from now on; an edit that was alone takes the place of one set aside, or gets one more
        try, from its beginning, when nobody else is there.
        """
        costs = [ticket.entry().cost for ticket in tickets if ticket.entry().started]
        if len(costs) == len(tickets) > 1:
            pipeline.reclaim()
            cost = None if self._limits.cost is None else max(1, int(SLACK * sum(costs) / 2))
            self._limits = replace(self._limits, batch=len(tickets) // 2, cost=cost)
            log.warning("out of memory with %d edits at a time; the limits are now %s", len(tickets), self._limits)
            return
        for ticket in tickets:
            assert ticket.edit is not None
            if self._make_room(pipeline):
                log.warning("out of memory with one edit; it goes on in the place of one that was set aside")
                continue
            pipeline.close(ticket.edit)
            if ticket.alone:
                self._conclude(ticket, out_of_memory())
            else:
                log.warning("out of memory with one edit; it is tried once more, from its beginning and alone")
                ticket.alone, ticket.edit = True, None
        pipeline.reclaim()

    def _make_room(self, pipeline: Pipeline) -> bool:
        """Drop the edit set aside that can be spared first; False if there is none that keeps memory."""
        with self._wake:
            number = dispensable(self._entries())
            if number is None:
                return False
            self._tickets[number].settle(ApiError("request_timeout", "the caller left, and the memory of the edit was needed"))
            self._drop(pipeline)
        return True

    def _end(self, cause: str) -> None:
        """Be dead, and answer everyone who waits."""
        with self._wake:
            self._state, self._cause = State.DEAD, cause
            self._wake.notify_all()
            tickets = list(self._tickets.values())
            self._tickets.clear()
            for ticket in tickets:
                ticket.settle(ApiError("not_ready", f"the editor stopped before this edit: {cause}"))

"""The one thread that owns the pipeline.

A pipeline shared by threads gives silently wrong pictures, so it is built, warmed up and used on a single thread. Requests
reach it through a bounded line; whatever ends the thread answers everyone who waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum

from services.editor.pipelines import EditJob, EditResult, Pipeline, PipelineBroken
from services.wire.errors import ApiError

log = logging.getLogger(__name__)
_FIRST_GUESS_S = 1.0  # of an edit's duration, before one was measured
_FORGET = 0.8  # weight of the past in the running mean of edit durations


class State(StrEnum):
    """Where the executor is in its life; only ``READY`` takes requests."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished edit: how long it waited and how long it took, in seconds."""

    result: EditResult
    queue_s: float
    edit_s: float


@dataclass(slots=True)
class _Ticket:
    """The jobs of one request and the answers to them, in the same order."""

    jobs: Sequence[EditJob]
    answers: list[Future[Outcome]]
    entered: float = field(default_factory=time.perf_counter)


class Executor:
    """Runs edits one after another on its own thread.

    Args:
        build: makes the pipeline; called on the executor's thread.
        warm_up: a job that is run once before the executor is ready.
        queue: how many requests may wait beside the one that runs.
    """

    def __init__(self, build: Callable[[], Pipeline], warm_up: EditJob, *, queue: int) -> None:
        self._build = build
        self._warm_up = warm_up
        self._room = queue + 1
        self._line: deque[_Ticket] = deque()
        self._current: _Ticket | None = None
        self._admitted = 0
        self._wake = threading.Condition()
        self._state = State.STARTING
        self._cause = "starting"
        self._pipeline: Pipeline | None = None
        self._edit_s = _FIRST_GUESS_S
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
    def pipeline(self) -> Pipeline:
        """The pipeline, for its name and capabilities only: edits go through `submit`.

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

    def admit(self) -> None:
        """Take one of the places for a request; give it back with `release`.

        Raises:
            ApiError: ``overloaded`` when all are taken, ``not_ready`` when the executor is not ready.
        """
        with self._wake:
            if self._state is not State.READY:
                raise self._not_ready()
            if self._admitted >= self._room:
                wait = self._edit_s * self._room
                raise ApiError("overloaded", f"{self._admitted} edits are under way; try again later", retry_after=max(1.0, wait))
            self._admitted += 1

    def release(self) -> None:
        """Give back a place taken by `admit`."""
        with self._wake:
            self._admitted -= 1
            self._wake.notify_all()

    def submit(self, jobs: Sequence[EditJob]) -> list[Future[Outcome]]:
        """Queue the jobs of one admitted request; a future that is cancelled before its job starts is never run.

        Raises:
            ApiError: ``not_ready`` when the executor died meanwhile.
        """
        ticket = _Ticket(jobs, [Future() for _ in jobs])
        with self._wake:
            if self._state is State.DEAD:
                raise self._not_ready()
            self._line.append(ticket)
            self._wake.notify_all()
        return ticket.answers

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
            pipeline.edit(self._warm_up)
            with self._wake:
                self._pipeline = pipeline
                if self._state is State.STARTING:
                    self._state, self._cause = State.READY, "ready"
            while self._serve_next(pipeline):
                pass
        # The edge of the thread: whatever ends it, those who wait must be told and readiness must go.
        except BaseException as exc:
            log.critical("the pipeline's thread died", exc_info=exc)
            self._end(f"the pipeline failed: {type(exc).__name__}")
        else:
            self._end("shut down")

    def _serve_next(self, pipeline: Pipeline) -> bool:
        """Run the next ticket, and hold on to none of its pictures afterwards; False at the end."""
        ticket = self._next()
        if ticket is None:
            return False
        self._run(pipeline, ticket)
        return True

    def _next(self) -> _Ticket | None:
        with self._wake:
            self._current = None
            while not self._line:
                # A request that was let in may still be decoding; it is to be served before the end.
                if self._state is State.DEAD or (self._state is State.DRAINING and self._admitted == 0):
                    return None
                self._wake.wait()
            self._current = self._line.popleft()
            return self._current

    def _run(self, pipeline: Pipeline, ticket: _Ticket) -> None:
        for job, answer in zip(ticket.jobs, ticket.answers, strict=True):
            with self._wake:
                # Its caller has gone, or a shutdown that lost patience has answered it.
                if answer.done() or not answer.set_running_or_notify_cancel():
                    continue
            start = time.perf_counter()
            try:
                result = pipeline.edit(job)
            except PipelineBroken as exc:
                self._settle(answer, ApiError("internal_error", "the pipeline broke during this edit; another worker may do it"))
                raise exc from None
            except MemoryError:
                self._settle(answer, ApiError("out_of_memory", "the edit needs more memory than there is; send a smaller image"))
            # A picture that one edit cannot take must not cost the others theirs.
            except Exception as exc:
                log.exception("an edit failed")
                self._settle(answer, exc)
            else:
                took = time.perf_counter() - start
                self._edit_s = _FORGET * self._edit_s + (1 - _FORGET) * took
                self._settle(answer, Outcome(result, start - ticket.entered, took))

    def _settle(self, answer: Future[Outcome], outcome: Outcome | Exception) -> None:
        """Answer a running job, unless a shutdown that lost patience has done so meanwhile."""
        with self._wake:
            if answer.done():
                return
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    def _end(self, cause: str) -> None:
        """Be dead, and answer everyone who waits."""
        with self._wake:
            self._state, self._cause = State.DEAD, cause
            waiting = [*([self._current] if self._current else []), *self._line]
            self._line.clear()
            self._wake.notify_all()
            for answer in (answer for ticket in waiting for answer in ticket.answers):
                if not answer.done() and (answer.running() or answer.set_running_or_notify_cancel()):
                    answer.set_exception(ApiError("not_ready", f"the editor stopped before this edit: {cause}"))

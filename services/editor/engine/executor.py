"""The executor: the one thread that owns the pipeline and the device.

Threads that share a pipeline produce silently wrong pictures, so it is built, warmed up and used on a single thread. (A pipeline
may run its text encoders and VAE on another; the executor then sees edits with ``pending`` work.)
Concurrency comes from interleaving: between two advances edits join, leave and change order as
`services.editor.engine.scheduler` decides. When the thread ends, for any reason, every pending future is resolved.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from PIL import Image

from services.editor.engine.cost_model import CostModel, Knot
from services.editor.engine.scheduler import (
    Limits,
    Request,
    SchedulerOutput,
    Work,
    backlog_s,
    due_time,
    eviction_candidate,
    expired,
    memory_full,
    next_expiry,
    schedule,
)
from services.editor.engine.token_limit import TokenLimit
from services.editor.engine.warmup import OperatorLimits, warm_up
from services.editor.pipelines import Edit, EditJob, EditResult, OutOfMemoryError, Pipeline, PipelineBrokenError
from services.errors import ApiError

log = logging.getLogger(__name__)
_INITIAL_CALL_S = 1.0  # assumed duration of a call until one has been measured
_MAX_RETRY_AFTER_S = 60.0
_MAX_PREEMPTED = 64  # beyond that, the preempted edit that expires first is dropped


class State(StrEnum):
    """The executor's lifecycle; only ``READY`` accepts requests."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


class ExecutorObserver(Protocol):
    """Receives what the executor does, on its thread."""

    def on_advance(self, edits: int, seconds: float, *, start: bool) -> None:
        """So many edits were advanced together, or one was started."""
        ...

    def on_wasted(self, steps: int) -> None:
        """An edit was dropped after so many denoise steps."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished edit.

    Attributes:
        result: the picture, before `Pipeline.finish`.
        queue_s: seconds until its first advance.
        edit_s: seconds of device time: its share of the advances, without the pauses between them, and its text encoder's and
            VAE's, where they run on another thread.
        stages: seconds of the stages that the pipeline reports (``encode``, ``denoise``, ``decode``).
        steps: denoise steps done; 0 for families without steps.
        batch: mean number of edits in its advances.
    """

    result: EditResult
    queue_s: float
    edit_s: float
    stages: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    batch: float = 1.0


Listener = Callable[[int, int, Image.Image | None], None]
"""Called with steps done, steps in all, and a new preview or None; on the executor's thread."""


@dataclass(slots=True, eq=False)
class EditHandle:
    """One edit submitted to the executor.

    The submitter waits for ``future``, and cancels it to stop the edit before its next advance. All other attributes belong
    to the executor.
    """

    id: int
    job: EditJob
    urgency: int = 0
    listener: Listener | None = None
    future: Future[Outcome] = field(default_factory=Future)
    arrived_at: float = field(default_factory=time.monotonic)
    due: float = 0.0
    preempted_until: float | None = None
    edit: Edit | None = None
    started_at: float | None = None
    device_s: float = 0.0
    ends_s: float = 0.0
    advances: int = 0
    batch_sizes: int = 0
    exclusive: bool = False

    def request(self) -> Request:
        """The edit as the scheduler sees it."""
        edit = self.edit
        if edit is None or not edit.started:
            return Request(self.id, self.due, preempted_until=self.preempted_until, exclusive=self.exclusive)
        pending = edit.pending is not None
        return Request(self.id, self.due, True, edit.group, edit.cost, self.preempted_until, self.exclusive, pending)

    @property
    def resumable(self) -> bool:
        """Whether the work that the edit waited for is done."""
        pending = None if self.edit is None else self.edit.pending
        return pending is not None and pending.done() and self.preempted_until is None

    def work(self) -> Work:
        """What is left of the edit; of one that is not opened yet, one call is known."""
        edit = self.edit
        return Work(1, 1, started=False) if edit is None else Work(edit.cost, max(0, edit.calls - edit.calls_done), edit.started)

    def set_due(self, work_s: float) -> None:
        """Set the due time of an edit of ``work_s`` seconds."""
        self.due = due_time(self.arrived_at, work_s, self.urgency)

    def record_advance(self, seconds: float, batch: int) -> None:
        """Account for one advance in a batch of so many; 0: it only went on after work on another thread."""
        self.device_s += seconds / max(1, batch)
        self.advances += batch > 0
        self.batch_sizes += batch

    def outcome(self, result: EditResult) -> Outcome:
        """The outcome of a finished edit."""
        assert self.edit is not None
        assert self.started_at is not None
        queue_s = self.started_at - self.arrived_at
        batch = self.batch_sizes / self.advances if self.advances else 1.0
        return Outcome(result, queue_s, self.device_s + self.edit.side_s, dict(self.edit.timings), self.edit.step, batch)

    def resolve(self, outcome: Outcome | Exception) -> None:
        """Resolve the future, unless it was cancelled or a shutdown has resolved it already."""
        if self.future.done() or not self.future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


def _by_due(handle: EditHandle) -> float:
    return handle.due


class Executor:
    """Runs edits, interleaved, on its own thread.

    Args:
        build: makes the pipeline; called on the executor's thread.
        observer: receives what the executor does.
        operator_limits: upper bounds set by the operator.
        queue: how many edits may wait in addition to those running.
        on_failure: called with what happened if the pipeline cannot be built or warmed up, or breaks later.
    """

    def __init__(
        self,
        build: Callable[[], Pipeline],
        observer: ExecutorObserver,
        operator_limits: OperatorLimits,
        *,
        queue: int,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_failure = on_failure
        self._build = build
        self._observer = observer
        self._operator_limits = operator_limits
        self._queue = queue
        self._handles: dict[int, EditHandle] = {}
        self._ids = itertools.count(1)
        self._in_flight = 0
        self._changed = threading.Condition()
        self._state = State.STARTING
        self._cause = "starting"
        self._pipeline: Pipeline | None = None
        self._limits = Limits(1, 1, 1)
        self._tokens = TokenLimit.measured(None)
        self._model = CostModel.of([Knot(1, _INITIAL_CALL_S)])
        self._last_pass: tuple[int, int] | None = None
        self._just_started = False
        self._side_work: list[Future[Any]] = []
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)

    @property
    def state(self) -> State:
        """The current lifecycle state."""
        return self._state

    @property
    def cause(self) -> str:
        """Why the executor is not ready, in words."""
        return self._cause

    @property
    def in_flight(self) -> int:
        """Admitted edits: decoding, waiting, running or encoding."""
        return self._in_flight

    @property
    def limits(self) -> Limits:
        """What the device takes at a time: as configured and measured, and reduced where memory ran out."""
        return self._limits

    @property
    def cost_model(self) -> CostModel:
        """What a pass costs: as the warm-up measured it, refined by every pass since."""
        return self._model

    @property
    def waiting(self) -> int:
        """Edits that wait for their first advance."""
        return sum(handle.started_at is None for handle in self._schedulable())

    @property
    def running(self) -> int:
        """Edits that are started and not finished, without the preempted ones."""
        return sum(handle.started_at is not None for handle in self._schedulable())

    def _schedulable(self) -> list[EditHandle]:
        return [handle for handle in list(self._handles.values()) if handle.preempted_until is None]

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline, for the members that any thread may use; edits go through `submit`.

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
        """Start the thread, which builds and warms up the pipeline."""
        self._thread.start()

    def admit(self, edits: int = 1) -> None:
        """Reserve capacity for so many edits; return it with `release`. A request always fits if nothing else is in flight.

        Raises:
            ApiError: ``overloaded`` when there is not enough capacity, ``not_ready`` when the executor is not ready.
        """
        with self._changed:
            if self._state is not State.READY:
                raise self._not_ready()
            if self._in_flight and self._in_flight + edits > self._queue + self._limits.active:
                message = f"{self._in_flight} edits are in flight, {self.waiting} of them waiting; try again later"
                raise ApiError("overloaded", message, retry_after=self._retry_after(edits))
            self._in_flight += edits

    def figures(self) -> Mapping[str, float]:
        """The pipeline's own metrics; empty until it is built."""
        return {} if self._pipeline is None else self._pipeline.figures()

    def _retry_after(self, edits: int) -> float:
        """Seconds after which to retry. Each refused caller is sent behind those refused before it, so that they do not all
        retry at once, only to be refused again.
        """
        now, backlog = time.monotonic(), self.backlog_s()
        each = backlog / max(1, len(self._schedulable()))
        self._retry_at = max(self._retry_at, now + backlog / 2) + edits * each
        return min(_MAX_RETRY_AFTER_S, max(1.0, self._retry_at - now))

    def backlog_s(self) -> float:
        """Seconds until all edits present now, without the preempted ones, would be finished."""
        return backlog_s([handle.work() for handle in self._schedulable()], self._limits, self._model)

    def release(self, edits: int = 1) -> None:
        """Return capacity reserved by `admit`."""
        with self._changed:
            self._in_flight -= edits
            self._changed.notify_all()

    def submit(self, jobs: Sequence[EditJob], urgency: int = 0, listeners: Sequence[Listener] = ()) -> list[EditHandle]:
        """Queue the jobs of one admitted request. Cancelling a handle's future stops its edit before the next advance.

        Args:
            jobs: prepared by the pipeline.
            urgency: head starts they get in the queue.
            listeners: one a job, or none.

        Raises:
            ApiError: ``not_ready`` when the executor has died since the request was admitted.
        """
        handles = [EditHandle(next(self._ids), job, urgency) for job in jobs]
        for handle, listener in zip(handles, listeners, strict=False):
            handle.listener = listener
        with self._changed:
            if self._state is State.DEAD:
                raise self._not_ready()
            self._handles.update((handle.id, handle) for handle in handles)
            self._changed.notify_all()
        return handles

    def preempt(self, handles: Sequence[EditHandle], seconds: float) -> None:
        """Pause edits: they keep their state, are not scheduled, and are dropped after so many seconds unless resumed."""
        until = time.monotonic() + seconds
        with self._changed:
            for handle in handles:
                handle.preempted_until = until
            preempted = [handle for handle in self._handles.values() if handle.preempted_until is not None]
            preempted.sort(key=lambda handle: handle.preempted_until or 0.0)
            for handle in preempted[:-_MAX_PREEMPTED]:
                handle.future.cancel()
            self._changed.notify_all()

    def resume(self, handles: Sequence[EditHandle]) -> None:
        """Continue preempted edits where they stopped."""
        with self._changed:
            for handle in handles:
                handle.preempted_until = None
            self._changed.notify_all()

    def wake(self) -> None:
        """Make the thread look for cancelled futures now."""
        with self._changed:
            self._changed.notify_all()

    def stop(self, grace_s: float) -> None:
        """Stop accepting, finish what is queued for up to ``grace_s`` seconds, then resolve the rest with an error."""
        with self._changed:
            if self._state is not State.DEAD:
                self._state, self._cause = State.DRAINING, "shutting down"
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(grace_s)
        self._terminate("shut down")

    def _run(self) -> None:
        try:
            pipeline = self._build()
            measured = warm_up(pipeline, self._operator_limits)
            with self._changed:
                self._pipeline, self._limits = pipeline, measured.limits
                self._tokens, self._model = measured.tokens, measured.model
                if self._state is State.STARTING:
                    self._state, self._cause = State.READY, "ready"
            while self._step(pipeline):
                pass
            pipeline.shutdown()
        # The edge of the thread: callers must be answered and readiness withdrawn, no matter what ended it.
        except BaseException as exc:
            log.critical("the pipeline's thread died", exc_info=exc)
            verb = "cannot start" if self._state is State.STARTING else "failed"
            self._terminate(f"the pipeline failed: {type(exc).__name__}")
            self._on_failure(f"{verb}: {type(exc).__name__}: {exc}")
        else:
            self._terminate("shut down")

    def _step(self, pipeline: Pipeline) -> bool:
        """Run one pass over the device, or wait until there is work; False when the thread is to end."""
        with self._changed:
            output = self._schedule(pipeline)
            if output is None:
                # An admitted request may still be decoding; it is served before the thread ends.
                if self._state is State.DEAD or (self._state is State.DRAINING and self._in_flight == 0):
                    return False
                expiry = next_expiry(self._requests())
                self._changed.wait(None if expiry is None else max(0.0, expiry - time.monotonic()))
                return True
            scheduled = [self._handles[number] for number in output.ids]
        self._just_started = output.start or (self._just_started and output.resume)
        self._advance(pipeline, output, scheduled)
        return True

    def _schedule(self, pipeline: Pipeline) -> SchedulerOutput | None:
        """The next pass. Where memory is full, preempted edits are evicted before another one is started."""
        while True:
            self._drop_finished(pipeline)
            self._open_new(pipeline)
            resumable = min((handle for handle in self._handles.values() if handle.resumable), key=_by_due, default=None)
            if resumable is not None:
                return SchedulerOutput((resumable.id,), start=False, resume=True)
            requests = self._requests()
            output = schedule(requests, self._limits, self._model, just_started=self._just_started)
            if output is None or not output.start:
                return output
            if self._handles[output.ids[0]].exclusive and self._overlapping():
                return None  # of a cancelled edit: the device is not empty yet
            if not memory_full(requests, self._limits) or not self._evict(pipeline):
                return output

    def _overlapping(self) -> bool:
        """Whether a text encoder or a VAE is at work on another thread."""
        self._side_work = [work for work in self._side_work if not work.done()]
        return bool(self._side_work)

    def _watch(self, handles: list[EditHandle]) -> None:
        """Have the thread woken when the work that these edits wait for is done."""
        for handle in handles:
            pending = None if handle.edit is None else handle.edit.pending
            if pending is not None:
                self._side_work.append(pending)
                pending.add_done_callback(lambda _: self.wake())

    def _requests(self) -> list[Request]:
        return [handle.request() for handle in self._handles.values()]

    def _drop_finished(self, pipeline: Pipeline) -> None:
        """Drop edits whose future is cancelled or resolved, or whose time as a preempted one is up."""
        for number in expired(self._requests(), time.monotonic()):
            self._handles[number].resolve(ApiError("request_timeout", "the caller disconnected and did not come back in time"))
        for handle in [handle for handle in self._handles.values() if handle.future.done()]:
            del self._handles[handle.id]
            if handle.edit is not None:
                self._observer.on_wasted(handle.edit.step)
                pipeline.close(handle.edit)

    def _open_new(self, pipeline: Pipeline) -> None:
        """Open an edit for each handle that has none yet."""
        for handle in [handle for handle in self._handles.values() if handle.edit is None]:
            try:
                handle.edit = pipeline.open(handle.job)
            # A job that cannot be opened must not end the thread that the others need.
            except Exception as exc:
                log.exception("an edit could not be opened")
                del self._handles[handle.id]
                handle.resolve(exc)
            else:
                handle.set_due(self._model.work_s(handle.edit.cost, handle.edit.calls))

    def _advance(self, pipeline: Pipeline, output: SchedulerOutput, handles: list[EditHandle]) -> None:
        start = time.monotonic()
        for handle in handles:
            handle.started_at = handle.started_at or start
        short: list[EditHandle] = []
        tokens = sum(handle.edit.cost for handle in handles if handle.edit is not None)  # of this pass, not of the next
        overlapped = self._overlapping()
        try:
            pipeline.advance([handle.edit for handle in handles if handle.edit is not None])
        except OutOfMemoryError as exc:
            # Handled below: in here the failed pass's allocations may still be alive.
            short = [handle for handle in handles if not exc.edits or handle.edit in exc.edits]
        except PipelineBrokenError:
            for handle in handles:
                handle.resolve(ApiError("internal_error", "the pipeline broke during this edit; another worker may do it"))
            raise
        done = [handle for handle in handles if handle not in short]
        if done:
            took = time.monotonic() - start
            ends = output.start or output.resume
            self._learn(done, took, tokens, ends=ends, exact=not short and not overlapped, lags=pipeline.lags)
            if not ends and not short and len(done) > 1:
                self._set_tokens(self._tokens.after_pass(tokens))
            self._watch(done)
            if not output.resume:
                self._observer.on_advance(len(done), took, start=output.start)
            for handle in done:
                handle.record_advance(took, 0 if output.resume else len(done))
                self._report(handle, went_on=output.resume)
        if short:
            self._handle_out_of_memory(pipeline, short)

    def _learn(self, handles: list[EditHandle], took: float, tokens: int, *, ends: bool, exact: bool, lags: bool) -> None:
        """Refine the cost model by a pass.

        Args:
            handles: that were advanced.
            took: seconds of the pass.
            tokens: of the pass.
            ends: whether it was not a pass of the denoiser.
            exact: whether it was all of the pass, and had the device to itself.
            lags: see `Pipeline.lags`.
        """
        edits = [handle.edit for handle in handles if handle.edit is not None]
        finished = [handle for handle in handles if handle.edit is not None and handle.edit.result is not None]
        this, before = (len(edits), tokens), self._last_pass
        pure = exact and not ends
        pure = pure and all(edit.error is None and edit.preview is None and edit.pending is None for edit in edits)
        # A device that lags shows here how long the pass before this one took, and in a decode also what was left to compute.
        pure = pure and not (lags and finished)
        self._last_pass = this if pure else None
        pass_s = took - sum(handle.edit.timings.get("decode", 0.0) for handle in finished if handle.edit is not None)
        if pure and (this == before or not lags) and pass_s > 0:
            self._model = self._model.observe(*this, pass_s)
        for handle in handles if ends else finished:
            handle.ends_s += took if ends else max(0.0, took - self._model.pass_s(*this)) / len(finished)
        for handle in finished:
            assert handle.edit is not None
            self._model = self._model.observe_ends(handle.edit.cost, handle.ends_s + handle.edit.side_s)

    def _set_tokens(self, tokens: TokenLimit) -> None:
        if tokens.tokens != self._tokens.tokens:
            self._limits = replace(self._limits, cost=tokens.tokens)
            log.info("a pass may have %s tokens", tokens.tokens)
        self._tokens = tokens

    def _report(self, handle: EditHandle, *, went_on: bool) -> None:
        """Resolve a finished edit's future, or tell the listener of another the step it has made, or its preview."""
        edit = handle.edit
        assert edit is not None
        if edit.error is not None:
            if isinstance(edit.error, ApiError) and edit.error.__cause__ is None:
                log.info("an edit was refused: %s", edit.error.code)
            else:
                log.error("an edit failed", exc_info=edit.error)
            self._finish(handle, edit.error)
        elif edit.result is not None:
            self._finish(handle, handle.outcome(edit.result))
        elif handle.listener is not None and not handle.future.done() and (edit.preview is not None or not went_on):
            preview, edit.preview = edit.preview, None
            handle.listener(edit.step, edit.steps, preview)

    def _finish(self, handle: EditHandle, outcome: Outcome | Exception) -> None:
        with self._changed:
            self._handles.pop(handle.id, None)
            handle.resolve(outcome)

    def _handle_out_of_memory(self, pipeline: Pipeline, handles: list[EditHandle]) -> None:
        """Reduce the limit of tokens if a batch ran out of memory. For an edit that was alone evict a preempted one; if there is
        none, restart it once, exclusively, and then refuse it.
        """
        requests = [handle.request() for handle in handles]
        costs = [request.cost for request in requests if request.started]
        if len(costs) == len(handles) > 1:
            pipeline.reclaim()
            log.warning("out of memory with a batch of %d edits of %d tokens", len(handles), sum(costs))
            self._set_tokens(self._tokens.after_out_of_memory(sum(costs)))
            return
        for handle in handles:
            assert handle.edit is not None
            if self._evict(pipeline):
                log.warning("out of memory with one edit; a preempted edit was evicted for it")
                continue
            pipeline.close(handle.edit)
            if handle.exclusive:
                message = "the edit needs more memory than the editor has; ask for a smaller size"
                self._finish(handle, ApiError("out_of_memory", message))
            else:
                log.warning("out of memory with one edit; it is restarted once, alone on the device")
                handle.exclusive, handle.edit, handle.ends_s = True, None, 0.0
        pipeline.reclaim()

    def _evict(self, pipeline: Pipeline) -> bool:
        """Drop the preempted edit that expires first; False if none holds memory."""
        with self._changed:
            number = eviction_candidate(self._requests())
            if number is None:
                return False
            message = "the caller disconnected and the edit's memory was needed"
            self._handles[number].resolve(ApiError("request_timeout", message))
            self._drop_finished(pipeline)
        return True

    def _terminate(self, cause: str) -> None:
        """Enter ``DEAD`` and resolve every pending future."""
        with self._changed:
            self._state, self._cause = State.DEAD, cause
            self._changed.notify_all()
            handles = list(self._handles.values())
            self._handles.clear()
            for handle in handles:
                handle.resolve(ApiError("not_ready", f"the editor stopped before this edit: {cause}"))

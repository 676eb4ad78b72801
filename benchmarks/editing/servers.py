"""Three ways to serve edits with one pipeline, in this process: one after another, equal ones as a list, and interleaved."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from benchmarks.editing.plain import WORKING_PIXELS, Plain
from benchmarks.editing.trace import Request
from services.editor.engine.executor import EditHandle, Executor, Outcome, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.pipelines import Edit, EditJob
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.interleaved import InterleavedEdit, InterleavedPipeline, Options
from services.editor.pipelines.kontext import FAMILY
from services.editor.pipelines.tuning import Tuning

_POLL_S = 0.005
_ACTIVE = 8
_QUEUE = 10_000


@dataclass(slots=True, eq=False)
class Record:
    """What became of a request; times are those of `time.perf_counter`.

    Attributes:
        arrived: when it was due to arrive, whether or not the load generator was late.
        done: when its picture was there.
        left: when its caller cancelled it; None if it was done before.
        let_go: when the server stopped working on it after that, or dropped it.
        calls: calls of the denoiser that were made for it.
    """

    request: Request
    arrived: float
    picture: Image.Image | None = None
    done: float | None = None
    left: float | None = None
    let_go: float | None = None
    calls: int = 0


class Server(Protocol):
    """What requests are sent to."""

    def submit(self, record: Record) -> None:
        """A request arrives."""
        ...

    def cancel(self, record: Record) -> None:
        """Its caller leaves."""
        ...

    def settle(self, limit_s: float) -> None:
        """Wait until nothing is under way and every record is complete."""
        ...

    def stop(self) -> None:
        """End the server's thread."""
        ...


def wait_for(ready: Any, limit_s: float, what: str) -> None:
    """Wait until ``ready()``.

    Raises:
        TimeoutError: when it takes longer than the limit.
    """
    ends = time.perf_counter() + limit_s
    while not ready():
        if time.perf_counter() > ends:
            raise TimeoutError(f"{what} took longer than {limit_s:.0f} s")
        time.sleep(_POLL_S)


class Lists:
    """The plain pipeline behind a queue: the oldest request, and with it the waiting ones of its kind, as one list.

    Args:
        plain: the pipeline.
        most: how long a list may be; 1: one request after another, as behind a lock.
    """

    def __init__(self, plain: Plain, most: int) -> None:
        self._plain = plain
        self._most = most
        self._waiting: list[Record] = []
        self._running: list[Record] = []
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def submit(self, record: Record) -> None:
        """See `Server.submit`."""
        with self._wake:
            self._waiting.append(record)
            self._wake.notify_all()

    def cancel(self, record: Record) -> None:
        """Drop the request if it waits; one that runs goes on to its end."""
        with self._wake:
            if record.done is not None:
                return
            record.left = time.perf_counter()
            if record in self._waiting:
                self._waiting.remove(record)
                record.let_go = record.left

    def settle(self, limit_s: float) -> None:
        """See `Server.settle`."""
        wait_for(lambda: not self._waiting and not self._running, limit_s, "serving the trace")

    def stop(self) -> None:
        """See `Server.stop`."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        self._thread.join()

    def _live(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                kind = self._waiting[0].request.kind
                self._running = [record for record in self._waiting if record.request.kind == kind][: self._most]
                self._waiting = [record for record in self._waiting if record not in self._running]
            pictures = self._plain.edit([record.request for record in self._running])
            self._answer(pictures)

    def _answer(self, pictures: Sequence[Image.Image]) -> None:
        with self._wake:
            now = time.perf_counter()
            for record, made in zip(self._running, pictures, strict=True):
                record.calls = record.request.calls
                if record.left is None:
                    record.done, record.picture = now, made
                else:
                    record.let_go = now
            self._running = []


class Passes:
    """CountingObserver the passes over the model; the executor's observer."""

    def __init__(self) -> None:
        self.calls = 0
        self.passes = 0

    def on_advance(self, edits: int, seconds: float, *, start: bool) -> None:
        """See `services.editor.engine.executor.Meter.advanced`."""
        del seconds
        if not start:
            self.calls += edits
            self.passes += 1

    def on_wasted(self, steps: int) -> None:
        """The records tell."""


class Observed(InterleavedPipeline):
    """Ours, noting when an edit is let go.

    Args:
        pipe: the plain pipeline.
        remember: whether what the encoders compute is kept.
        in_order: make every edit look equally long, so that whoever came first is due first.
    """

    def __init__(self, pipe: Any, *, remember: bool, in_order: bool) -> None:
        kept = Tuning().encoder_cache_bytes if remember else 0
        super().__init__(FAMILY, pipe, Device("cpu"), Options(WORKING_PIXELS, kept))
        self._in_order = in_order
        self.closed: dict[int, float] = {}

    def open(self, job: EditJob) -> InterleavedEdit:
        """See `InterleavedPipeline.open`."""
        edit = super().open(job)
        if self._in_order:
            edit.calls = 0
        return edit

    def close(self, edit: Edit) -> None:
        """See `InterleavedPipeline.close`."""
        super().close(edit)
        assert isinstance(edit, InterleavedEdit)
        self.closed[edit.number] = time.perf_counter()


class Interleaved:
    """Ours: the executor over the stepped pipeline.

    Args:
        pipe: the plain pipeline.
        remember: see `Observed`.
        in_order: see `Observed`.
    """

    def __init__(self, pipe: Any, *, remember: bool = True, in_order: bool = False) -> None:
        self._model = pipe.transformer
        self._pipeline = Observed(pipe, remember=remember, in_order=in_order)
        self._tickets: dict[Record, EditHandle] = {}
        self._failed: BaseException | None = None
        self.observer = Passes()
        self.executor = Executor(lambda: self._pipeline, self.observer, OperatorLimits(active=_ACTIVE, batch=None), queue=_QUEUE)
        self.executor.start()
        wait_for(lambda: self.executor.state is not State.STARTING, 120.0, "warming up")
        assert self.executor.state is State.READY, self.executor.cause

    def submit(self, record: Record) -> None:
        """See `Server.submit`."""
        self.executor.admit()
        (handle,) = self.executor.submit([self._pipeline.prepare(record.request.job())])
        self._tickets[record] = handle
        handle.future.add_done_callback(lambda answer: self._answered(record, answer))

    def _answered(self, record: Record, answer: Any) -> None:
        now = time.perf_counter()
        self.executor.release()
        if answer.cancelled():
            return
        if answer.exception() is not None:
            self._failed = answer.exception()
            return
        outcome: Outcome = answer.result()
        record.picture, record.done = outcome.result.image, now

    def cancel(self, record: Record) -> None:
        """Cancel its answer, as a request does whose connection is gone."""
        now = time.perf_counter()
        if self._tickets[record].future.cancel():
            record.left = now
            self.executor.wake()

    def settle(self, limit_s: float) -> None:
        """See `Server.settle`."""
        wait_for(lambda: self._failed or all(map(self._complete, self._tickets)), limit_s, "serving the trace")
        if self._failed is not None:
            raise self._failed
        self._tickets.clear()

    def _complete(self, record: Record) -> bool:
        """Whether the record is; notes what is known only once the executor is through with it."""
        edit = self._tickets[record].edit
        record.calls = edit.calls_done if isinstance(edit, InterleavedEdit) else 0
        if record.left is None:
            return record.done is not None
        if edit is None:  # dropped before it was looked at
            record.let_go = record.let_go or record.left
        elif isinstance(edit, InterleavedEdit):
            record.let_go = self._pipeline.closed.get(edit.number)
        return record.let_go is not None

    def stop(self) -> None:
        """See `Server.stop`."""
        self.executor.stop(5.0)
        # The pipeline may have dressed the model's layers; the next server is to find it as it was.
        for module in self._model.modules():
            vars(module).pop("forward", None)

    @property
    def note(self) -> str:
        """What it says of its work."""
        passes, memory = self.observer, self._pipeline.encoder_cache
        share = passes.calls / max(1, passes.passes)
        return f"{self.executor.limits}; {share:.2f} calls a pass; encoders answered {memory.hits} times from memory"

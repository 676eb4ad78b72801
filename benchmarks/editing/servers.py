"""Three servers over one pipeline, in this process: one edit after another, equal edits as a list, and interleaved."""

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
    """The outcome of a request; times are by `time.perf_counter`.

    Attributes:
        arrived: when it was due to arrive, even if the load generator was late.
        done: when its picture was ready.
        left: when its caller cancelled it; None if it had finished.
        released: when the server stopped working on it after that.
        calls: calls of the denoiser made for it.
    """

    request: Request
    arrived: float
    picture: Image.Image | None = None
    done: float | None = None
    left: float | None = None
    released: float | None = None
    calls: int = 0


class Server(Protocol):
    """A server under test."""

    def submit(self, record: Record) -> None:
        """A request arrives."""
        ...

    def cancel(self, record: Record) -> None:
        """Its caller cancels."""
        ...

    def settle(self, limit_s: float) -> None:
        """Wait until nothing is in flight and every record is complete."""
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
    """The plain pipeline behind a queue: the oldest request and the waiting ones of its kind run as one list.

    Args:
        plain: the pipeline.
        max_list: length limit of a list; 1: one request after another, as behind a lock.
    """

    def __init__(self, plain: Plain, max_list: int) -> None:
        self._plain = plain
        self._max_list = max_list
        self._waiting: list[Record] = []
        self._running: list[Record] = []
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, record: Record) -> None:
        """See `Server.submit`."""
        with self._wake:
            self._waiting.append(record)
            self._wake.notify_all()

    def cancel(self, record: Record) -> None:
        """Drop the request if it waits; a running one continues to its end."""
        with self._wake:
            if record.done is not None:
                return
            record.left = time.perf_counter()
            if record in self._waiting:
                self._waiting.remove(record)
                record.released = record.left

    def settle(self, limit_s: float) -> None:
        """See `Server.settle`."""
        wait_for(lambda: not self._waiting and not self._running, limit_s, "serving the trace")

    def stop(self) -> None:
        """See `Server.stop`."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                kind = self._waiting[0].request.kind
                self._running = [record for record in self._waiting if record.request.kind == kind][: self._max_list]
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
                    record.released = now
            self._running = []


class Passes:
    """Counts passes over the model, as the executor's observer."""

    def __init__(self) -> None:
        self.calls = 0
        self.passes = 0

    def on_advance(self, edits: int, seconds: float, *, start: bool) -> None:
        """See `services.editor.engine.executor.ExecutorObserver`."""
        del seconds
        if not start:
            self.calls += edits
            self.passes += 1

    def on_wasted(self, steps: int) -> None:
        """Counted from the records."""


class Observed(InterleavedPipeline):
    """Our pipeline, which records when an edit is released.

    Args:
        pipe: the plain pipeline.
        cache: whether the encoder cache is on.
        in_order: make every edit look equally long, so that edits run in order of arrival.
    """

    def __init__(self, pipe: Any, *, cache: bool, in_order: bool) -> None:
        cache_bytes = Tuning().encoder_cache_bytes if cache else 0
        super().__init__(FAMILY, pipe, Device("cpu"), Options(WORKING_PIXELS, cache_bytes))
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
    """Our server: the executor over the interleaved pipeline.

    Args:
        pipe: the plain pipeline.
        cache: see `Observed`.
        in_order: see `Observed`.
    """

    def __init__(self, pipe: Any, *, cache: bool = True, in_order: bool = False) -> None:
        self._model = pipe.transformer
        self._pipeline = Observed(pipe, cache=cache, in_order=in_order)
        self._handles: dict[Record, EditHandle] = {}
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
        self._handles[record] = handle
        handle.future.add_done_callback(lambda future: self._finished(record, future))

    def _finished(self, record: Record, future: Any) -> None:
        now = time.perf_counter()
        self.executor.release()
        if future.cancelled():
            return
        if future.exception() is not None:
            self._failed = future.exception()
            return
        outcome: Outcome = future.result()
        record.picture, record.done = outcome.result.image, now

    def cancel(self, record: Record) -> None:
        """Cancel its future, as a disconnected request does."""
        now = time.perf_counter()
        if self._handles[record].future.cancel():
            record.left = now
            self.executor.wake()

    def settle(self, limit_s: float) -> None:
        """See `Server.settle`."""
        wait_for(lambda: self._failed or all(map(self._complete, self._handles)), limit_s, "serving the trace")
        if self._failed is not None:
            raise self._failed
        self._handles.clear()

    def _complete(self, record: Record) -> bool:
        """Whether the record is complete; sets what is known only after the executor has finished it."""
        edit = self._handles[record].edit
        record.calls = edit.calls_done if isinstance(edit, InterleavedEdit) else 0
        if record.left is None:
            return record.done is not None
        if edit is None:  # dropped before it was opened
            record.released = record.released or record.left
        elif isinstance(edit, InterleavedEdit):
            record.released = self._pipeline.closed.get(edit.number)
        return record.released is not None

    def stop(self) -> None:
        """See `Server.stop`."""
        self.executor.stop(5.0)
        # Restore the linear layers that `BatchInvariance` may have patched, for the next server.
        for module in self._model.modules():
            vars(module).pop("forward", None)

    @property
    def note(self) -> str:
        """A summary of its work."""
        passes, encoders = self.observer, self._pipeline.encoder_cache
        share = passes.calls / max(1, passes.passes)
        return f"{self.executor.limits}; {share:.2f} calls a pass; {encoders.hits} hits in the encoder cache"

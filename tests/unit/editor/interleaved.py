"""A pipeline with steps and without a model, each advance of which a test can block, observe or fail."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from services.editor.engine.executor import Executor, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.pipelines import Capabilities, Edit, EditJob, EditResult, OutOfMemoryError, Range
from tests.doubles.waiting import wait


@dataclass(slots=True, eq=False)
class Stepping:
    """One edit of `Steps`."""

    job: EditJob
    steps: int
    calls: int
    started: bool = False
    group: Hashable | None = None
    cost: int = 1
    calls_done: int = 0
    step: int = 0
    preview: Image.Image | None = None
    timings: dict[str, float] = field(default_factory=dict)
    result: EditResult | None = None
    error: Exception | None = None
    blamed: str = "prompt"
    pending: Future[Any] | None = None
    side_s: float = 0.0


class Steps:
    """Unless ``free``, every advance except the warm-up's waits for ``gate``. ``log`` has the seeds of each advance, ``closed``
    the seeds of dropped edits, and ``entered`` is the number of advances begun.
    """

    interruptible = True
    max_active: int | None = None
    lags = False
    overlaps = False
    name = "steps"

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.free = True
        self.entered = 0
        self.log: list[tuple[int, ...]] = []
        self.closed: list[int] = []
        self.breaks: Callable[[Stepping], Exception | None] = lambda _: None
        self.fits: Callable[[Sequence[Stepping]], bool] = lambda _: True
        self.device_memory: tuple[int, int] | None = None
        self.reclaimed = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            partial_images=3,
            negative_prompt=True,
            negative_prompt_needs="true_cfg_scale",
            parameters={"num_inference_steps": Range(1, 100, 4, whole=True), "true_cfg_scale": Range(1, 9, 1)},
        )

    @property
    def warm_up(self) -> EditJob:
        return EditJob(Image.new("RGB", (8, 8)), "warm up", -1, parameters={"num_inference_steps": 2})

    def prepare(self, job: EditJob) -> EditJob:
        return job

    def open(self, job: EditJob) -> Stepping:
        steps = int(job.parameters.get("num_inference_steps", 4))
        return Stepping(job, steps, steps)

    def advance(self, edits: Sequence[Edit]) -> None:
        batch = [edit for edit in edits if isinstance(edit, Stepping)]
        warming = batch[0].job.seed == -1
        if not warming:
            self.entered += 1
            if not self.free:
                assert self.gate.acquire(timeout=20)
            self.log.append(tuple(edit.job.seed for edit in batch))
        if not self.fits(batch):
            raise OutOfMemoryError("no room")
        for edit in batch:
            edit.error = self.breaks(edit)
            if edit.error is None:
                self._go_on(edit)

    def _go_on(self, edit: Stepping) -> None:
        if not edit.started:
            edit.started, edit.group = True, edit.job.image.size
            return
        edit.step += 1
        edit.calls_done += 1
        due = {round(edit.steps * place / (edit.job.previews + 1)) for place in range(1, edit.job.previews + 1)}
        if edit.step in due:
            edit.preview = Image.new("RGB", (4, 4), (edit.step, 0, 0))
        if edit.step == edit.steps:
            edit.timings = {"encode": 0.1, "denoise": 0.2, "decode": 0.3}
            edit.result = EditResult(edit.job.image)

    def close(self, edit: Edit) -> None:
        assert isinstance(edit, Stepping)
        self.closed.append(edit.job.seed)

    def reclaim(self) -> None:
        self.reclaimed += 1

    def shutdown(self) -> None: ...

    def memory(self) -> tuple[int, int] | None:
        return self.device_memory

    def figures(self) -> Mapping[str, float]:
        return {}

    def finish(self, job: EditJob, result: EditResult) -> EditResult:
        del job
        return result


class CountingObserver:
    """Records batches and wasted steps."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.dropped: list[int] = []

    def on_advance(self, edits: int, seconds: float, *, start: bool) -> None:
        assert seconds >= 0
        if not start:
            self.batches.append(edits)

    def on_wasted(self, steps: int) -> None:
        self.dropped.append(steps)


def job(seed: int, steps: int = 4, side: int = 8, **more: Any) -> EditJob:
    return EditJob(Image.new("RGB", (side, side)), "x", seed, parameters={"num_inference_steps": steps}, **more)


@contextlib.contextmanager
def running(
    pipeline: Steps, observer: CountingObserver | None = None, batch: int | None = 4, active: int = 8
) -> Iterator[Executor]:
    executor = Executor(lambda: pipeline, observer or CountingObserver(), OperatorLimits(active, batch), queue=100)
    executor.start()
    wait(lambda: executor.state is not State.STARTING)
    yield executor
    pipeline.free = True
    for _ in range(500):
        pipeline.gate.release()
    executor.stop(10)


def steps_of(pipeline: Steps, number: int) -> None:
    """Let so many advances run, and wait until the last has finished."""
    target = len(pipeline.log) + number
    for _ in range(number):
        pipeline.gate.release()
    wait(lambda: len(pipeline.log) >= target)

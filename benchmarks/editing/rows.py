"""The rows of the GPU table: variants of running a model. A row that fails gives the reason and does not affect the others."""

from __future__ import annotations

import gc
import importlib
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.editing.full_size import SIDE, TINY_SIDE, Model
from benchmarks.editing.report import UNKNOWN, difference
from benchmarks.editing.servers import Passes, wait_for
from benchmarks.editing.work import Count, counted
from services.editor.engine.executor import Executor, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.pipelines import EditJob
from services.editor.pipelines.diffusion.device import Device
from services.editor.pipelines.diffusion.family import Family
from services.editor.pipelines.diffusion.loading import serve
from services.editor.pipelines.registry import DIFFUSION, family_of
from services.editor.pipelines.tuning import Tuning

_MOST = 8
"""Edits on the device at a time."""
_BRIEF = 4
"""Rows of several edits take this fraction of the steps: what a step costs does not depend on their number."""
_MARGIN = 1.5
"""A row is begun if this multiple of its expected time is left."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run a model, and how many edits are submitted together.

    Attributes:
        name: ``plain`` is the plain pipeline's call; others are speed presets.
        concurrency: edits submitted together.
        half: whether they are half as wide and high.
    """

    name: str
    concurrency: int = 1
    half: bool = False

    @property
    def label(self) -> str:
        """Its name in the table, and for ``--only``."""
        return self.name if self.name == "plain" else f"{self.name} x{self.concurrency}{' half' if self.half else ''}"


@dataclass(slots=True)
class Row:
    """What was measured.

    Attributes:
        side: width and height of the pictures.
        seconds: until the last of the edits submitted together has finished; the median of the repeats.
        per_edit: the same for each of them.
        share: of the device's peak, for the operations of the plain pipeline; NaN where it is unknown.
        peak_bytes: most device memory allocated at a time.
        batch: mean edits in one advance.
        differs: largest difference from the plain pipeline's picture, of 255.
        applied: options of the preset in effect.
        reason: of a failure.
    """

    model: str
    variant: str
    concurrency: int
    steps: int
    side: int
    seconds: float = UNKNOWN
    per_edit: float = UNKNOWN
    share: float = UNKNOWN
    peak_bytes: float = UNKNOWN
    batch: float = UNKNOWN
    differs: float = UNKNOWN
    applied: str = ""
    reason: str = ""


@dataclass(slots=True)
class Bench:
    """One model on one device.

    Attributes:
        repeats: how often each row is measured after its warm-up.
        peak: operations a second that the device could do; None if unknown.
        ready_s: how long a preset may take to warm up, which compiles.
        count: operations of one edit of the plain pipeline, once counted.
        expected: the plain pipeline's picture of the first job.
    """

    model: Model
    device: torch.device
    dtype: torch.dtype
    tiny: bool
    steps: int
    repeats: int
    peak: float | None
    ready_s: float = 120.0
    count: Count | None = None
    expected: Image.Image | None = None
    family: Family = field(init=False)
    _pipe: Any = None
    _preset: str | None = None
    _executor: Executor | None = None
    _step_s: float = 0.0

    def __post_init__(self) -> None:
        name = family_of(self.model.pipeline_class)
        if name is None:
            raise ValueError(f"no family serves {self.model.pipeline_class}")
        self.family = importlib.import_module(DIFFUSION[name][0]).FAMILY

    @property
    def side(self) -> int:
        """Pixels of a side of the pictures."""
        return TINY_SIDE if self.tiny else SIDE

    def measure(self, variant: Variant, left_s: float) -> Row:
        """Measure a variant within so many seconds; on failure the row has a ``reason``."""
        steps = self.steps if variant.concurrency == 1 else max(2, self.steps // _BRIEF)
        side = self.side // 2 if variant.half else self.side
        row = Row(self.model.name, variant.label, variant.concurrency, steps, side)
        expected = _MARGIN * self._step_s * steps * variant.concurrency * self.repeats
        if left_s <= expected:
            row.reason = f"out of time: it would take about {expected:.0f} s"
            return row
        try:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            if variant.name == "plain":
                self._plain(row)
            else:
                self._ours(variant, row, left_s)
            if self.device.type == "cuda":
                row.peak_bytes = float(torch.cuda.max_memory_allocated(self.device))
        except Exception as exc:  # noqa: BLE001 - a missing kernel or too little memory must not end the other rows
            row.reason = f"{type(exc).__name__}: {str(exc).splitlines()[0][:160] if str(exc) else ''}"
            self.drop()
        return row

    def drop(self) -> None:
        """Free the model."""
        if self._executor is not None:
            self._executor.stop(10.0)
        self._executor = self._pipe = self._preset = None
        gc.collect()
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # or the next model's compilations would count towards the limit of recompilations
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _fresh(self) -> Any:
        """The model, whose class works at the area of the benchmark, for the plain call too."""
        self.drop()
        pipe = self.model.pipeline(self.tiny, self.device, self.dtype)
        if self.family.rescale is not None:
            self.family.rescale(type(pipe), self.side**2)
        return pipe

    def _job(self, number: int, row: Row) -> EditJob:
        dice = np.random.default_rng(number)
        patches = Image.fromarray(dice.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        source = patches.resize((row.side, row.side), Image.Resampling.BICUBIC)
        parameters = {"num_inference_steps": float(row.steps), **self.model.parameters}
        size = None if row.side == self.side else (row.side, row.side)
        return EditJob(source, f"instruction {number}", seed=number, size=size, parameters=parameters, source=f"picture {number}")

    def _plain(self, row: Row) -> None:
        pipe = self._fresh()
        with counted(getattr(pipe, self.family.denoiser)) as self.count:
            self._call(pipe, row)
        times = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            self.expected = self._call(pipe, row)
            times.append(time.perf_counter() - start)
        self._fill(row, times)

    def _call(self, pipe: Any, row: Row) -> Image.Image:
        job = self._job(0, row)
        arguments = self.family.arguments(job, self.side**2)
        generator = torch.Generator("cpu").manual_seed(job.seed)
        pictures = pipe(**arguments, generator=generator, output_type="pt", return_dict=False)[0]
        return Device(str(self.device)).to_image(pictures[0])

    def _ours(self, variant: Variant, row: Row, left_s: float) -> None:
        ends = time.perf_counter() + left_s
        executor = self._executor_at(variant.name, min(left_s, self.ready_s))
        report = executor.pipeline.capabilities.speed
        row.applied = ", ".join(f"{name} {value}" for name, value in report.applied.items())
        times = [self._edits(executor, row, 1000 * repeat, ends) for repeat in range(self.repeats)]
        # With random weights, the effect of a lossy preset on the picture says nothing about trained models.
        if {"cache", "quantization"} & set(report.applied):
            row.differs = UNKNOWN
        self._fill(row, times)

    def _executor_at(self, preset: str, ready_s: float) -> Executor:
        """An executor that serves the model at a preset, warmed up; kept for the rows of the same preset."""
        if self._executor is None or self._preset != preset:
            pipe, device = self._fresh(), Device(str(self.device))
            # Without the encoder cache: every source is new.
            tuning = Tuning(speed=preset, pixels=self.side**2, encoder_cache_bytes=0)
            limits = OperatorLimits(active=_MOST, batch=None)
            self._executor = Executor(lambda: serve(self.family, pipe, device, tuning), Passes(), limits, queue=_MOST)
            self._preset, self._pipe = preset, pipe
            self._executor.start()
        executor = self._executor
        wait_for(lambda: executor.state is not State.STARTING, ready_s, "warming up")
        if executor.state is not State.READY:
            raise RuntimeError(executor.cause)
        return executor

    def _edits(self, executor: Executor, row: Row, first: int, ends: float) -> float:
        """Seconds from submitting ``row.concurrency`` edits until the last picture is there."""
        jobs = [executor.pipeline.prepare(self._job(first + place, row)) for place in range(row.concurrency)]
        executor.admit(row.concurrency)
        start = time.perf_counter()
        try:
            outcomes = [handle.future.result(ends - time.perf_counter()) for handle in executor.submit(jobs)]
        finally:
            executor.release(row.concurrency)
        took = time.perf_counter() - start
        row.batch = statistics.mean(outcome.batch for outcome in outcomes)
        if first == 0 and self.expected is not None and row.side == self.side and row.steps == self.steps:
            row.differs = difference(outcomes[0].result.image, self.expected)
        return took

    def _fill(self, row: Row, times: Sequence[float]) -> None:
        row.seconds = statistics.median(times)
        row.per_edit = row.seconds / row.concurrency
        if row.concurrency == 1:
            self._step_s = row.per_edit / row.steps
        if self.peak and self.count and row.side == self.side:
            row.share = self.count.total * (row.steps / self.steps) / row.per_edit / self.peak


def variants(family: Family) -> list[Variant]:
    """All variants of a family; those of one preset follow each other, and the most certain come first."""
    # Without a step cache turbo is fast.
    presets = ("exact", "fast", "turbo") if family.step_caches else ("exact", "fast")
    loads = ((1, False), (4, False), (8, True))
    return [Variant("plain"), *(Variant(preset, count, half) for preset in presets for count, half in loads)]

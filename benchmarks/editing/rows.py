"""The rows of the GPU table: variants of running a model. A row that fails gives the reason and does not affect the others."""

from __future__ import annotations

import gc
import importlib.util
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

_READY_S, _EDITS_S = 900.0, 900.0


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run a model: ``tuning`` None is the plain pipeline's call; ``concurrency`` edits are submitted together."""

    name: str
    tuning: Tuning | None
    concurrency: int = 1

    @property
    def label(self) -> str:
        """Its name in the table, and for ``--only``."""
        return f"{self.name} x{self.concurrency}" if self.tuning else self.name


@dataclass(slots=True)
class Row:
    """What was measured.

    Attributes:
        seconds: until the last of the edits submitted together has finished; the median of the repeats.
        per_edit: the same for each of them.
        share: of the device's peak, for the operations of the plain pipeline; NaN where it is unknown.
        done: share of the linear operations that a step cache did not skip.
        batch: mean edits in one advance.
        differs: largest difference from the plain pipeline's picture, of 255.
        reason: of a failure.
    """

    model: str
    variant: str
    concurrency: int
    steps: int
    seconds: float = UNKNOWN
    per_edit: float = UNKNOWN
    share: float = UNKNOWN
    done: float = UNKNOWN
    batch: float = UNKNOWN
    differs: float = UNKNOWN
    reason: str = ""


@dataclass(slots=True)
class Bench:
    """One model on one device.

    Attributes:
        repeats: how often each row is measured after its warm-up.
        peak: operations a second that the device could do; None if unknown.
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
    count: Count | None = None
    expected: Image.Image | None = None
    family: Family = field(init=False)
    _pipe: Any = None
    _exact: bool = True

    def __post_init__(self) -> None:
        name = family_of(self.model.pipeline_class)
        if name is None:
            raise ValueError(f"no family serves {self.model.pipeline_class}")
        self.family = importlib.import_module(DIFFUSION[name][0]).FAMILY

    @property
    def side(self) -> int:
        """Pixels of a side of the pictures."""
        return TINY_SIDE if self.tiny else SIDE

    def measure(self, variant: Variant) -> Row:
        """Measure a variant; on failure the row has a ``reason``."""
        row = Row(self.model.name, variant.label, variant.concurrency, self.steps)
        try:
            pipe = self._fresh(variant.tuning)
            if variant.tuning is None:
                self._plain(pipe, row)
            else:
                self._ours(pipe, variant.tuning, row)
        except Exception as exc:  # noqa: BLE001 - a missing kernel or too little memory must not end the other rows
            row.reason = f"{type(exc).__name__}: {str(exc).splitlines()[0][:160] if str(exc) else ''}"
            self.drop()
        return row

    def drop(self) -> None:
        """Free the model."""
        self._pipe = None
        gc.collect()
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # or the next model's compilations would count towards the limit of recompilations
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _fresh(self, tuning: Tuning | None) -> Any:
        """The model, rebuilt if a tuning has changed it in place or will do so."""
        exact = tuning is None or tuning == tuned(self.tiny)
        if self._pipe is None or not exact or not self._exact:
            self.drop()
            self._pipe = self.model.pipeline(self.tiny, self.device, self.dtype)
            self._exact = exact
            # Sets the working area of the class, for the plain call too.
            if self.family.rescale is not None:
                self.family.rescale(type(self._pipe), self.side**2)
        return self._pipe

    def _job(self, number: int) -> EditJob:
        dice = np.random.default_rng(number)
        patches = Image.fromarray(dice.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        source = patches.resize((self.side, self.side), Image.Resampling.BICUBIC)
        parameters = {"num_inference_steps": float(self.steps), **self.model.parameters}
        return EditJob(source, f"instruction {number}", seed=number, parameters=parameters, source=f"picture {number}")

    def _plain(self, pipe: Any, row: Row) -> None:
        with counted(getattr(pipe, self.family.denoiser)) as self.count:
            self._call(pipe, self._job(0))
        times = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            self.expected = self._call(pipe, self._job(0))
            times.append(time.perf_counter() - start)
        self._fill(row, times)

    def _call(self, pipe: Any, job: EditJob) -> Image.Image:
        arguments = self.family.arguments(job, self.side**2)
        generator = torch.Generator("cpu").manual_seed(job.seed)
        pictures = pipe(**arguments, generator=generator, output_type="pt", return_dict=False)[0]
        return Device(str(self.device)).to_image(pictures[0])

    def _ours(self, pipe: Any, tuning: Tuning, row: Row) -> None:
        device = Device(str(self.device))
        if tuning.quantization not in (None, "fp8") and importlib.util.find_spec("torchao") is None:
            raise ModuleNotFoundError("torchao is not installed")
        limits = OperatorLimits(active=row.concurrency, batch=row.concurrency)
        executor = Executor(lambda: serve(self.family, pipe, device, tuning), Passes(), limits, queue=4 * row.concurrency)
        executor.start()
        try:
            wait_for(lambda: executor.state is not State.STARTING, _READY_S, "warming up")
            if executor.state is not State.READY:
                raise RuntimeError(executor.cause)
            times = [self._edits(executor, row, 1000 * repeat) for repeat in range(self.repeats)]
            if tuning.cache is not None and self.count is not None:
                with counted(getattr(pipe, self.family.denoiser)) as count:
                    self._edits(executor, row, -1)
                row.done = count.linear / row.concurrency / self.count.linear
        finally:
            executor.stop(30.0)
        # With random weights, the effect of a lossy tuning on the picture says nothing about trained models.
        if tuning.cache is not None or tuning.quantization is not None:
            row.differs = UNKNOWN
        self._fill(row, times)

    def _edits(self, executor: Executor, row: Row, first: int) -> float:
        """Seconds from submitting ``row.concurrency`` edits until the last picture is there."""
        jobs = [self._job(abs(first) + place) for place in range(row.concurrency)]
        executor.admit(row.concurrency)
        start = time.perf_counter()
        try:
            outcomes = [handle.future.result(_EDITS_S) for handle in executor.submit(jobs)]
        finally:
            executor.release(row.concurrency)
        took = time.perf_counter() - start
        row.batch = statistics.mean(outcome.batch for outcome in outcomes)
        if first == 0 and self.expected is not None:
            row.differs = difference(outcomes[0].result.image, self.expected)
        return took

    def _fill(self, row: Row, times: Sequence[float]) -> None:
        row.seconds = statistics.median(times)
        row.per_edit = row.seconds / row.concurrency
        if self.peak and self.count:
            row.share = self.count.total / row.per_edit / self.peak


def tuned(tiny: bool, **choices: Any) -> Tuning:  # noqa: FBT001 - a size
    """A tuning for a size, without the encoder cache: every source is new."""
    return Tuning(pixels=TINY_SIDE**2 if tiny else None, encoder_cache_bytes=0, **choices)


def variants(tiny: bool) -> list[Variant]:  # noqa: FBT001 - a size
    """All variants, ordered so that those with equal tuning share a model; compiled ones come last."""
    choices: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
        ("ours", {}, (1, 2, 4, 8)),
        ("first_block", {"cache": "first_block"}, (1,)),
        ("fp8", {"quantization": "fp8"}, (1, 4)),
        ("float8dq", {"quantization": "float8dq"}, (1, 4)),
        ("compile", {"compile": True}, (1, 4)),
        ("compile, float8dq", {"compile": True, "quantization": "float8dq"}, (1, 4)),
    ]
    return [
        Variant("plain", None),
        *(Variant(name, tuned(tiny, **choice), n) for name, choice, counts in choices for n in counts),
    ]

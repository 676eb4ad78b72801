"""The warm-up before the worker is ready: run the pipeline once, and measure how many edits the device takes at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from services.editor.engine.scheduler import COST_SLACK, Limits
from services.editor.pipelines import Edit, EditJob, OutOfMemoryError, Pipeline

log = logging.getLogger(__name__)

MAX_PROBED_BATCH = 8
"""The largest batch that is measured."""
_NO_GAIN = 0.97
"""Marginal time, as a share of an edit alone, above which larger batches are not measured."""
_USABLE = 0.85
"""Share of the free memory that is used; the rest is for pictures larger than the warm-up's."""
_REPEATS = 3
_STEPS = "num_inference_steps"
_MAX_CALLS_PER_STEP = 3  # of any family: text, image and no guidance (OmniGen2)
_PROBE_STEPS = 64  # enough that no edit ends during the measurement


@dataclass(frozen=True, slots=True)
class OperatorLimits:
    """The operator's limits: edits running at a time, and edits in one advance (None: as measured)."""

    active: int
    batch: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the warm-up measured: limits, and seconds of one call of one edit."""

    limits: Limits
    call_s: float


def warm_up(pipeline: Pipeline, operator_limits: OperatorLimits) -> Measured:
    """Run the family's warm-up job, then measure how many edits the device takes at a time.

    Raises:
        RuntimeError: when the warm-up edit fails.
    """
    job = pipeline.prepare(pipeline.warm_up)
    if pipeline.interruptible:
        _complete(pipeline, job)  # not measured: it compiles, allocates and fills caches
        pipeline.reclaim()  # so that the measured one encodes, too
        pipeline.memory()
    start = time.monotonic()
    edit = _complete(pipeline, job)
    call_s = (time.monotonic() - start) / (1 + edit.calls_done)
    if not pipeline.interruptible:
        return Measured(Limits(active=1, batch=1, cost=None), call_s)
    if _STEPS in pipeline.capabilities.parameters:
        job = replace(job, parameters={**job.parameters, _STEPS: _PROBE_STEPS})
    limits = _BatchProbe(pipeline, job, operator_limits).limits()
    log.info("%s: %.3f s a call, %s", pipeline.name, call_s, limits)
    return Measured(limits, call_s)


def _complete(pipeline: Pipeline, job: EditJob) -> Edit:
    edit = pipeline.open(job)
    while edit.result is None:
        try:
            _advance(pipeline, [edit])
        except OutOfMemoryError as exc:
            raise RuntimeError(f"the device has no memory for a single edit: {exc}") from exc
    return edit


def _advance(pipeline: Pipeline, edits: Sequence[Edit]) -> None:
    pipeline.advance(edits)
    for edit in edits:
        if edit.error is not None:
            raise RuntimeError(f"the warm-up edit failed: {edit.error}") from edit.error


class _BatchProbe:
    """Measures batches of growing size until memory runs out or a larger one gains nothing."""

    def __init__(self, pipeline: Pipeline, job: EditJob, operator_limits: OperatorLimits) -> None:
        self._pipeline = pipeline
        self._job = job
        self._batch = operator_limits.batch
        active = operator_limits.active
        self._active = active if pipeline.max_active is None else min(active, pipeline.max_active)
        self._edits: list[Edit] = []
        self._peak = 0

    def limits(self) -> Limits:
        """The measured limits. ``cost`` is counted in tokens, so that larger pictures make smaller batches."""
        before = self._memory()[0]  # and the peak of a whole edit, from encoding to decoding
        best, cost, marginal, state, short = 1, 1, 0.0, 0, False
        try:
            for size, added in self._measurements():
                best, cost, marginal = size, self._edits[0].cost, added
                if before is not None and size == 1:
                    state = before - (self._memory()[0] or before)
        except OutOfMemoryError:
            log.warning("the device has no memory for a batch of %d", len(self._edits))
            short = True
        active, resident = self._active, self._resident(before, state)
        if short and not self._edits[-1].started:
            active = max(1, min(active, len(self._edits) - 1))
        for edit in self._edits:
            self._pipeline.close(edit)
        self._pipeline.reclaim()
        active = active if resident is None else min(active, resident)
        if self._batch is not None:
            return Limits(active, best if short else self._batch, None, resident=resident)
        # Pictures smaller than the warm-up's may form larger batches within the same cost.
        return Limits(active, active, int(COST_SLACK * best * cost), round(min(1.0, max(0.0, marginal)), 3), resident)

    def _resident(self, free: int | None, state: int) -> int | None:
        """How many started edits fit into memory while one of them, or the largest batch, is advanced."""
        if free is None or state <= 0:
            return None
        return max(1, int((_USABLE * free - self._peak) / state))

    def _memory(self) -> tuple[int | None, int]:
        """(bytes free, peak bytes allocated since the last call) of the device, once it is idle; (None, 0) where memory is not
        measured.
        """
        memory = self._pipeline.memory()
        if memory is None:
            return None, 0
        self._peak = max(self._peak, memory[1])
        return memory

    def _measurements(self) -> Iterator[tuple[int, float]]:
        """(size, marginal time) of each batch that memory allows."""
        alone_s = marginal = 0.0
        for size in self._sizes():
            while len(self._edits) < size:
                if not self._add():
                    return
            seconds, peak = self._timed()
            alone_s = alone_s or seconds
            marginal = (seconds / alone_s - 1) / (size - 1) if size > 1 else 0.0
            yield size, marginal
            free, _ = self._memory()
            if self._edits[0].group is None or (free is not None and 2 * peak > _USABLE * free):
                return
            if self._batch is None and marginal > _NO_GAIN:
                return

    def _sizes(self) -> list[int]:
        most = min(self._batch or MAX_PROBED_BATCH, self._active)
        powers = [1]
        while powers[-1] * 2 < most:
            powers.append(powers[-1] * 2)
        return powers if most == 1 else [*powers, most]

    def _add(self) -> bool:
        """Start one more edit, of a new source; False if it never reaches the group of the first."""
        edit = self._pipeline.open(replace(self._job, source=f"{self._job.source} {len(self._edits)}"))
        self._edits.append(edit)
        _advance(self._pipeline, [edit])
        for _ in range(_MAX_CALLS_PER_STEP):
            if edit.group == self._edits[0].group:
                return True
            _advance(self._pipeline, [edit])
        return False

    def _timed(self) -> tuple[float, int]:
        """(seconds, peak bytes) of one advance of all edits, the best of a few; reading the memory also waits for the device."""
        self._memory()
        best, most = float("inf"), 0
        for _ in range(_REPEATS):
            start = time.monotonic()
            _advance(self._pipeline, self._edits)
            _, peak = self._memory()
            best, most = min(best, time.monotonic() - start), max(most, peak)
        return best, most

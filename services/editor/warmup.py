"""Before the worker is ready: run the pipeline once, and measure what the device can take."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.editor.pipelines import Edit, EditJob, OutOfMemory, Pipeline
from services.editor.scheduler import Limits

log = logging.getLogger(__name__)

MOST_TRIED = 8
"""The largest batch that is tried."""
_HOPELESS = 0.97
"""Where one more edit adds this share of an edit alone to an advance, larger batches need not be tried."""
_SPARE = 0.85
"""Share of the free memory that is handed out; the rest is for pictures larger than the warm-up's."""
_REPEATS = 3
_STEPS = "num_inference_steps"
_MANY_STEPS = 64  # so that no edit ends while batches are tried


@dataclass(frozen=True, slots=True)
class Wanted:
    """The operator's limits: edits on the device, and edits in one advance (None: as measured)."""

    active: int
    batch: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the warm-up found: limits, and seconds of one call of one edit."""

    limits: Limits
    call_s: float


def warm_up(pipeline: Pipeline, wanted: Wanted) -> Measured:
    """Run the family's warm-up job, then find out how many edits the device takes at a time.

    Raises:
        RuntimeError: when the warm-up edit fails.
    """
    job = pipeline.prepare(pipeline.warm_up)
    if pipeline.stoppable:
        _complete(pipeline, job)  # compiles, allocates, fills caches: not measured
        pipeline.memory()
    start = time.monotonic()
    edit = _complete(pipeline, job)
    call_s = (time.monotonic() - start) / (1 + edit.calls_done)
    if not pipeline.stoppable:
        return Measured(Limits(active=1, batch=1, cost=1), call_s)
    if _STEPS in pipeline.capabilities.parameters:
        job = replace(job, parameters={**job.parameters, _STEPS: _MANY_STEPS})
    limits = _Trial(pipeline, job, wanted).limits()
    log.info("%s: %.3f s a call, %s", pipeline.name, call_s, limits)
    return Measured(limits, call_s)


def _complete(pipeline: Pipeline, job: EditJob) -> Edit:
    edit = pipeline.open(job)
    while edit.result is None:
        pipeline.advance([edit])
        if edit.error is not None:
            raise RuntimeError(f"the warm-up edit failed: {edit.error}") from edit.error
    return edit


class _Trial:
    """Batches of growing size, until memory ends or a larger one is not worth it."""

    def __init__(self, pipeline: Pipeline, job: EditJob, wanted: Wanted) -> None:
        self._pipeline = pipeline
        self._job = job
        self._wanted = wanted
        self._edits: list[Edit] = []

    def limits(self) -> Limits:
        """The limits to work with. ``cost`` is counted at the warm-up's size: larger pictures make smaller batches."""
        before = self._pipeline.memory()
        best, cost, marginal, state = 1, 1, 0.0, 0.0
        try:
            for size, added in self._tried():
                best, cost, marginal = size, self._edits[0].cost, added
                if before is not None and size == 1:
                    after = self._pipeline.memory() or before
                    state = max(0.0, before[0] - after[0])
        except OutOfMemory:
            log.warning("the device has no memory for a batch of %d", len(self._edits))
        finally:
            for edit in self._edits:
                self._pipeline.close(edit)
            self._pipeline.reclaim()
        active = self._wanted.active
        if before is not None and state > 0:
            active = max(1, min(active, int(_SPARE * before[0] / state)))
        if self._wanted.batch is not None:
            return Limits(active, self._wanted.batch, best * cost)
        # Pictures smaller than the warm-up's may come in larger batches, within the same cost.
        return Limits(active, active, best * cost, round(min(1.0, max(0.0, marginal)), 3))

    def _tried(self) -> Iterator[tuple[int, float]]:
        """(size, marginal time) of each batch that memory allows."""
        alone_s = marginal = 0.0
        for size in self._sizes():
            while len(self._edits) < size:
                edit = self._pipeline.open(self._job)
                self._edits.append(edit)
                self._pipeline.advance([edit])
            seconds, peak = self._timed()
            alone_s = alone_s or seconds
            marginal = (seconds / alone_s - 1) / (size - 1) if size > 1 else 0.0
            yield size, marginal
            free = self._pipeline.memory()
            if free is not None and 2 * peak > _SPARE * free[0]:
                return
            if self._wanted.batch is None and marginal > _HOPELESS:
                return

    def _sizes(self) -> list[int]:
        most = min(self._wanted.batch or MOST_TRIED, self._wanted.active)
        powers = [1]
        while powers[-1] * 2 < most:
            powers.append(powers[-1] * 2)
        return powers if most == 1 else [*powers, most]

    def _timed(self) -> tuple[float, int]:
        """(seconds, bytes) of one advance of all of them, the best of a few; asking for the memory also waits for the device."""
        self._pipeline.memory()
        best, most = float("inf"), 0
        for _ in range(_REPEATS):
            start = time.monotonic()
            self._pipeline.advance(self._edits)
            memory = self._pipeline.memory()
            best, most = min(best, time.monotonic() - start), max(most, memory[1] if memory else 0)
        return best, most

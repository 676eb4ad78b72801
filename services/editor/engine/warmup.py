"""Before the worker is ready: run the pipeline once, and measure what the device can take."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from services.editor.engine.scheduler import SLACK, Limits
from services.editor.pipelines import Edit, EditJob, OutOfMemoryError, Pipeline

log = logging.getLogger(__name__)

MOST_TRIED = 8
"""The largest batch that is tried."""
_HOPELESS = 0.97
"""Where one more edit adds this share of an edit alone to an advance, larger batches need not be tried."""
_SPARE = 0.85
"""Share of the free memory that is handed out; the rest is for pictures larger than the warm-up's."""
_REPEATS = 3
_STEPS = "num_inference_steps"
_CALLS_A_STEP = 3  # most that a family makes
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
        pipeline.reclaim()  # so that the next one encodes, too
        pipeline.memory()
    start = time.monotonic()
    edit = _complete(pipeline, job)
    call_s = (time.monotonic() - start) / (1 + edit.calls_done)
    if not pipeline.stoppable:
        return Measured(Limits(active=1, batch=1, cost=None), call_s)
    if _STEPS in pipeline.capabilities.parameters:
        job = replace(job, parameters={**job.parameters, _STEPS: _MANY_STEPS})
    limits = _Trial(pipeline, job, wanted).limits()
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


class _Trial:
    """Batches of growing size, until memory ends or a larger one is not worth it."""

    def __init__(self, pipeline: Pipeline, job: EditJob, wanted: Wanted) -> None:
        self._pipeline = pipeline
        self._job = job
        self._batch = wanted.batch
        self._active = wanted.active if pipeline.most_active is None else min(wanted.active, pipeline.most_active)
        self._edits: list[Edit] = []
        self._peak = 0

    def limits(self) -> Limits:
        """The limits to work with. ``cost`` is counted at the warm-up's size: larger pictures make smaller batches."""
        before = self._memory()[0]  # and the peak of a whole edit, from encoding to decoding
        best, cost, marginal, state, short = 1, 1, 0.0, 0, False
        try:
            for size, added in self._tried():
                best, cost, marginal = size, self._edits[0].cost, added
                if before is not None and size == 1:
                    state = before - (self._memory()[0] or before)
        except OutOfMemoryError:
            log.warning("the device has no memory for a batch of %d", len(self._edits))
            short = True
        active, room = self._active, self._room(before, state)
        if short and not self._edits[-1].started:
            active = max(1, min(active, len(self._edits) - 1))
        for edit in self._edits:
            self._pipeline.close(edit)
        self._pipeline.reclaim()
        active = active if room is None else min(active, room)
        if self._batch is not None:
            return Limits(active, best if short else self._batch, None, room=room)
        # Pictures smaller than the warm-up's may come in larger batches, within the same cost.
        return Limits(active, active, int(SLACK * best * cost), round(min(1.0, max(0.0, marginal)), 3), room)

    def _room(self, free: int | None, state: int) -> int | None:
        """How many edits memory can keep while one of them, or the largest batch, is worked on."""
        if free is None or state <= 0:
            return None
        return max(1, int((_SPARE * free - self._peak) / state))

    def _memory(self) -> tuple[int | None, int]:
        """(bytes free, most bytes allocated since the last call) of the device, once it is idle; (None, 0) where nothing is
        measured.
        """
        memory = self._pipeline.memory()
        if memory is None:
            return None, 0
        self._peak = max(self._peak, memory[1])
        return memory

    def _tried(self) -> Iterator[tuple[int, float]]:
        """(size, marginal time) of each batch that memory allows."""
        alone_s = marginal = 0.0
        for size in self._sizes():
            while len(self._edits) < size:
                if not self._joined():
                    return
            seconds, peak = self._timed()
            alone_s = alone_s or seconds
            marginal = (seconds / alone_s - 1) / (size - 1) if size > 1 else 0.0
            yield size, marginal
            free, _ = self._memory()
            if self._edits[0].group is None or (free is not None and 2 * peak > _SPARE * free):
                return
            if self._batch is None and marginal > _HOPELESS:
                return

    def _sizes(self) -> list[int]:
        most = min(self._batch or MOST_TRIED, self._active)
        powers = [1]
        while powers[-1] * 2 < most:
            powers.append(powers[-1] * 2)
        return powers if most == 1 else [*powers, most]

    def _joined(self) -> bool:
        """Start one more, of a source that was not seen before; False if it does not come to stand where one pass answers all."""
        edit = self._pipeline.open(replace(self._job, source=f"{self._job.source} {len(self._edits)}"))
        self._edits.append(edit)
        _advance(self._pipeline, [edit])
        for _ in range(_CALLS_A_STEP):
            if edit.group == self._edits[0].group:
                return True
            _advance(self._pipeline, [edit])
        return False

    def _timed(self) -> tuple[float, int]:
        """(seconds, bytes) of one advance of all of them, the best of a few; asking for the memory also waits for the device."""
        self._memory()
        best, most = float("inf"), 0
        for _ in range(_REPEATS):
            start = time.monotonic()
            _advance(self._pipeline, self._edits)
            _, peak = self._memory()
            best, most = min(best, time.monotonic() - start), max(most, peak)
        return best, most

"""The warm-up before the worker is ready: run the pipeline once, and measure what a pass costs and how many edits fit."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from services.editor.engine.cost_model import CostModel, Knot
from services.editor.engine.scheduler import Limits
from services.editor.engine.token_limit import TokenLimit
from services.editor.pipelines import Edit, EditJob, OutOfMemoryError, Pipeline

log = logging.getLogger(__name__)

MAX_PROBED_BATCH = 8
"""The largest batch that is measured."""
_USABLE = 0.85
"""Share of the free memory that is used; the rest is for pictures larger than the warm-up's."""
_ALONE = 3
"""Passes of one edit before those of several, where they are short."""
_MOST_ROUNDS = 6
"""Further comparisons of one edit with the largest batch. With them a size takes at most 24 passes, and those that bring an edit
on to the call at which the others wait.
"""
_CERTAIN = 0.06
"""Standard deviation of the marginal time below which it is not measured further."""
_MOST_S = 12.0
"""Seconds of measured passes at one size, but a pass of two edits is always measured. Each size of a batch has one pass before
that, which may allocate and compile: so a size takes at most twice as long, and what is compiled.
"""
_UNKNOWN = (0.5, 0.5)
"""The marginal time where none was measured, and its standard deviation; of one measured n times at least its n²th part."""
_MOST_MARGINAL = 1.5
_SCATTER = 1.25
"""Standard deviation of a median, in mean deviations from it and by the root of their number."""
_LEAST_S = 1e-6
_SMALLER = 4
"""The side of the smaller size that is measured, as a divisor of the warm-up job's."""
_LEAST_SIDE = 16
_DISTINCT = 0.7
"""Share of the tokens below which the smaller size is a size of its own: half an octave."""
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
    """What the warm-up measured.

    Attributes:
        limits: what the device can take; ``cost`` is that of ``tokens``.
        tokens: how many tokens fit into a pass.
        model: what a pass costs.
    """

    limits: Limits
    tokens: TokenLimit
    model: CostModel


def warm_up(pipeline: Pipeline, operator_limits: OperatorLimits) -> Measured:
    """Run the family's warm-up job, then measure passes of several edits at two sizes.

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
    whole_s = time.monotonic() - start
    if not pipeline.interruptible:
        # Such an edit is its start.
        model = CostModel.of([Knot(edit.cost, whole_s, ends_s=whole_s)])
        return Measured(Limits(active=1, batch=1, cost=None), TokenLimit.measured(None), model)
    probed = job
    if _STEPS in pipeline.capabilities.parameters:
        probed = replace(job, parameters={**job.parameters, _STEPS: _PROBE_STEPS})
    probe = _BatchProbe(pipeline, probed, operator_limits)
    limits, tokens = probe.limits()
    limits = replace(limits, overlap=pipeline.overlaps)
    large = probe.knot
    large = replace(large, ends_s=max(0.0, whole_s - edit.calls_done * large.alone_s))
    small = _smaller(pipeline, probed, large, operator_limits)
    model = CostModel.of([large] if small is None else [small, large])
    log.info("%s: %s, %s", pipeline.name, limits, model)
    return Measured(limits, tokens, model)


def _smaller(pipeline: Pipeline, job: EditJob, large: Knot, operator_limits: OperatorLimits) -> Knot | None:
    """The line of a smaller size, below that of a draft where the family takes a size; None where it takes neither, or not this
    one.
    """
    size = tuple(min(side, max(_LEAST_SIDE, side // _SMALLER)) for side in job.image.size)
    if size == job.image.size or not (pipeline.capabilities.resize or pipeline.capabilities.draft):
        return None
    image = job.image.resize((size[0], size[1]))
    smaller = replace(job, image=image, size=image.size, source=f"{job.source} smaller")
    if not pipeline.capabilities.resize:
        # It edits every picture at one area, and drafts at another.
        smaller = replace(smaller, draft=True)
    probe = _BatchProbe(pipeline, pipeline.prepare(smaller), operator_limits)
    try:
        probe.limits(below=_DISTINCT * large.tokens)
    except RuntimeError as exc:
        log.warning("the cost of %dx%d is not measured: %s", *image.size, exc)
    if not probe.seconds:
        return None
    return replace(probe.knot, ends_s=large.ends_s * min(1.0, probe.knot.alone_s / large.alone_s))


def _complete(pipeline: Pipeline, job: EditJob) -> Edit:
    edit = pipeline.open(job)
    while edit.result is None:
        try:
            _advance(pipeline, [edit])
        except OutOfMemoryError as exc:
            raise RuntimeError(f"the device has no memory for a single edit: {exc}") from exc
    return edit


def _advance(pipeline: Pipeline, edits: Sequence[Edit]) -> None:
    """Advance edits, and let each that needs its encoder or decoder wait for that."""
    pipeline.advance(edits)
    for edit in edits:
        while edit.pending is not None:
            pipeline.advance([edit])
        if edit.error is not None:
            raise RuntimeError(f"the warm-up edit failed: {edit.error}") from edit.error


class _BatchProbe:
    """Measures batches of growing size, until memory or time runs out.

    Attributes:
        largest: the largest batch that was measured.
        seconds: of the passes of one edit.
        marginals: what each more edit added to a pass, as a share of the pass of one just before it: other work on the machine
            slows both.
    """

    def __init__(self, pipeline: Pipeline, job: EditJob, operator_limits: OperatorLimits) -> None:
        self._pipeline = pipeline
        self._job = job
        self._batch = operator_limits.batch
        active = operator_limits.active
        self._active = active if pipeline.max_active is None else min(active, pipeline.max_active)
        self._edits: list[Edit] = []
        self._pass_peak = 0
        self._ends_peak = 0
        self._left_s = _MOST_S
        self._tokens = 1
        self.largest = 1
        self.seconds: list[float] = []
        self.marginals: list[float] = []

    @property
    def knot(self) -> Knot:
        """The line of this size. Medians count: on a shared machine a pass may take many times as long."""
        marginal, deviation = _UNKNOWN
        if self.marginals:
            marginal, scatter = _median(self.marginals)
            deviation = max(scatter, deviation / len(self.marginals) ** 2)
        alone_s, alone_deviation = _median(self.seconds)
        alone_s = max(_LEAST_S, alone_s)
        return Knot(
            self._tokens,
            alone_s,
            max(0.0, min(_MOST_MARGINAL, marginal)),
            alone_variance=(alone_deviation / alone_s) ** 2,
            marginal_variance=deviation**2,
        )

    def limits(self, below: float | None = None) -> tuple[Limits, TokenLimit]:
        """The measured limits. The cost is counted in tokens, so that larger pictures make smaller batches.

        Args:
            below: measure only if an edit has fewer tokens than these.
        """
        before = self._memory()[0]  # and the peak of a whole edit, from encoding to decoding
        state, short = 0, False
        active = self._active
        try:
            try:
                for size in self._measurements(below):
                    if before is not None and size == 1:
                        state = before - (self._memory()[0] or before)
            except OutOfMemoryError:
                log.warning("the device has no memory for a batch of %d", len(self._edits))
                short = True
                if not self._edits[-1].started:
                    active = max(1, min(active, len(self._edits) - 1))
            self._pipeline.reclaim()
            with contextlib.suppress(OutOfMemoryError):  # it had fitted before
                self._refine()
        finally:
            for edit in self._edits:
                self._pipeline.close(edit)
        self._pipeline.reclaim()
        resident = self._resident(before, state)
        active = active if resident is None else min(active, resident)
        if self._batch is not None:
            batch = self.largest if short else self._batch
            return Limits(active, batch, None, resident, always_batch=True), TokenLimit.measured(None)
        # Pictures smaller than the warm-up's may form larger batches within the same cost. Where there was no time to try more
        # edits, the limit rises in service.
        late = not short and self._left_s <= 0
        tokens = TokenLimit.measured(self.largest * self._tokens, MAX_PROBED_BATCH * self._tokens if late else None)
        return Limits(active, active, tokens.tokens, resident), tokens

    def _resident(self, free: int | None, state: int) -> int | None:
        """How many started edits fit into memory while one of them, or the largest batch, is advanced."""
        if free is None or state <= 0:
            return None
        return max(1, int((_USABLE * free - self._peak) / state))

    @property
    def _peak(self) -> int:
        """Bytes that passes, and encoding and decoding one edit, take in addition to the edits' state."""
        peaks = (self._pass_peak, self._ends_peak)
        return sum(peaks) if self._pipeline.overlaps else max(peaks)

    def _memory(self, *, of_pass: bool = False) -> tuple[int | None, int]:
        """(bytes free, peak bytes allocated since the last call) of the device, once it is idle; (None, 0) where memory is not
        measured.
        """
        memory = self._pipeline.memory()
        if memory is None:
            return None, 0
        if of_pass:
            self._pass_peak = max(self._pass_peak, memory[1])
        else:
            self._ends_peak = max(self._ends_peak, memory[1])
        return memory

    def _measurements(self, below: float | None) -> Iterator[int]:
        """Measures each batch that memory and time allow, and yields its size."""
        for size in self._sizes():
            if size > 2 and self.knot.pass_s(size) > self._left_s:  # noqa: PLR2004 - two are always measured
                self._left_s = 0.0
                return
            while len(self._edits) < size:
                if not self._add():
                    return
            if below is not None and self._edits[0].cost >= below:
                return
            peak = self._alone() if size == 1 else self._batched(size)
            yield size
            free, _ = self._memory()
            overlapping = self._ends_peak if self._pipeline.overlaps else 0
            if self._edits[0].group is None or (free is not None and 2 * peak + overlapping > _USABLE * free):
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

    def _alone(self) -> int:
        """Measure passes of one edit; returns the peak bytes."""
        peak = 0
        while len(self.seconds) < _ALONE and sum(self.seconds) <= self._left_s / _ALONE:
            self._tokens = self._edits[0].cost
            peak = max(peak, self._time_alone())
        return peak

    def _batched(self, size: int) -> int:
        """Measure a pass of all edits; returns the peak bytes."""
        _, first = self._timed(self._edits)  # may allocate or compile
        self.largest = size
        return max(first, self._compare())

    def _refine(self) -> None:
        """Measure the largest batch again, until the marginal time is certain."""
        for _ in range(_MOST_ROUNDS if self.marginals else 0):
            knot = self.knot
            if knot.marginal_deviation < _CERTAIN or knot.pass_s(1) + knot.pass_s(self.largest) > self._left_s:
                return
            self._compare()

    def _compare(self) -> int:
        """Measure a pass of one edit, and then one of the largest batch; returns the peak bytes."""
        batch = self._edits[: self.largest]
        group = batch[-1].group
        alone = self._time_alone()
        for _ in range(_MAX_CALLS_PER_STEP - 1):  # on to the call at which the others wait
            if batch[0].group != group:
                self._timed(batch[:1])
        if batch[0].group != group:
            return alone
        seconds, peak = self._timed(batch)
        self._left_s -= seconds
        self.marginals.append((seconds / max(_LEAST_S, self.seconds[-1]) - 1) / (self.largest - 1))
        return max(alone, peak)

    def _time_alone(self) -> int:
        """Measure a pass of one edit; returns the peak bytes."""
        seconds, peak = self._timed(self._edits[:1])
        self._left_s -= seconds
        self.seconds.append(seconds)
        return peak

    def _timed(self, edits: Sequence[Edit]) -> tuple[float, int]:
        """(seconds, peak bytes) of one advance; reading the memory also waits for the device."""
        self._memory()
        start = time.monotonic()
        _advance(self._pipeline, edits)
        _, peak = self._memory(of_pass=True)
        return time.monotonic() - start, peak


def _median(values: Sequence[float]) -> tuple[float, float]:
    """The median, and its standard deviation as far as the values show it."""
    middle = median(values)
    return middle, _SCATTER * median(abs(value - middle) for value in values) / len(values) ** 0.5

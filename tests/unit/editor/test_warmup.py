"""The warm-up measures how many edits may run, and how many in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.editor.engine.cost_model import CostModel, Knot
from services.editor.engine.scheduler import Request, SchedulerOutput, schedule
from services.editor.engine.warmup import OperatorLimits, warm_up
from services.editor.pipelines import Edit, OutOfMemoryError
from tests.unit.editor.interleaved import Stepping, Steps

FREE = CostModel.of([Knot(1, 1.0, marginal=0.0)])


class Device(Steps):
    """Simulates memory: ``total`` of it, ``each`` started edit holds some, and a pass takes more while it runs."""

    def __init__(self, total: int = 100, each: int = 10, start: int = 0, step: int = 0) -> None:
        super().__init__()
        self.total, self.each, self.start, self.step = total, each, start, step
        self.there: set[int] = set()
        self.peak = 0
        self.known: set[str] = set()

    def advance(self, edits: Sequence[Edit]) -> None:
        for edit in edits:
            assert isinstance(edit, Stepping)
            if edit.started:
                self.peak = max(self.peak, self.step * len(edits))
            elif edit.job.source not in self.known:
                self.peak = max(self.peak, self.start)
                self.known.add(edit.job.source)
            if not edit.started and (len(self.there) + 1) * self.each > self.total:
                raise OutOfMemoryError("no room", [edit])
            self.there.add(id(edit))
        super().advance(edits)
        self.there -= {id(edit) for edit in edits if edit.result is not None}

    def close(self, edit: Edit) -> None:
        super().close(edit)
        self.there.discard(id(edit))

    def reclaim(self) -> None:
        super().reclaim()
        self.known.clear()

    def memory(self) -> tuple[int, int] | None:
        peak, self.peak = self.peak, 0
        return self.total - self.each * len(self.there), peak


def test_started_edits_leave_memory_for_a_pass() -> None:
    """Eight would hold 80 of 100, and a pass needs another 40."""
    limits = warm_up(Device(step=40), OperatorLimits(8, None)).limits
    assert (limits.active, limits.resident) == (4, 4)


def test_where_encoding_overlaps_both_need_their_memory_at_a_time() -> None:
    """30 for an edit that is encoded or decoded, and 4 for each edit of a pass."""
    device = Device(step=4, start=30)
    device.overlaps = True
    both = warm_up(device, OperatorLimits(8, None)).limits
    one = warm_up(Device(step=4, start=30), OperatorLimits(8, None)).limits
    assert (one.resident, one.overlap) == (5, False)
    assert (both.resident, both.overlap) == (3, True)


def test_the_peak_of_encoding_counts() -> None:
    """Even if the warm-up's source is in the encoder cache."""
    assert warm_up(Device(start=40), OperatorLimits(8, None)).limits.resident == 4
    assert warm_up(Device(), OperatorLimits(8, None)).limits.resident == 8
    assert warm_up(Device(), OperatorLimits(2, None)).limits.active == 2


def test_without_a_memory_figure_there_is_no_resident_limit() -> None:
    """On a CPU."""
    limits = warm_up(Steps(), OperatorLimits(8, None)).limits
    assert (limits.active, limits.resident) == (8, None)


def test_a_batch_may_exceed_the_measured_cost_by_the_slack() -> None:
    """Two of its size fit: so do two of another shape, or with a longer prompt."""
    pipeline = Steps()
    pipeline.fits = lambda batch: len(batch) <= 2
    limits = warm_up(Costly(pipeline), OperatorLimits(8, None)).limits
    assert limits.cost == 250
    there = [Request(number, number, True, "a", cost=120) for number in range(4)]
    assert schedule(there, replace(limits, always_batch=True), FREE) == SchedulerOutput((0, 1), start=False)


class Costly(Steps):
    """Every edit has a hundred tokens."""

    def __init__(self, like: Steps) -> None:
        super().__init__()
        self.fits = like.fits

    def advance(self, edits: Sequence[Edit]) -> None:
        super().advance(edits)
        for edit in edits:
            edit.cost = 100


def test_the_operator_s_batch_limit_replaces_the_measured_one() -> None:
    """Unless it did not fit at warm-up."""
    limits = warm_up(Steps(), OperatorLimits(8, 3)).limits
    assert (limits.batch, limits.cost) == (3, None)
    tight = Steps()
    tight.fits = lambda batch: len(batch) <= 2
    limits = warm_up(tight, OperatorLimits(8, 4)).limits
    assert (limits.batch, limits.cost) == (2, None)


def test_running_out_of_memory_at_a_start_limits_the_running_edits() -> None:
    """The worker starts all the same."""
    pipeline = Steps()
    started: list[int] = []

    def fits(batch: Sequence[Stepping]) -> bool:
        new = [id(edit) for edit in batch if not edit.started and edit.job.parameters["num_inference_steps"] > 2]
        started.extend(new)
        return not new or len(started) < 4

    pipeline.fits = fits
    limits = warm_up(pipeline, OperatorLimits(8, None)).limits
    assert (limits.active, limits.cost) == (3, 2)


def test_an_edit_too_large_for_the_device_fails_the_start_with_the_reason() -> None:
    """So that the operator can choose a smaller model."""
    pipeline = Steps()
    pipeline.fits = lambda batch: batch[0].step < 1
    with pytest.raises(RuntimeError, match="the device has no memory for a single edit: no room"):
        warm_up(pipeline, OperatorLimits(8, None))


def test_a_failed_warm_up_edit_fails_the_start_with_the_reason() -> None:
    """The edit's own error."""
    pipeline = Steps()
    pipeline.breaks = lambda edit: ValueError("no kernel") if edit.steps > 2 and edit.step == 1 else None
    with pytest.raises(RuntimeError, match="the warm-up edit failed: no kernel"):
        warm_up(pipeline, OperatorLimits(8, None))


@pytest.mark.parametrize(("groups", "largest"), [((None,), 1), (("a", "b"), 8)])
def test_only_edits_of_one_group_are_measured_together(groups: tuple[str | None, ...], largest: int) -> None:
    """Edits that share a group at every second call only are advanced into it."""
    sizes: set[int] = set()
    pipeline = Steps()

    def fits(batch: Sequence[Stepping]) -> bool:
        assert len({edit.group for edit in batch}) == 1
        sizes.add(len(batch))
        return True

    pipeline.fits = fits
    advance = pipeline.advance

    def advancing(edits: Sequence[Edit]) -> None:
        advance(edits)
        for edit in edits:
            edit.group = groups[edit.calls_done % len(groups)]

    pipeline.advance = advancing  # type: ignore[method-assign]
    warm_up(pipeline, OperatorLimits(8, 8))
    assert max(sizes) == largest


def test_a_pipeline_that_takes_one_edit_at_a_time_gets_one() -> None:
    """Regardless of the operator's limit."""
    pipeline = Steps()
    pipeline.max_active = 1
    assert warm_up(pipeline, OperatorLimits(8, None)).limits.active == 1

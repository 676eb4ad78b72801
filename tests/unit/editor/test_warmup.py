"""What the warm-up makes of what it sees: how many edits there may be, and how many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.editor.engine.scheduler import Request, SchedulerOutput, schedule
from services.editor.engine.warmup import OperatorLimits, warm_up
from services.editor.pipelines import Edit, OutOfMemoryError
from tests.unit.editor.interleaved import Stepping, Steps


class Device(Steps):
    """With a memory of its own: ``total`` of it, ``each`` edit keeps some, and work takes more while it lasts."""

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


def test_what_edits_keep_leaves_room_for_the_work_on_one() -> None:
    """Eight would keep 80 of 100, and a pass needs 40 besides."""
    limits = warm_up(Device(step=40), OperatorLimits(8, None)).limits
    assert (limits.active, limits.resident) == (4, 4)


def test_the_memory_that_encoding_takes_counts() -> None:
    """Also where the encoders remember the warm-up's source."""
    assert warm_up(Device(start=40), OperatorLimits(8, None)).limits.resident == 4
    assert warm_up(Device(), OperatorLimits(8, None)).limits.resident == 8
    assert warm_up(Device(), OperatorLimits(2, None)).limits.active == 2


def test_without_a_figure_of_memory_there_is_no_room_to_count() -> None:
    """On a CPU."""
    limits = warm_up(Steps(), OperatorLimits(8, None)).limits
    assert (limits.active, limits.resident) == (8, None)


def test_a_batch_may_be_somewhat_more_than_the_warm_up_s() -> None:
    """Two of its size fit: so do two of another shape, or with a longer prompt."""
    pipeline = Steps()
    pipeline.fits = lambda batch: len(batch) <= 2
    limits = warm_up(Costly(pipeline), OperatorLimits(8, None)).limits
    assert limits.cost == 250
    there = [Request(number, number, True, "a", cost=120) for number in range(4)]
    assert schedule(there, limits) == SchedulerOutput((0, 1), start=False)


class Costly(Steps):
    """Every edit is of a hundred tokens."""

    def __init__(self, like: Steps) -> None:
        super().__init__()
        self.fits = like.fits

    def advance(self, edits: Sequence[Edit]) -> None:
        super().advance(edits)
        for edit in edits:
            edit.cost = 100


def test_the_operator_s_batch_is_limited_by_nothing_else() -> None:
    """Unless the warm-up has already seen that it does not fit."""
    limits = warm_up(Steps(), OperatorLimits(8, 3)).limits
    assert (limits.batch, limits.cost) == (3, None)
    tight = Steps()
    tight.fits = lambda batch: len(batch) <= 2
    limits = warm_up(tight, OperatorLimits(8, 4)).limits
    assert (limits.batch, limits.cost) == (2, None)


def test_memory_that_ends_while_edits_are_started_limits_their_number() -> None:
    """It is no reason to die."""
    pipeline = Steps()
    started: list[int] = []

    def fits(batch: Sequence[Stepping]) -> bool:
        new = [id(edit) for edit in batch if not edit.started and edit.job.parameters["num_inference_steps"] > 2]
        started.extend(new)
        return not new or len(started) < 4

    pipeline.fits = fits
    limits = warm_up(pipeline, OperatorLimits(8, None)).limits
    assert (limits.active, limits.cost) == (3, 2)


def test_an_edit_too_large_for_the_device_is_said_so() -> None:
    """The worker's last words are read by whoever chose the model."""
    pipeline = Steps()
    pipeline.fits = lambda batch: batch[0].step < 1
    with pytest.raises(RuntimeError, match="the device has no memory for a single edit: no room"):
        warm_up(pipeline, OperatorLimits(8, None))


def test_a_trial_that_fails_is_said_so() -> None:
    """With what it failed of."""
    pipeline = Steps()
    pipeline.breaks = lambda edit: ValueError("no kernel") if edit.steps > 2 and edit.step == 1 else None
    with pytest.raises(RuntimeError, match="the warm-up edit failed: no kernel"):
        warm_up(pipeline, OperatorLimits(8, None))


@pytest.mark.parametrize(("groups", "largest"), [((None,), 1), (("a", "b"), 8)])
def test_only_edits_that_one_pass_can_answer_are_tried_together(groups: tuple[str | None, ...], largest: int) -> None:
    """Those that never share one are not; those that do at every second call are brought into step."""
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
    """Whatever the operator allows."""
    pipeline = Steps()
    pipeline.max_active = 1
    assert warm_up(pipeline, OperatorLimits(8, None)).limits.active == 1

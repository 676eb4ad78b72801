"""The executor between steps: joining, leaving, preemption, running out of memory, failures of single edits."""

from __future__ import annotations

from typing import Any

import pytest

from services.editor.engine.cost_model import CostModel, Knot
from services.editor.engine.executor import EditHandle, Executor, State
from services.editor.engine.warmup import OperatorLimits
from services.editor.pipelines import EditJob, PipelineBrokenError
from services.errors import ApiError
from tests.doubles.waiting import wait
from tests.unit.editor.interleaved import CountingObserver, Stepping, Steps, job, running, steps_of


def test_edits_join_a_running_batch_and_leave_it_when_they_are_done() -> None:
    """Each has its own number of steps; encoding is a pass of its own."""
    pipeline, observer = Steps(), CountingObserver()
    with running(pipeline, observer) as executor:
        pipeline.free = False
        (long_one,) = executor.submit([job(1, steps=6)])
        steps_of(pipeline, 3)
        (short,) = executor.submit([job(2, steps=2)])
        pipeline.free = True
        pipeline.gate.release()
        assert short.future.result(10).steps == 2
        outcome = long_one.future.result(10)
    assert outcome.steps == 6 and outcome.batch > 1
    assert outcome.stages == {"encode": 0.1, "denoise": 0.2, "decode": 0.3}
    shared = [seeds for seeds in pipeline.log if len(seeds) == 2]
    assert len(shared) == 2 and max(observer.batches) == 2


def test_different_geometries_take_turns_and_never_share() -> None:
    """Edits of different groups are not batched."""
    pipeline = Steps()
    with running(pipeline) as executor:
        handles = executor.submit([job(1), job(2, side=16), job(3), job(4, side=16)])
        for handle in handles:
            handle.future.result(10)
    shared = {frozenset(seeds) for seeds in pipeline.log if len(seeds) > 1}
    assert shared == {frozenset({1, 3}), frozenset({2, 4})}


def test_a_cancel_takes_effect_before_the_next_step() -> None:
    """If the caller leaves during a step, that step is the last."""
    pipeline, observer = Steps(), CountingObserver()
    with running(pipeline, observer) as executor:
        pipeline.free = False
        (gone,) = executor.submit([job(1, steps=50)])
        (stays,) = executor.submit([job(2, steps=5)])
        steps_of(pipeline, 6)
        wait(lambda: any(2 in seeds for seeds in pipeline.log))
        gone.future.cancel()
        executor.wake()
        before = len(pipeline.log)
        pipeline.free = True
        pipeline.gate.release()
        assert stays.future.result(10).steps == 5
        wait(lambda: observer.dropped != [])
    # The one that waited for the gate had been chosen before the cancel.
    assert [seeds for seeds in pipeline.log[before + 1 :] if 1 in seeds] == []
    assert 1 in pipeline.closed and observer.dropped[0] >= 1


def test_a_preempted_edit_continues_where_it_stopped() -> None:
    """It is not advanced while it is preempted."""
    pipeline = Steps()
    with running(pipeline) as executor:
        pipeline.free = False
        handles = executor.submit([job(1, steps=4)])
        steps_of(pipeline, 3)
        executor.preempt(handles, 60)
        (other,) = executor.submit([job(2, steps=2)])
        pipeline.free = True
        pipeline.gate.release()
        other.future.result(10)
        advanced = sum(1 in seeds for seeds in pipeline.log)
        assert advanced < 5 and not handles[0].future.done()
        executor.resume(handles)
        assert handles[0].future.result(10).steps == 4
    assert sum(1 in seeds for seeds in pipeline.log) == 5  # one start and four steps: none was done twice


def test_a_preempted_edit_is_dropped_when_it_expires() -> None:
    """Its future fails, and its steps count as wasted."""
    pipeline, observer = Steps(), CountingObserver()
    with running(pipeline, observer) as executor:
        pipeline.free = False
        handles = executor.submit([job(1, steps=40)])
        steps_of(pipeline, 3)
        executor.preempt(handles, 0.01)
        pipeline.gate.release()
        error = handles[0].future.exception(10)
        wait(lambda: observer.dropped != [])
    assert isinstance(error, ApiError) and error.code == "request_timeout"
    assert pipeline.closed.count(1) == 1


def test_an_urgent_edit_goes_first() -> None:
    """It arrived last, and starts before those waiting."""
    pipeline = Steps()
    with running(pipeline, active=1, batch=1) as executor:
        pipeline.free = False
        handles = executor.submit([job(1)])
        steps_of(pipeline, 1)
        handles += executor.submit([job(2), job(3)])
        handles += executor.submit([job(4)], urgency=1)
        pipeline.free = True
        pipeline.gate.release()
        for handle in handles:
            handle.future.result(10)
    order = list(dict.fromkeys(seeds[0] for seeds in pipeline.log))
    assert order == [1, 4, 2, 3]


def test_a_batch_that_runs_out_of_memory_is_split_and_loses_no_step() -> None:
    """The edits continue in smaller batches."""
    pipeline = Steps()
    with running(pipeline, batch=8) as executor:
        pipeline.fits = lambda batch: len(batch) <= 2
        handles = executor.submit([job(seed) for seed in range(6)])
        assert [handle.future.result(10).steps for handle in handles] == [4] * 6
        assert executor.limits.cost is not None and executor.limits.cost <= 2 and pipeline.reclaimed >= 1


def test_an_edit_that_does_not_fit_alone_is_retried_once_and_then_refused() -> None:
    """Others are not affected."""
    pipeline = Steps()
    with running(pipeline) as executor:
        pipeline.fits = lambda batch: all(edit.job.seed != 7 or edit.step < 2 for edit in batch)
        big, other = executor.submit([job(7), job(1)])
        error = big.future.exception(10)
        assert other.future.result(10).steps == 4
    assert isinstance(error, ApiError) and (error.code, error.status) == ("out_of_memory", 507)
    assert pipeline.closed.count(7) == 2


def test_running_out_of_memory_once_restarts_the_edit() -> None:
    """It starts again from its beginning, alone, and succeeds."""
    pipeline = Steps()
    failures = iter([False])
    with running(pipeline) as executor:
        pipeline.fits = lambda batch: batch[0].step < 2 or next(failures, True)
        assert executor.submit([job(1)])[0].future.result(10).steps == 4
    assert pipeline.closed.count(1) == 1


def test_a_failing_edit_does_not_fail_its_batch() -> None:
    """The others of the batch finish."""
    pipeline = Steps()

    def breaks(edit: Stepping) -> Exception | None:
        return ValueError("bad picture") if edit.job.seed == 2 and edit.step == 1 else None

    with running(pipeline) as executor:
        pipeline.breaks = breaks
        handles = executor.submit([job(1), job(2), job(3)])
        assert isinstance(handles[1].future.exception(10), ValueError)
        assert [handles[place].future.result(10).steps for place in (0, 2)] == [4, 4]


def test_a_job_that_cannot_be_opened_does_not_stop_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor stays ready."""
    pipeline = Steps()
    opened = pipeline.open

    def opening(wanted: EditJob) -> Stepping:
        if wanted.seed == 2:
            raise ValueError("no such thing")
        return opened(wanted)

    with running(pipeline) as executor:
        monkeypatch.setattr(pipeline, "open", opening)
        bad, good = executor.submit([job(2), job(1)])
        assert isinstance(bad.future.exception(10), ValueError)
        assert good.future.result(10).steps == 4
        assert executor.state is State.READY


def test_a_broken_pipeline_fails_every_future() -> None:
    """Of running, waiting and preempted edits."""
    pipeline = Steps()

    def breaks(edit: Stepping) -> Exception | None:
        if edit.job.seed == 1 and edit.step == 1:
            raise PipelineBrokenError("the device is lost")
        return None

    with running(pipeline, active=1) as executor:
        pipeline.free = False
        handles: list[EditHandle] = executor.submit([job(1), job(2), job(3)])
        executor.preempt(handles[2:], 60)
        pipeline.breaks = breaks
        pipeline.free = True
        pipeline.gate.release()
        codes = []
        for handle in handles:
            error = handle.future.exception(10)
            assert isinstance(error, ApiError)
            codes.append(error.code)
        wait(lambda: executor.state is State.DEAD)
        with pytest.raises(ApiError):
            executor.submit([job(4)])
    assert codes == ["internal_error", "not_ready", "not_ready"]


def test_a_listener_receives_every_step_and_preview() -> None:
    """On the executor's thread, before the future is resolved."""
    pipeline, heard = Steps(), list[tuple[int, int, bool]]()
    with running(pipeline) as executor:
        tell = [lambda step, steps, preview: heard.append((step, steps, preview is not None))]
        executor.submit([job(1, steps=4, previews=1)], listeners=tell)[0].future.result(10)
    assert heard == [(0, 4, False), (1, 4, False), (2, 4, True), (3, 4, False)]


def test_capacity_is_counted_in_edits_and_a_refusal_says_when_to_retry() -> None:
    """A request always fits when nothing else is in flight."""
    pipeline = Steps()
    executor = Executor(lambda: pipeline, CountingObserver(), OperatorLimits(1, 1), queue=1)
    executor.start()
    wait(lambda: executor.state is State.READY)
    executor.admit(5)
    with pytest.raises(ApiError) as refused:
        executor.admit(1)
    assert refused.value.code == "overloaded" and (refused.value.retry_after or 0) >= 1
    executor._model = CostModel.of([Knot(1, 2.0)])
    pipeline.free = False
    executor.submit([job(1), job(2)])
    waits = []
    for _ in range(40):
        with pytest.raises(ApiError) as later:
            executor.admit(1)
        waits.append(later.value.retry_after or 0)
    assert waits == sorted(waits) and waits[0] < waits[1] and waits[-1] == 60
    pipeline.free = True
    pipeline.gate.release()
    assert "5 edits are in flight, 0 of them waiting" in refused.value.message
    executor.release(5)
    executor.admit(2)
    executor.release(2)
    executor.stop(5)


def test_the_warm_up_measures_the_largest_batch() -> None:
    """If three edits run out of memory, the limit is two."""
    pipeline = Steps()
    sizes: list[int] = []

    def fits(batch: Any) -> bool:
        sizes.append(len(batch))
        return len(batch) < 3

    pipeline.fits = fits
    with running(pipeline, batch=None) as executor:
        limits = executor.limits
    assert max(sizes) > 2 and limits.cost == 2

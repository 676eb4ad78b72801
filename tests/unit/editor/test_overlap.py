"""The executor while text encoders and VAE run on another thread: others are advanced, and the edit goes on when that is done."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from services.editor.engine.executor import Executor, State
from services.editor.pipelines import Edit, EditResult, OutOfMemoryError, PipelineBrokenError
from services.errors import ApiError
from tests.doubles.waiting import wait
from tests.unit.editor.interleaved import CountingObserver, Stepping, Steps, job, running, steps_of


class Encoding(Steps):
    """Each edit encodes and decodes elsewhere: until the test resolves the future in ``works`` of its seed and stage.

    ``held`` has the seeds whose work waits for the test; that of others is done at once.
    """

    overlaps = True

    def __init__(self, *held: int) -> None:
        super().__init__()
        self.held = set(held)
        self.works: dict[tuple[str, int], Future[None]] = {}
        self.most_at_start = 0

    def advance(self, edits: Sequence[Edit]) -> None:
        first = edits[0]
        assert isinstance(first, Stepping)
        if first.pending is None:
            super().advance(edits)
            return
        assert len(edits) == 1
        work, first.pending = first.pending, None
        assert work.done(), "the executor's thread would have waited"
        try:
            work.result()
        except (OutOfMemoryError, PipelineBrokenError):
            first.started = False
            raise
        except ValueError as exc:
            first.error = exc
            return
        first.side_s += 1.0
        if first.step == first.steps:
            first.timings = {"encode": 0.1, "denoise": 0.2, "decode": 0.3}
            first.result = EditResult(first.job.image)
        else:
            first.group = first.job.image.size

    def _go_on(self, edit: Stepping) -> None:
        if not edit.started:
            edit.started = True
            self._elsewhere(edit, "encode")
            return
        super()._go_on(edit)
        if edit.result is not None:
            edit.result, edit.group = None, None
            self._elsewhere(edit, "decode")

    def _elsewhere(self, edit: Stepping, stage: str) -> None:
        edit.pending = work = Future[None]()
        self.works[stage, edit.job.seed] = work
        if edit.job.seed not in self.held:
            work.set_result(None)
        if stage == "encode":
            self.most_at_start = max(self.most_at_start, sum(not each.done() for each in self.works.values()))

    def finish_work(self, stage: str, seed: int, error: Exception | None = None) -> None:
        """What the other thread does."""
        wait(lambda: (stage, seed) in self.works)
        if error is None:
            self.works[stage, seed].set_result(None)
        else:
            self.works[stage, seed].set_exception(error)


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_others_are_advanced_while_an_edit_is_encoded_or_decoded(stage: str) -> None:
    pipeline = Encoding(1)
    with running(pipeline) as executor:
        (held,) = executor.submit([job(1, steps=2)])
        if stage == "decode":
            pipeline.finish_work("encode", 1)
        wait(lambda: (stage, 1) in pipeline.works)
        (other,) = executor.submit([job(2, steps=9)])
        assert other.future.result(20).steps == 9
        assert not held.future.done() and executor.running == 1
        pipeline.finish_work(stage, 1)
        if stage == "encode":
            pipeline.finish_work("decode", 1)
        assert held.future.result(20).steps == 2


def test_an_edit_is_encoded_ahead_of_its_turn_where_it_cannot_share_passes() -> None:
    """The first keeps the lead, and the second's first step follows its last one."""
    pipeline = Encoding()
    with running(pipeline, batch=1) as executor:
        pipeline.free = False
        (first,) = executor.submit([job(1, steps=6)])
        steps_of(pipeline, 2)
        (second,) = executor.submit([job(2, steps=6)])
        steps_of(pipeline, 4)
        assert pipeline.works["encode", 2].done() and not first.future.done()
        pipeline.free = True
        pipeline.gate.release()
        assert (first.future.result(20).steps, second.future.result(20).steps) == (6, 6)
    assert [seeds[0] for seeds in pipeline.log].count(2) == 7
    started = pipeline.log.index((2,))
    assert set(pipeline.log[started + 1 : 8]) == {(1,)} and set(pipeline.log[8:]) == {(2,)}


def test_only_one_edit_waits_encoded_for_its_turn() -> None:
    """More would only hold memory."""
    pipeline = Encoding()
    with running(pipeline, batch=1) as executor:
        pipeline.free = False
        handles = executor.submit([job(1, steps=20)], urgency=5)
        handles += executor.submit([job(2), job(3), job(4)])
        steps_of(pipeline, 12)
        assert executor.running == 2 and executor.waiting == 2
        pipeline.free = True
        pipeline.gate.release()
        assert [handle.future.result(20).steps for handle in handles] == [20, 4, 4, 4]


def test_an_edit_is_started_only_where_at_most_one_other_is_pending() -> None:
    pipeline = Encoding(*range(6))
    with running(pipeline) as executor:
        handles = executor.submit([job(seed) for seed in range(6)])
        for seed in range(6):
            for stage in ("encode", "decode"):
                pipeline.finish_work(stage, seed)
        assert [handle.future.result(20).steps for handle in handles] == [4] * 6
    assert pipeline.most_at_start == 2


def test_an_executor_without_other_work_waits_to_be_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a timeout: it neither polls nor blocks on the work itself."""
    pipeline, timeouts = Encoding(1), list[float | None]()
    with running(pipeline) as executor:
        wait_for_change = executor._changed.wait

        def waiting(timeout: float | None = None) -> bool:
            timeouts.append(timeout)
            return wait_for_change(timeout)

        monkeypatch.setattr(executor._changed, "wait", waiting)
        (held,) = executor.submit([job(1)])
        wait(lambda: ("encode", 1) in pipeline.works and timeouts)
        for stage in ("encode", "decode"):
            pipeline.finish_work(stage, 1)
        assert held.future.result(20).steps == 4
    assert set(timeouts) == {None} and len(timeouts) < 10


def test_an_edit_is_cancelled_while_it_is_encoded() -> None:
    """At once; what comes of the work later is nobody's."""
    pipeline, observer = Encoding(1), CountingObserver()
    with running(pipeline, observer) as executor:
        (gone,) = executor.submit([job(1)])
        wait(lambda: ("encode", 1) in pipeline.works)
        gone.future.cancel()
        executor.wake()
        wait(lambda: pipeline.closed.count(1) == 1)
        pipeline.finish_work("encode", 1)
        assert executor.submit([job(2)])[0].future.result(20).steps == 4
    assert observer.dropped == [0] and sum(1 in seeds for seeds in pipeline.log) == 1


def test_a_preempted_edit_goes_on_only_when_it_is_resumed() -> None:
    pipeline = Encoding(1)
    with running(pipeline) as executor:
        handles = executor.submit([job(1)])
        wait(lambda: ("encode", 1) in pipeline.works)
        executor.preempt(handles, 60)
        pipeline.finish_work("encode", 1)
        assert executor.submit([job(2)])[0].future.result(20).steps == 4
        assert pipeline.log.count((1,)) == 1
        executor.resume(handles)
        pipeline.finish_work("decode", 1)
        assert handles[0].future.result(20).steps == 4


def test_what_the_encoder_raises_is_that_edits_error() -> None:
    pipeline = Encoding(1)
    with running(pipeline) as executor:
        bad, good = executor.submit([job(1), job(2)])
        pipeline.finish_work("encode", 1, ValueError("no such text"))
        assert isinstance(bad.future.exception(20), ValueError)
        assert good.future.result(20).steps == 4 and executor.state is State.READY


def test_a_device_lost_by_the_encoder_ends_the_executor() -> None:
    pipeline = Encoding(1, 2)
    with running(pipeline) as executor:
        handles = executor.submit([job(1), job(2)])
        pipeline.finish_work("encode", 1, PipelineBrokenError("the device is lost"))
        codes = [error.code for handle in handles if isinstance(error := handle.future.exception(20), ApiError)]
        wait(lambda: executor.state is State.DEAD)
    assert codes == ["internal_error", "not_ready"]


def test_an_encoder_without_memory_is_tried_again_alone_on_an_empty_device() -> None:
    """Which it is not while the work of a cancelled edit goes on."""
    pipeline = Encoding(1, 2)
    with running(pipeline) as executor:
        (gone,) = executor.submit([job(2)])
        wait(lambda: ("encode", 2) in pipeline.works)
        (short,) = executor.submit([job(1)])
        wait(lambda: ("encode", 1) in pipeline.works)
        gone.future.cancel()
        executor.wake()
        wait(lambda: 2 in pipeline.closed)
        pipeline.finish_work("encode", 1, OutOfMemoryError("no room"))
        wait(lambda: short.exclusive and short.edit is not None)
        (other,) = executor.submit([job(3)])  # makes the executor look again
        wait(lambda: other.edit is not None)
        assert not short.edit.started and pipeline.log.count((1,)) == 1  # type: ignore[union-attr]  # awaited above
        pipeline.held.clear()
        pipeline.finish_work("encode", 2)
        assert (short.future.result(20).steps, other.future.result(20).steps) == (4, 4)


def test_a_shutdown_does_not_wait_for_work_longer_than_its_grace() -> None:
    pipeline = Encoding(1)
    with running(pipeline) as executor:
        executor.admit()
        (held,) = executor.submit([job(1)])
        wait(lambda: ("encode", 1) in pipeline.works)
        executor.stop(0.01)
        error = held.future.exception(20)
        assert isinstance(error, ApiError) and error.code == "not_ready"
        wait(lambda: not executor._thread.is_alive())
        pipeline.finish_work("encode", 1)  # and its end disturbs nobody


def test_a_drain_finishes_what_is_being_encoded() -> None:
    pipeline = Encoding(1)
    with running(pipeline) as executor:
        executor.admit()
        (held,) = executor.submit([job(1)])
        wait(lambda: ("encode", 1) in pipeline.works)
        held.future.add_done_callback(lambda _: executor.release())
        stopping = threading.Thread(target=executor.stop, args=(60,))
        stopping.start()
        wait(lambda: executor.state is State.DRAINING)
        pipeline.finish_work("encode", 1)
        pipeline.finish_work("decode", 1)
        stopping.join(60)
        assert held.future.result(0).steps == 4


class Timed(CountingObserver):
    """Counts the passes of each kind, too."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[bool] = []

    def on_advance(self, edits: int, seconds: float, *, start: bool) -> None:
        super().on_advance(edits, seconds, start=start)
        self.kinds.append(start)


def test_work_elsewhere_is_counted_as_the_edits_and_in_no_pass() -> None:
    """Nor does an edit that only goes on count as a pass, or in the mean batch."""
    pipeline, observer, heard = Encoding(), Timed(), list[int]()
    with running(pipeline, observer) as executor:
        before = executor.cost_model.at(1).ends_s
        tell = [lambda step, *_: heard.append(step)]
        outcome = executor.submit([job(1, steps=3)], listeners=tell)[0].future.result(20)
        assert executor.cost_model.at(1).ends_s > before
    assert outcome.edit_s >= 2.0 and outcome.batch == 1
    assert observer.kinds == [True, False, False, False]
    assert heard == [0, 1, 2, 3]


def test_passes_during_work_elsewhere_do_not_refine_the_cost_model() -> None:
    """They share the device with it, so they would say that passes have become slower."""

    def passes(executor: Executor) -> Any:
        return [(knot.alike, knot.alone_variance) for knot in executor.cost_model.knots]

    pipeline = Encoding(1)
    with running(pipeline) as executor:
        executor.submit([job(1)])
        wait(lambda: ("encode", 1) in pipeline.works)
        before = passes(executor)
        executor.submit([job(2, steps=9)])[0].future.result(20)
        assert passes(executor) == before
        pipeline.finish_work("encode", 1)
        pipeline.finish_work("decode", 1)
        executor.submit([job(3, steps=9)])[0].future.result(20)
        assert passes(executor) != before

"""Out of memory: which edits are evicted, which are retried, and what is counted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from services.editor.engine.executor import EditHandle, Executor
from services.editor.pipelines import Edit, OutOfMemoryError
from services.errors import ApiError
from tests.doubles.waiting import wait
from tests.unit.editor.interleaved import CountingObserver, Stepping, Steps, job, running, steps_of


class Cramped(Steps):
    """Has memory for ``space`` started edits. ``starts`` has the seed of each attempted start, and the edits resident then."""

    def __init__(self, space: int) -> None:
        super().__init__()
        self.space = space
        self.resident: set[int] = set()
        self.starts: list[tuple[int, set[int]]] = []

    def advance(self, edits: Sequence[Edit]) -> None:
        for edit in edits:
            assert isinstance(edit, Stepping)
            if not edit.started and edit.job.seed != -1:
                self.starts.append((edit.job.seed, set(self.resident)))
                if len(self.resident) >= self.space:
                    raise OutOfMemoryError("no room", [edit])
                self.resident.add(edit.job.seed)
        super().advance(edits)
        self.resident -= {edit.job.seed for edit in edits if isinstance(edit, Stepping) and edit.result is not None}

    def close(self, edit: Edit) -> None:
        super().close(edit)
        assert isinstance(edit, Stepping)
        self.resident.discard(edit.job.seed)


def preempted(executor: Executor, pipeline: Steps, seeds: Sequence[int], seconds: float = 60) -> list[EditHandle]:
    """Edits that were started and then preempted; the later ones expire earlier."""
    paused: list[EditHandle] = []
    pipeline.free = False
    for seed in seeds:
        before = pipeline.entered
        handles = executor.submit([job(seed, steps=50)])
        steps_of(pipeline, 1)
        wait(lambda: pipeline.entered == before + 2)  # noqa: B023 - called at once
        executor.preempt(handles, seconds - len(paused))
        paused += handles
        steps_of(pipeline, 1)
    return paused


def unblock(pipeline: Steps) -> None:
    """Let all advances run."""
    pipeline.free = True
    pipeline.gate.release()


def test_the_retry_is_made_on_an_empty_device() -> None:
    """Not together with the edits that used the memory; no other edit is started."""
    pipeline = Cramped(2)
    with running(pipeline) as executor:
        handles = executor.submit([job(1, 50), job(2, 50), job(3, 4), job(4, 50)])
        assert [handle.future.result(10).steps for handle in handles] == [50, 50, 4, 50]
    tried = [
        (seed, resident)
        for place, (seed, resident) in enumerate(pipeline.starts)
        if seed in {s for s, _ in pipeline.starts[:place]}
    ]
    assert tried and all(resident == set() for _, resident in tried)
    again = {seed for seed, _ in tried}
    assert not any(resident & again for _, resident in pipeline.starts)


def test_preempted_edits_are_evicted_when_memory_runs_out() -> None:
    """The one that expires first goes first, and no more than needed; the edit that needed the memory loses no step."""
    pipeline = Cramped(3)
    with running(pipeline) as executor:
        paused = preempted(executor, pipeline, [1, 2, 3])
        pipeline.free = True
        assert executor.submit([job(9)])[0].future.result(10).steps == 4
        error = paused[2].future.exception(10)
        assert isinstance(error, ApiError) and error.code == "request_timeout"
        assert not paused[0].future.done() and not paused[1].future.done()
        executor.resume(paused[:1])
        assert paused[0].future.result(10).steps == 50


def test_a_step_that_runs_out_of_memory_is_repeated_after_an_eviction() -> None:
    """From its current step, not from its beginning."""
    pipeline = Cramped(9)
    with running(pipeline) as executor:
        paused = preempted(executor, pipeline, [1])
        pipeline.fits = lambda batch: batch[0].step < 2 or paused[0].future.done()
        pipeline.free = True
        assert executor.submit([job(9)])[0].future.result(10).steps == 4
    assert [seed for seed, _ in pipeline.starts] == [1, 9]


def test_preempted_edits_count_against_the_measured_memory() -> None:
    """One is evicted before an edit is started that would not fit; otherwise they stay."""
    pipeline = Measured()
    with running(pipeline) as executor:
        assert executor.limits.resident == 3
        paused = preempted(executor, pipeline, [1, 2])
        (third,) = executor.submit([job(3)])
        steps_of(pipeline, 1)
        assert [handle.future.done() for handle in paused] == [False, False]
        unblock(pipeline)
        third.future.result(10)
        handles = executor.submit([job(4, 30), job(5, 30)])
        for handle in handles:
            handle.future.result(10)
        assert [handle.future.done() for handle in paused] == [False, True]
    assert max(pipeline.together) <= 3


class Measured(Steps):
    """A device of 12 units: an edit holds 1, and a pass needs another 7. ``together`` has the residents at each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.keeping: set[int] = set()
        self.together: list[int] = []

    def advance(self, edits: Sequence[Edit]) -> None:
        super().advance(edits)
        self.keeping |= {id(edit) for edit in edits if edit.result is None}
        self.keeping -= {id(edit) for edit in edits if edit.result is not None}
        if edits[0].started and isinstance(edits[0], Stepping) and edits[0].job.seed != -1:
            self.together.append(len(self.keeping))

    def close(self, edit: Edit) -> None:
        super().close(edit)
        self.keeping.discard(id(edit))

    def memory(self) -> tuple[int, int] | None:
        return 1200 - 100 * len(self.keeping), 700


def test_preempted_edits_are_not_counted_as_work() -> None:
    """Neither waiting nor running, nor in the backlog."""
    pipeline = Steps()
    with running(pipeline) as executor:
        preempted(executor, pipeline, [1, 2])
        assert (executor.running, executor.waiting, executor.backlog_s()) == (0, 0, 0)
        handles = executor.submit([job(3)])
        assert executor.waiting + executor.running == 1
        executor.preempt(handles, 60)
        assert (executor.running, executor.waiting, executor.backlog_s()) == (0, 0, 0)


def test_memory_is_reclaimed_after_the_failed_pass_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """While its exception is handled, its frames hold the allocations."""
    pipeline = Steps()
    handled: list[Any] = []
    monkeypatch.setattr(pipeline, "reclaim", lambda: handled.append(sys.exc_info()[0]))
    with running(pipeline) as executor:
        pipeline.fits = lambda batch: len(batch) == 1
        for handle in executor.submit([job(1), job(2)]):
            handle.future.result(10)
    assert len(handled) >= 2 and set(handled) == {None}


def test_edits_that_fit_are_advanced_although_another_did_not() -> None:
    """In the same advance."""
    pipeline, observer = Steps(), CountingObserver()
    advance, failures = pipeline.advance, iter([True])

    def advancing(edits: Sequence[Edit]) -> None:
        advance(edits)
        short = [edit for edit in edits if isinstance(edit, Stepping) and edit.job.seed == 2 and edit.step == 2]
        if short and len(edits) > 1 and next(failures, False):
            short[0].started, short[0].step, short[0].calls_done = False, 0, 0
            raise OutOfMemoryError("no room to decode", short)

    pipeline.advance = advancing  # type: ignore[method-assign]
    with running(pipeline, observer) as executor:
        handles = executor.submit([job(1), job(2), job(3)])
        assert [handle.future.result(10).steps for handle in handles] == [4, 4, 4]
        assert (executor.limits.batch, executor.limits.cost) == (4, None)
    assert [sum(seed in seeds for seeds in pipeline.log) for seed in (1, 2, 3)] == [5, 8, 5]


def test_an_edit_refused_for_memory_is_removed() -> None:
    """With no preempted edit to evict, it is retried once."""
    pipeline = Cramped(0)
    with running(pipeline) as executor:
        error = executor.submit([job(1)])[0].future.exception(10)
        assert isinstance(error, ApiError) and error.code == "out_of_memory"
        assert executor.running == 0
    assert [seed for seed, _ in pipeline.starts] == [1, 1]

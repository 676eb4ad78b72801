"""When the device's memory runs out: who gives way, who is tried again, and what is counted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from services.editor.engine.executor import EditHandle, Executor
from services.editor.pipelines import Edit, OutOfMemoryError
from services.errors import ApiError
from tests.unit.editor.interleaved import CountingObserver, Stepping, Steps, job, running, steps_of, wait


class Cramped(Steps):
    """Has memory for so many started edits; ``starts`` has the seed of each that was tried, and who was there."""

    def __init__(self, space: int) -> None:
        super().__init__()
        self.space = space
        self.there: set[int] = set()
        self.starts: list[tuple[int, set[int]]] = []

    def advance(self, edits: Sequence[Edit]) -> None:
        for edit in edits:
            assert isinstance(edit, Stepping)
            if not edit.started and edit.job.seed != -1:
                self.starts.append((edit.job.seed, set(self.there)))
                if len(self.there) >= self.space:
                    raise OutOfMemoryError("no room", [edit])
                self.there.add(edit.job.seed)
        super().advance(edits)
        self.there -= {edit.job.seed for edit in edits if isinstance(edit, Stepping) and edit.result is not None}

    def close(self, edit: Edit) -> None:
        super().close(edit)
        assert isinstance(edit, Stepping)
        self.there.discard(edit.job.seed)


def set_aside(executor: Executor, pipeline: Steps, seeds: Sequence[int], seconds: float = 60) -> list[EditHandle]:
    """Started, and then left by their callers; the later ones expire earlier."""
    held: list[EditHandle] = []
    pipeline.free = False
    for seed in seeds:
        before = pipeline.entered
        handles = executor.submit([job(seed, steps=50)])
        steps_of(pipeline, 1)
        wait(lambda: pipeline.entered == before + 2)  # noqa: B023 - called at once
        executor.preempt(handles, seconds - len(held))
        held += handles
        steps_of(pipeline, 1)
    return held


def let_go(pipeline: Steps) -> None:
    """No advance waits any more."""
    pipeline.free = True
    pipeline.gate.release()


def test_the_last_try_is_made_on_an_empty_device() -> None:
    """Not beside the very edits that took the memory; nobody is started beside it either."""
    pipeline = Cramped(2)
    with running(pipeline) as executor:
        handles = executor.submit([job(1, 50), job(2, 50), job(3, 4), job(4, 50)])
        assert [handle.future.result(10).steps for handle in handles] == [50, 50, 4, 50]
    tried = [
        (seed, there) for place, (seed, there) in enumerate(pipeline.starts) if seed in {s for s, _ in pipeline.starts[:place]}
    ]
    assert tried and all(there == set() for _, there in tried)
    again = {seed for seed, _ in tried}
    assert not any(there & again for _, there in pipeline.starts)


def test_edits_set_aside_give_way_when_memory_runs_out() -> None:
    """The one that expires first goes first, and no more than needed; whoever wanted the memory loses nothing."""
    pipeline = Cramped(3)
    with running(pipeline) as executor:
        held = set_aside(executor, pipeline, [1, 2, 3])
        pipeline.free = True
        assert executor.submit([job(9)])[0].future.result(10).steps == 4
        told = held[2].future.exception(10)
        assert isinstance(told, ApiError) and told.code == "request_timeout"
        assert not held[0].future.done() and not held[1].future.done()
        executor.resume(held[:1])
        assert held[0].future.result(10).steps == 50


def test_a_step_that_runs_out_of_memory_is_done_again_in_the_place_of_one_set_aside() -> None:
    """From where it stood, not from its beginning."""
    pipeline = Cramped(9)
    with running(pipeline) as executor:
        held = set_aside(executor, pipeline, [1])
        pipeline.fits = lambda batch: batch[0].step < 2 or held[0].future.done()
        pipeline.free = True
        assert executor.submit([job(9)])[0].future.result(10).steps == 4
    assert [seed for seed, _ in pipeline.starts] == [1, 9]


def test_edits_set_aside_are_counted_in_the_memory_that_was_measured() -> None:
    """One goes before another is started that would be too many; where there is room they stay."""
    pipeline = Measured()
    with running(pipeline) as executor:
        assert executor.limits.resident == 3
        held = set_aside(executor, pipeline, [1, 2])
        (third,) = executor.submit([job(3)])
        steps_of(pipeline, 1)
        assert [handle.future.done() for handle in held] == [False, False]
        let_go(pipeline)
        third.future.result(10)
        handles = executor.submit([job(4, 30), job(5, 30)])
        for handle in handles:
            handle.future.result(10)
        assert [handle.future.done() for handle in held] == [False, True]
    assert max(pipeline.together) <= 3


class Measured(Steps):
    """A device of 12 units: an edit keeps 1, and a pass needs 7 besides; ``together`` has how many were there at each turn."""

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


def test_edits_set_aside_are_no_work_ahead() -> None:
    """They wait for nobody, and nobody waits for them."""
    pipeline = Steps()
    with running(pipeline) as executor:
        set_aside(executor, pipeline, [1, 2])
        assert (executor.running, executor.waiting, executor.backlog_s()) == (0, 0, 0)
        handles = executor.submit([job(3)])
        assert executor.waiting + executor.running == 1
        executor.preempt(handles, 60)
        assert (executor.running, executor.waiting, executor.backlog_s()) == (0, 0, 0)


def test_memory_is_given_back_once_the_failed_pass_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """While its exception is handled, its frames hold what it had allocated."""
    pipeline = Steps()
    handled: list[Any] = []
    monkeypatch.setattr(pipeline, "reclaim", lambda: handled.append(sys.exc_info()[0]))
    with running(pipeline) as executor:
        pipeline.fits = lambda batch: len(batch) == 1
        for handle in executor.submit([job(1), job(2)]):
            handle.future.result(10)
    assert len(handled) >= 2 and set(handled) == {None}


def test_those_that_memory_was_enough_for_are_told() -> None:
    """Of an advance in which another ran out of it."""
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
        assert executor.limits.batch == 4
    assert [sum(seed in seeds for seeds in pipeline.log) for seed in (1, 2, 3)] == [5, 8, 5]


def test_an_edit_that_is_refused_for_memory_is_gone() -> None:
    """Alone, with nobody set aside, it is not tried for ever."""
    pipeline = Cramped(0)
    with running(pipeline) as executor:
        told = executor.submit([job(1)])[0].future.exception(10)
        assert isinstance(told, ApiError) and told.code == "out_of_memory"
        assert executor.running == 0
    assert [seed for seed, _ in pipeline.starts] == [1, 1]

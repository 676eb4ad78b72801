"""The engine measures what passes cost, batches by it, and recovers from having run out of memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from PIL import Image

from services.editor.engine import executor as executor_module
from services.editor.engine import warmup
from services.editor.engine.cost_model import CostModel
from services.editor.engine.executor import Executor, State
from services.editor.engine.token_limit import TokenLimit
from services.editor.engine.warmup import OperatorLimits, warm_up
from services.editor.pipelines import Edit, EditJob
from tests.doubles.clock import ManualTime, manual_time
from tests.doubles.waiting import wait
from tests.unit.editor.interleaved import CountingObserver, Stepping, Steps, job, running

BASE_S, TOKEN_S = 0.1, 0.0001


class Timed(Steps):
    """A pass takes `BASE_S` and `TOKEN_S` for each token (pixel) by a manual clock; encoding and decoding one second each."""

    def __init__(self, clock: ManualTime, side: int = 64, noise: Callable[[float], float] = lambda seconds: seconds) -> None:
        super().__init__()
        self.clock, self.side, self.noise = clock, side, noise

    @property
    def warm_up(self) -> EditJob:
        return EditJob(Image.new("RGB", (self.side, self.side)), "warm up", -1, parameters={"num_inference_steps": 2})

    def open(self, job: EditJob) -> Stepping:
        edit = super().open(job)
        edit.cost = job.image.width * job.image.height
        return edit

    def advance(self, edits: Sequence[Edit]) -> None:
        start = not edits[0].started
        super().advance(edits)
        seconds = 1.0 if start else BASE_S + TOKEN_S * sum(edit.cost for edit in edits)
        finished = [edit for edit in edits if edit.result is not None]
        for edit in finished:
            edit.timings = {"encode": 1.0, "denoise": seconds, "decode": 1.0}
        self.clock.advance(self.noise(seconds) + len(finished))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualTime:
    return manual_time(monkeypatch, executor_module, warmup)


def test_the_warm_up_measures_two_sizes(clock: ManualTime) -> None:
    """And so the time of any other, of a pass of several, and of encoding and decoding."""
    measured = warm_up(Timed(clock), OperatorLimits(8, None))
    for side, edits in ((16, 1), (16, 8), (64, 1), (64, 8), (8, 4), (128, 2)):
        tokens = edits * side * side
        assert measured.model.pass_s(edits, tokens) == pytest.approx(BASE_S + TOKEN_S * tokens, rel=0.02)
    assert measured.model.work_s(64 * 64, 10) == pytest.approx(2 + 10 * (BASE_S + TOKEN_S * 64 * 64), rel=0.01)
    assert measured.tokens == TokenLimit.measured(8 * 64 * 64)


class Counted(Timed):
    """Records the passes of the warm-up: how many edits, and the tokens of one; ``pace`` times as slow."""

    def __init__(self, clock: ManualTime, pace: float = 1.0) -> None:
        super().__init__(clock, 128, lambda seconds: pace * seconds)
        self.passes: list[tuple[int, int]] = []

    def advance(self, edits: Sequence[Edit]) -> None:
        if edits[0].started:
            self.passes.append((len(edits), edits[0].cost))
        super().advance(edits)


def test_a_quiet_warm_up_makes_few_passes_and_each_size_of_batch(clock: ManualTime) -> None:
    pipeline = Counted(clock, pace=0.1)
    warm_up(pipeline, OperatorLimits(8, None))
    for side in (128, 32):
        sizes = [edits for edits, tokens in pipeline.passes if tokens == side * side]
        assert set(sizes) == {1, 2, 4, 8}
        assert len(sizes) <= 4 + 14  # the warm-up's own edits have two passes each


def test_a_warm_up_in_noise_makes_no_more_than_twenty_four_passes_of_a_size(clock: ManualTime) -> None:
    """However little it learns from them."""
    pipeline = Counted(clock)
    dice = random.Random(1)
    pipeline.noise = lambda seconds: seconds * dice.uniform(0.01, 0.1)
    warm_up(pipeline, OperatorLimits(8, None))
    assert sum(tokens == 32 * 32 for _, tokens in pipeline.passes) <= 24


def test_a_warm_up_with_slow_passes_does_not_take_minutes(clock: ManualTime) -> None:
    """A pass of three and a half seconds: it tries two edits together, and larger batches are tried in service."""
    pipeline = Counted(clock, pace=2.0)
    measured = warm_up(pipeline, OperatorLimits(8, None))
    alone_s = 2.0 * (BASE_S + TOKEN_S * 128 * 128)
    sizes = [edits for edits, tokens in pipeline.passes if tokens == 128 * 128]
    assert set(sizes) == {1, 2}
    assert sum(sizes) <= 4 + 8  # the warm-up's own edits have two passes each
    assert measured.tokens == TokenLimit.measured(2 * 128 * 128, 8 * 128 * 128)
    assert measured.limits.cost == measured.tokens.tokens
    assert measured.model.pass_s(1, 128 * 128) == pytest.approx(alone_s, rel=0.05)


def test_a_large_size_that_gains_nothing_does_not_decide_for_small_ones(clock: ManualTime) -> None:
    """A slow pass while the warm-up measured made it never batch anything, or everything."""
    slow = iter([False, True, False, False, True] * 1000)
    pipeline = Timed(clock, side=512, noise=lambda seconds: seconds * (20 if next(slow) else 1))
    model = warm_up(pipeline, OperatorLimits(8, None)).model
    assert model.joins(1, 256, 256, 8)


def _limited(pipeline: Steps) -> Executor:
    executor = Executor(lambda: pipeline, CountingObserver(), OperatorLimits(8, None), queue=100)
    executor.start()
    wait(lambda: executor.state is not State.STARTING)
    assert executor.state is State.READY
    return executor


def test_passes_refine_the_model_and_encoding_and_decoding_do_not(clock: ManualTime) -> None:
    """A device that has become three times slower is noticed."""
    pipeline = Timed(clock)
    executor = _limited(pipeline)
    tokens = 64 * 64
    before = executor.cost_model.pass_s(1, tokens)
    pipeline.noise = lambda seconds: 3 * seconds
    for seed in range(3):
        executor.submit([job(seed, steps=50, side=64)])[0].future.result(10)
    assert executor.cost_model.pass_s(1, tokens) == pytest.approx(3 * before, rel=0.1)
    executor.stop(5)


@pytest.mark.parametrize(("lags", "passes"), [(True, 48), (False, 50)])
def test_a_device_that_lags_counts_only_passes_like_the_one_before(
    clock: ManualTime, monkeypatch: pytest.MonkeyPatch, *, lags: bool, passes: int
) -> None:
    """The first pass after a start takes as long as the start did, and the last one waits for those before it."""
    pipeline = Timed(clock)
    pipeline.lags = lags
    executor = _limited(pipeline)
    seen: list[float] = []
    observe = CostModel.observe

    def observing(model: CostModel, edits: int, tokens: float, seconds: float) -> CostModel:
        seen.append(seconds)
        return observe(model, edits, tokens, seconds)

    monkeypatch.setattr(CostModel, "observe", observing)
    executor.submit([job(1, steps=50, side=64)])[0].future.result(10)
    assert len(seen) == passes
    assert seen == pytest.approx([BASE_S + TOKEN_S * 64 * 64] * passes)  # without the decoding
    executor.stop(5)


def test_edits_of_one_step_refine_the_model_too(clock: ManualTime) -> None:
    """Each of their passes ends with a decoding."""
    pipeline = Timed(clock)
    executor = _limited(pipeline)
    pipeline.noise = lambda seconds: 3 * seconds
    for seed in range(60):
        executor.submit([job(seed, steps=1, side=64)])[0].future.result(10)
    assert executor.cost_model.pass_s(1, 64 * 64) == pytest.approx(3 * (BASE_S + TOKEN_S * 64 * 64), rel=0.1)
    executor.stop(5)


def test_the_due_time_and_the_backlog_follow_the_size_of_an_edit(clock: ManualTime) -> None:
    """Before it is started, too."""
    pipeline = Timed(clock)
    executor = _limited(pipeline)
    pipeline.free = False
    executor.submit([job(1, steps=10, side=8)])
    wait(lambda: pipeline.entered == 1)
    small, large = executor.submit([job(2, steps=10, side=8), job(3, steps=10, side=64)])
    pipeline.gate.release()
    wait(lambda: large.due > 0)
    assert large.due - large.arrived_at > 3 * (small.due - small.arrived_at) > 0
    assert executor.backlog_s() > 10 * (BASE_S + TOKEN_S * 64 * 64)
    pipeline.free = True
    pipeline.gate.release()
    large.future.result(10)
    executor.stop(5)


def test_the_limit_of_tokens_recovers_after_memory_ran_out() -> None:
    """Other work on the device had taken the memory for a while."""
    pipeline = Steps()
    with running(pipeline, batch=8) as executor:
        pipeline.fits = lambda batch: len(batch) <= 3
        for handle in executor.submit([job(seed) for seed in range(8)]):
            handle.future.result(10)
        assert executor.limits.cost is not None and executor.limits.cost <= 3
        pipeline.fits = lambda batch: True
        for _ in range(6):
            for handle in executor.submit([job(seed, steps=90) for seed in range(8)]):
                handle.future.result(20)
        assert executor.limits.cost is None
        pipeline.log.clear()
        for handle in executor.submit([job(seed, steps=20) for seed in range(8)]):
            handle.future.result(10)
        assert max(map(len, pipeline.log)) == 8

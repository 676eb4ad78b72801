"""The cost model grows with the work, follows the device, and agrees with others measured in noise."""

from __future__ import annotations

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.editor.engine.cost_model import CostModel, Measurement, TokenLimit, fit

measurements = st.builds(
    Measurement, tokens=st.integers(1, 5000), alone_s=st.floats(1e-4, 60), marginal=st.floats(-0.5, 3), ends_s=st.floats(0, 60)
)
passes = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 5000), st.floats(0, 1000)), max_size=30)


@st.composite
def models(draw: st.DrawFn) -> CostModel:
    """A model of a warm-up that has seen some passes."""
    model = fit(draw(st.lists(measurements, min_size=1, max_size=3, unique_by=lambda one: one.tokens)))
    for edits, tokens, seconds in draw(passes):
        model = model.observe(edits, edits * tokens, seconds).observe_ends(tokens, seconds)
    return model


@given(models(), st.integers(1, 8), st.integers(1, 20_000), st.integers(1, 20_000))
def test_more_edits_and_larger_ones_never_take_less_time(model: CostModel, edits: int, one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert 0 < model.pass_s(edits, edits * small) <= model.pass_s(edits, edits * large) * (1 + 1e-9)
    assert model.pass_s(edits, edits * small) <= model.pass_s(edits + 1, (edits + 1) * small) * (1 + 1e-9)
    assert model.work_s(small, 5) <= model.work_s(large, 5) * (1 + 1e-9)
    assert model.work_s(small, 5, started=True) <= model.work_s(small, 5) <= model.work_s(small, 6)


@given(models(), st.integers(1, 8), st.integers(1, 5000), st.integers(0, 50))
def test_an_edit_joins_only_where_the_longer_pass_saves_time(model: CostModel, edits: int, tokens: int, behind: int) -> None:
    if model.joins(edits, edits * tokens, tokens, behind):
        longer = model.pass_s(edits + 1, (edits + 1) * tokens)
        assert longer < model.pass_s(edits, edits * tokens) + model.pass_s(1, tokens)
        assert model.joins(edits, edits * tokens, tokens, behind + 1)


@given(models())
def test_sizes_share_knots(model: CostModel) -> None:
    """However many sizes are seen."""
    tokens = [knot.tokens for knot in model.knots]
    assert tokens == sorted(tokens) and len(tokens) <= 3 + 2 * 13
    assert all(0.01 <= knot.marginal <= 1.25 for knot in model.knots)


def test_between_two_sizes_and_outside_them_the_lines_go_on() -> None:
    """a + b tokens, as far as the two lines agree."""
    model = fit([Measurement(tokens, 0.010 + 1e-5 * tokens, 1e-5 * tokens / (0.010 + 1e-5 * tokens)) for tokens in (1000, 4000)])
    for edits, tokens in ((1, 1000), (8, 1000), (3, 4000), (1, 100), (8, 100), (2, 16_000)):
        assert model.pass_s(edits, edits * tokens) == pytest.approx(0.010 + 1e-5 * edits * tokens)
    assert model.pass_s(1, 2000) == pytest.approx(0.030, rel=0.1)


def test_one_outlier_hardly_matters_and_a_slower_device_is_followed() -> None:
    """Each in a few passes."""
    model = fit([Measurement(1000, 0.1, 0.5)])
    for _ in range(40):
        model = model.observe(1, 1000, 0.1)
    assert model.observe(1, 1000, 10.0).pass_s(1, 1000) == pytest.approx(0.1, rel=0.04)
    for _ in range(40):
        model = model.observe(1, 1000, 1.0)
    assert model.pass_s(1, 1000) == pytest.approx(1.0, rel=0.05)


def test_a_wrong_marginal_time_is_corrected_by_passes_of_several_sizes() -> None:
    """In both directions, with the time of one edit wrong by a factor of forty too."""
    for marginal in (0.01, 1.25):
        model = fit([Measurement(1000, 4.0, marginal)])
        for number in range(600):
            edits = number % 8 + 1
            model = model.observe(edits, 1000 * edits, 0.1 * (1 + (edits - 1) * 0.3))
        line = model.at(1000)
        assert line.alone_s == pytest.approx(0.1, rel=0.05)
        assert line.marginal == pytest.approx(0.3, abs=0.04)


def test_a_size_that_is_never_batched_is_tried_again() -> None:
    """Its marginal time was measured too high; passes of one edit say nothing about it."""
    model = fit([Measurement(1000, 0.1, 1.25)])
    assert not model.joins(1, 1000, 1000, 20)
    passes = 0
    while not model.joins(1, 1000, 1000, 20):
        model, passes = model.observe(1, 1000, 0.1), passes + 1
    assert 50 < passes < 400


SIZES = {544: 0.15, 640: 0.3, 2560: 1.0}
"""Tokens of an edit, and the true marginal time."""


def _noisy(dice: random.Random, seconds: float) -> float:
    """Measurements on a shared machine: some are far too long."""
    return seconds * dice.uniform(0.9, 1.15) * (dice.uniform(1, 20) if dice.random() < 0.1 else 1.0)


def _true_s(edits: int, tokens: int) -> float:
    return tokens * 1e-5 * (1 + (edits - 1) * SIZES[tokens])


def _start(seed: int) -> dict[int, float]:
    """Edits a second of each size, on a worker whose warm-up and passes are measured with noise: eight edits at a time, of 8
    calls each, with as many behind them.
    """
    dice = random.Random(seed)
    measured = []
    for tokens in (640, 2560):
        alone = [_noisy(dice, _true_s(1, tokens)) for _ in range(12)]
        pairs = [_noisy(dice, _true_s(n, tokens)) / _noisy(dice, _true_s(1, tokens)) for n in (2, 4, 8) for _ in range(3)]
        shares = [(ratio - 1) / (n - 1) for ratio, n in zip(pairs, (2, 2, 2, 4, 4, 4, 8, 8, 8), strict=True)]
        measured.append(Measurement(tokens, median(alone), median(shares)))
    model = fit(measured)
    done_s = dict.fromkeys(SIZES, 0.0)
    for _ in range(30):
        for tokens in SIZES:
            left = [8] * 8
            while left:
                edits = 1
                while edits < len(left) and model.joins(edits, edits * tokens, tokens, len(left) + 8 - edits):
                    edits += 1
                done_s[tokens] += _true_s(edits, tokens)
                model = model.observe(edits, edits * tokens, _noisy(dice, _true_s(edits, tokens)))
                left = [calls - (place < edits) for place, calls in enumerate(left)]
                left = [calls for calls in left if calls]
    return {tokens: 30 * 8 / seconds for tokens, seconds in done_s.items()}


def test_eight_starts_with_noisy_measurements_agree() -> None:
    """Within 15 %, at every size, and with the gain that batching has there."""
    starts = [_start(seed) for seed in range(8)]
    for tokens in SIZES:
        rates = [rates[tokens] for rates in starts]
        alone = 1 / (8 * _true_s(1, tokens))
        assert (max(rates) - min(rates)) / median(rates) < 0.15
        assert median(rates) > alone * {544: 2.5, 640: 1.8, 2560: 0.99}[tokens]


def test_a_limit_of_tokens_is_halved_when_memory_runs_out_and_recovers() -> None:
    """With more patience after each further time."""
    limit = TokenLimit.measured(800)
    assert limit.tokens == 1000 and limit.after_pass() == limit
    waits = []
    for _ in range(3):
        limit = limit.after_out_of_memory(1000)
        assert limit.tokens == 625
        passes = 0
        while limit.tokens != 1000:
            limit, passes = limit.after_pass(), passes + 1
        waits.append(passes)
    assert waits[0] == 4 * 64 and waits[1] == 2 * waits[0] and waits[2] == 4 * waits[0]


@given(st.one_of(st.none(), st.integers(1, 1000)), st.lists(st.integers(2, 2000), min_size=1, max_size=3))
def test_what_did_not_fit_is_not_tried_at_once_but_again_some_day(measured: int | None, failures: list[int]) -> None:
    limit = TokenLimit.measured(measured)
    for tokens in failures:
        limit = limit.after_out_of_memory(tokens)
        assert limit.tokens is not None and 1 <= limit.tokens < tokens
        assert limit.most is None or limit.tokens <= limit.most
    for _ in range(50_000):
        if limit.tokens == limit.most:
            break
        limit = limit.after_pass()
    assert limit.tokens == limit.most

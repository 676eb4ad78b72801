"""The cost model grows with the work and follows the device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.editor.engine.cost_model import CostModel, Knot

knots = st.builds(
    Knot,
    tokens=st.integers(1, 5000),
    alone_s=st.floats(1e-4, 60),
    marginal=st.floats(0, 1.5),
    ends_s=st.floats(0, 60),
    alone_variance=st.floats(0, 1),
    marginal_variance=st.floats(0, 1),
)
passes = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 5000), st.floats(0, 1000)), max_size=30)


@st.composite
def models(draw: st.DrawFn) -> CostModel:
    """A model of a warm-up that has seen some passes."""
    model = CostModel.of(draw(st.lists(knots, min_size=1, max_size=3, unique_by=lambda one: one.tokens)))
    for edits, tokens, seconds in draw(passes):
        model = model.observe(edits, edits * tokens, seconds).observe_ends(tokens, seconds)
    return model


@given(models(), st.integers(1, 8), st.integers(1, 20_000))
def test_more_edits_never_take_less_time(model: CostModel, edits: int, tokens: int) -> None:
    assert 0 < model.pass_s(edits, edits * tokens) <= model.pass_s(edits + 1, (edits + 1) * tokens)
    assert model.work_s(tokens, 5, started=True) <= model.work_s(tokens, 5) <= model.work_s(tokens, 6)


@given(models(), st.integers(1, 8), st.integers(1, 5000), st.integers(0, 50))
def test_an_edit_joins_only_where_the_longer_pass_saves_time(model: CostModel, edits: int, tokens: int, behind: int) -> None:
    """But for a trial, which a row of passes alike comes before."""
    model = CostModel.of([replace(knot, alike=0) for knot in model.knots])
    if model.joins(edits, edits * tokens, tokens, behind):
        longer = model.pass_s(edits + 1, (edits + 1) * tokens)
        assert longer < model.pass_s(edits, edits * tokens) + model.pass_s(1, tokens)
        assert model.joins(edits, edits * tokens, tokens, behind + 1)


@given(models())
def test_variances_stay_variances(model: CostModel) -> None:
    for knot in model.knots:
        assert knot.alone_variance >= 0 and knot.marginal_variance >= 0
        assert knot.covariance**2 <= knot.alone_variance * knot.marginal_variance * (1 + 1e-6) + 1e-12


@given(models())
def test_sizes_share_knots(model: CostModel) -> None:
    """However many sizes are seen."""
    tokens = [knot.tokens for knot in model.knots]
    assert tokens == sorted(tokens) and len(tokens) <= 3 + 2 * 13
    assert all(0 <= knot.marginal <= 1.5 for knot in model.knots)


def test_between_two_sizes_and_outside_them_the_lines_go_on() -> None:
    """a + b tokens, as far as the two lines agree."""
    model = CostModel.of(Knot(tokens, 0.01 + 1e-5 * tokens, 1e-5 * tokens / (0.01 + 1e-5 * tokens)) for tokens in (1000, 4000))
    for edits, tokens in ((1, 1000), (8, 1000), (3, 4000), (1, 100), (8, 100), (2, 16_000)):
        assert model.pass_s(edits, edits * tokens) == pytest.approx(0.010 + 1e-5 * edits * tokens)
    assert model.pass_s(1, 2000) == pytest.approx(0.030, rel=0.1)


def test_one_outlier_hardly_matters_and_a_slower_device_is_followed() -> None:
    """Each in a few passes."""
    model = CostModel.of([Knot(1000, 0.1, 0.5)])
    for _ in range(40):
        model = model.observe(1, 1000, 0.1)
    assert model.observe(1, 1000, 10.0).pass_s(1, 1000) == pytest.approx(0.1, rel=0.04)
    for _ in range(40):
        model = model.observe(1, 1000, 1.0)
    assert model.pass_s(1, 1000) == pytest.approx(1.0, rel=0.05)


def test_a_wrong_marginal_time_is_corrected_by_passes_of_several_sizes() -> None:
    """In both directions, with the time of one edit wrong by a factor of forty too."""
    for marginal in (0.0, 1.5):
        model = CostModel.of([Knot(1000, 4.0, marginal, alone_variance=0.25, marginal_variance=0.25)])
        for number in range(600):
            edits = number % 8 + 1
            model = model.observe(edits, 1000 * edits, 0.1 * (1 + (edits - 1) * 0.3))
        line = model.at(1000)
        assert line.alone_s == pytest.approx(0.1, rel=0.05)
        assert line.marginal == pytest.approx(0.3, abs=0.04)


def test_a_size_that_is_never_batched_is_tried_again() -> None:
    """Its marginal time was measured too high; passes of one edit say nothing about it."""
    model = CostModel.of([Knot(1000, 0.1, 1.5, marginal_variance=0.01)])
    assert not model.joins(1, 1000, 1000, 20)
    passes = 0
    while not model.joins(1, 1000, 1000, 20):
        model, passes = model.observe(1, 1000, 0.1), passes + 1
    assert 50 < passes < 800


def test_a_device_that_gets_slower_under_batches_of_one_size_keeps_its_marginal_time() -> None:
    """It is a row of passes of eight: they say nothing about what one of them adds."""
    model = CostModel.of([Knot(1000, 0.1, 0.1, marginal_variance=0.0004)])
    for _ in range(100):
        model = model.observe(8, 8000, 3 * 0.17)
    assert model.pass_s(8, 8000) == pytest.approx(3 * 0.17, rel=0.05)
    assert model.at(1000).marginal < 0.3


def test_the_mean_counts_where_a_step_cache_answers_passes() -> None:
    """Of each ten passes six take a tenth of the time: a backlog of hundred takes what they all take."""
    model = CostModel.of([Knot(1000, 1.0)])
    for number in range(2000):
        model = model.observe(1, 1000, 0.1 if number % 5 in {1, 2, 4} else 1.0)
    assert model.work_s(1000, 100, started=True) == pytest.approx(46, rel=0.1)


def test_calls_of_one_token_are_counted() -> None:
    """A family may not say how large its calls are."""
    model = CostModel.of([Knot(1, 1.0)])
    for _ in range(100):
        model = model.observe(1, 1, 0.3).observe(4, 4, 0.3)
    assert len(model.knots) == 1
    assert model.joins(3, 3, 1, 5) and model.work_s(1, 10, started=True) == pytest.approx(3, rel=0.1)


def test_the_first_pass_of_a_size_compiles_and_is_forgotten() -> None:
    """A hundred times as long as the others; other sizes are not affected."""
    model = CostModel.of([Knot(1000, 0.1, 0.5, marginal_variance=0.01)])
    known = model.observe(1, 1000, 0.1)
    for edits in (1, 4):
        model = known.observe(edits, 4000 * edits, 100.0)
        for _ in range(20):
            model = model.observe(1, 4000, 0.25).observe(2, 8000, 0.45)
        assert model.pass_s(1, 4000) == pytest.approx(0.25, rel=0.1)
        assert model.joins(1, 4000, 4000, 20) is True
        assert model.pass_s(1, 1000) == known.pass_s(1, 1000)


def test_one_long_encoding_at_most_doubles_the_time_of_the_ends() -> None:
    model = CostModel.of([Knot(1000, 0.1, ends_s=2.0)]).observe_ends(1000, 300.0)
    assert 2 < model.at(1000).ends_s <= 4

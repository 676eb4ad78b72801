"""Intervals, pairs and correlations."""

from __future__ import annotations

import math
import random

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from evaluation.aggregation.scored import Point, headline
from evaluation.statistics import difference, interval, kendall, ranks, spearman


def points(values: list[float], stratum: str = "all") -> dict[str, Point]:
    return {f"{stratum}{number}": Point(stratum, value) for number, value in enumerate(values)}


def test_an_interval_is_about_two_standard_errors() -> None:
    rolls = random.Random(1)
    values = [rolls.gauss(5, 2) for _ in range(400)]
    found = interval(list(points(values).values()))
    assert found and found.low and found.high
    assert found.low < found.value < found.high
    assert (found.high - found.low) == pytest.approx(2 * 1.96 * 2 / math.sqrt(400), rel=0.15)
    assert interval(list(points(values).values())) == found, "the same every time"
    single = interval([Point("all", 3)])
    assert single and (single.value, single.low) == (3, None)
    assert interval([]) is None


def test_pairs_are_surer_than_two_arms_alone() -> None:
    rolls = random.Random(2)
    hard = [rolls.gauss(5, 2) for _ in range(60)]
    found = difference(points([value + 0.3 + rolls.gauss(0, 0.2) for value in hard]), points(hard))
    assert found and found.sure and found.change.value == pytest.approx(0.3, abs=0.1)
    assert found.wins > found.losses and found.items == 60
    alone = interval(list(points(hard).values()))
    assert alone and alone.low and alone.high and alone.high - alone.low > 1


def test_only_items_that_both_answered_are_compared() -> None:
    found = difference(points([5, 4, 9]), points([5, 3]))
    assert found and (found.wins, found.ties, found.losses, found.change.value) == (1, 1, 0, 0.5)
    assert difference(points([1]), {}) is None


def test_the_mean_of_strata_is_resampled_within_them() -> None:
    arm = points([9.0] * 30, "a") | points([1.0] * 2, "b")
    found = interval(list(arm.values()))
    assert found and (found.value, found.low, found.high) == (5, 5, 5)
    assert headline(arm.values()) == 5


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30))
def test_correlations_are_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = [float(one) for one, _ in pairs], [float(other) for _, other in pairs]
    assert list(ranks(first)) == list(scipy.stats.rankdata(first))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert spearman(first, second) is kendall(first, second) is None
    else:
        assert spearman(first, second) == pytest.approx(float(scipy.stats.spearmanr(first, second).statistic))
        assert kendall(first, second) == pytest.approx(float(scipy.stats.kendalltau(first, second).statistic))

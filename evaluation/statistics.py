"""Intervals and pairs: how sure a difference between two arms is, by resampling items (the bootstrap)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from evaluation.aggregation.scored import Point, headline

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
_SEED: Final = 20_261_130
"""Of all resampling: the same results always give the same intervals."""
_EQUAL: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, and the bounds between which 95 % of resampled values are; without them where there is one item only."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm against the baseline, over the items that both answered.

    Attributes:
        change: of the headline, and its interval. Items are resampled in pairs: what makes an item hard is in both.
        wins, ties, losses: items on which the arm is better, as good, and worse.
    """

    change: Interval
    baseline: float
    wins: int
    ties: int
    losses: int

    @property
    def items(self) -> int:
        """The items that both answered."""
        return self.wins + self.ties + self.losses

    @property
    def sure(self) -> bool:
        """Whether the interval lies on one side of no change."""
        low, high = self.change.low, self.change.high
        return low is not None and high is not None and (low > 0 or high < 0)


def interval(points: Sequence[Point]) -> Interval | None:
    """The headline of an arm with its interval; None without points."""
    value = headline(points)
    if value is None:
        return None
    low, high = _bounds(_resampled([points])[0])
    return Interval(value, low, high) if len(points) > 1 else Interval(value, None, None)


def difference(arm: Mapping[str, Point], baseline: Mapping[str, Point]) -> Difference | None:
    """An arm against the baseline by item; None where they have no item in common."""
    both = sorted(set(arm) & set(baseline))
    ours, theirs = [arm[item] for item in both], [baseline[item] for item in both]
    value, before = headline(ours), headline(theirs)
    if value is None or before is None:
        return None
    low = high = None
    if len(both) > 1:
        first, second = _resampled([ours, theirs])
        low, high = _bounds(first - second)
    gains = [one.total / one.weight - other.total / other.weight for one, other in zip(ours, theirs, strict=True)]
    wins, losses = sum(gain > _EQUAL for gain in gains), sum(gain < -_EQUAL for gain in gains)
    return Difference(Interval(value - before, low, high), before, wins, len(both) - wins - losses, losses)


def _resampled(arms: Sequence[Sequence[Point]]) -> list[Any]:
    """The headlines of each arm in every resample. Strata keep their sizes; all arms have the same items."""
    draw = np.random.default_rng(_SEED)
    names = [point.stratum for point in arms[0]]
    sums = [np.zeros(RESAMPLES) for _ in arms]
    strata = sorted(set(names))
    for stratum in strata:
        places = [place for place, name in enumerate(names) if name == stratum]
        drawn = draw.integers(len(places), size=(RESAMPLES, len(places)))
        for number, points in enumerate(arms):
            totals = np.array([points[place].total for place in places])
            weights = np.array([points[place].weight for place in places])
            sums[number] += totals[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    return [total / len(strata) for total in sums]


def _bounds(values: Any) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def ranks(values: Sequence[float]) -> Any:
    """Ranks from 1; equal values share their mean rank."""
    array = np.asarray(values, dtype=float)
    order = array.argsort(kind="stable")
    placed = np.empty(len(array))
    placed[order] = np.arange(1, len(array) + 1)
    for value in np.unique(array):
        placed[array == value] = placed[array == value].mean()
    return placed


def pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The linear correlation; None where one side does not vary."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:  # noqa: PLR2004 - two points make a line
        return None
    return float(np.corrcoef(one, other)[0, 1])


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The correlation of ranks; None where one side does not vary."""
    return pearson(ranks(first), ranks(second))


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where one side does not vary."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    total = 0.0
    ties = [0.0, 0.0]
    # Row by row: the whole square of 10,000 values would take 800 MB.
    for place in range(len(one) - 1):
        signs = [np.sign(values[place + 1 :] - values[place]) for values in (one, other)]
        total += float((signs[0] * signs[1]).sum())
        ties = [known + float((sign != 0).sum()) for known, sign in zip(ties, signs, strict=True)]
    return None if 0 in ties else total / float(np.sqrt(ties[0] * ties[1]))

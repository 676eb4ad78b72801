"""One item's scores, and what an aggregation makes of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Scored:
    """A judge's scores of one result.

    Attributes:
        values: by metric; None where the judge's reply could not be read.
        flags: of the item, that its aggregation needs.
    """

    item: str
    group: str
    values: Mapping[str, float | None]
    subgroup: str = ""
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Point:
    """An item's part in a headline: the mean over strata of (sum of totals / sum of weights)."""

    stratum: str
    total: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Summary:
    """An arm's numbers.

    Attributes:
        headline: the number that papers compare; None where nothing was scored.
        groups: numbers by group and metric, in the order of the official tables.
        unread: items with a reply that could not be read.
        notes: what is particular about these numbers.
    """

    headline: float | None
    groups: Mapping[str, Mapping[str, float]]
    unread: int = 0
    notes: Sequence[str] = field(default=())


def mean(values: Iterable[float]) -> float | None:
    """The arithmetic mean; None without values."""
    known = list(values)
    return sum(known) / len(known) if known else None


def means(values: Mapping[str, Iterable[float]]) -> dict[str, float]:
    """The means of those that have values."""
    found = {name: mean(known) for name, known in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def headline(points: Iterable[Point]) -> float | None:
    """The mean over strata of (sum of totals / sum of weights); None without points."""
    totals: dict[str, float] = {}
    weights: dict[str, float] = {}
    for point in points:
        totals[point.stratum] = totals.get(point.stratum, 0.0) + point.total
        weights[point.stratum] = weights.get(point.stratum, 0.0) + point.weight
    return mean(totals[name] / weights[name] for name in totals if weights[name])

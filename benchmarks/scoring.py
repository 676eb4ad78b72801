"""Distances to the target, ratios, success rates, and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.asking import Answer, Strategy
from benchmarks.cases import Case
from benchmarks.colorimetry import difference, difference_2000
from benchmarks.photos import photo
from benchmarks.targets import target

THRESHOLDS = (0.5, 0.6, 0.75)
SUCCESS = 0.6
"""A case succeeds when the result's distance to the target is at most this share of the source's."""
TIE = 0.05
"""Differences below this mean ΔE count as ties, not as wins."""
ROUNDS = 10_000


@dataclass(frozen=True)
class Trial:
    """One answer, measured. A failed request counts as the untouched source."""

    case: Case
    strategy: Strategy
    seed: int
    answer: Answer
    before: float
    distance: float
    distance_2000: float | None


@dataclass(frozen=True)
class Outcome:
    """A case with each strategy's mean distance over the seeds; `source` is the unedited picture."""

    case: Case
    before: float
    distances: dict[str, float]

    def ratio(self, strategy: str) -> float:
        """The distance as a share of the source's."""
        return self.distances[strategy] / self.before


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def measure(case: Case, strategy: Strategy, seed: int, answer: Answer, *, ciede2000: bool = False) -> Trial:
    """Compare an answer with the target of its case."""
    source, expected = photo(case.photo).pixels, target(case.photo, case.recipe)
    result = source if answer.pixels is None else answer.pixels
    newer = difference_2000(result, expected) if ciede2000 else None
    return Trial(case, strategy, seed, answer, difference(source, expected), difference(result, expected), newer)


def outcomes(trials: Sequence[Trial]) -> list[Outcome]:
    """Trials grouped by case, in the order of the cases."""
    grouped: dict[Case, list[Trial]] = {}
    for trial in trials:
        grouped.setdefault(trial.case, []).append(trial)
    return [_outcome(case, group) for case, group in grouped.items()]


def _outcome(case: Case, trials: list[Trial]) -> Outcome:
    before = trials[0].before
    distances = {"source": before}
    for strategy in dict.fromkeys(trial.strategy for trial in trials):
        distances[strategy] = float(np.mean([trial.distance for trial in trials if trial.strategy == strategy]))
    return Outcome(case, before, distances)


def summary(results: Sequence[Outcome], strategy: str) -> dict[str, float]:
    """Mean distance, mean ratio and the success rates of a strategy."""
    ratios = np.array([result.ratio(strategy) for result in results])
    rates = {f"success_{limit}": float((ratios <= limit).mean()) for limit in THRESHOLDS}
    distance = float(np.mean([result.distances[strategy] for result in results]))
    return {"distance": distance, "ratio": float(ratios.mean()), **rates}


def duel(results: Iterable[Outcome], first: str, second: str) -> tuple[int, int, int]:
    """Wins, ties and losses of the first strategy; the smaller distance wins."""
    gaps = [result.distances[first] - result.distances[second] for result in results]
    wins, losses = sum(gap < -TIE for gap in gaps), sum(gap > TIE for gap in gaps)
    return wins, len(gaps) - wins - losses, losses


def bootstrap(gaps: NDArray[np.float64], groups: Sequence[str] | None = None) -> Interval:
    """Percentile bootstrap of the mean gap, resampling cases or, with `groups`, whole groups of cases.

    Cases of one recipe share the target's look and the thinker's reading of it, so they are not independent. Resampling
    recipes gives the wider interval that accounts for this.
    """
    labels = list(groups) if groups is not None else [str(index) for index in range(len(gaps))]
    unique, member = np.unique(labels, return_inverse=True)
    sums = np.bincount(member, weights=gaps)
    counts = np.bincount(member)
    drawn = np.random.default_rng(0).integers(0, len(unique), size=(ROUNDS, len(unique)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(np.mean(gaps)), float(low), float(high))

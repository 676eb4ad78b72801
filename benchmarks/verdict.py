"""The comparison of think with best_of_n, as plain data for tables, files and the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.asking import Answer, Strategy
from benchmarks.scoring import Interval, Outcome, Trial, bootstrap, duel, summary


@dataclass(frozen=True)
class Verdict:
    """Think against best_of_n at equal edits.

    Attributes:
        by_case: mean ΔE difference think - best_of_n with an interval over cases (negative: think is nearer).
        by_recipe: the same, resampling whole recipes.
        ratio_by_recipe: the same for the ratio to the source's distance.
        record: wins, ties, losses of think against best_of_n.
        against_nothing: wins, ties, losses of think against the untouched source.
        over_single: by family, the mean ratio difference think - single, with an interval over cases.
        over_budget: trials that made more edits than allowed; any invalidates the comparison.
        refused: cases that the editor refuses before the first edit, counted as the untouched source.
        errors: requests that failed, counted as the untouched source.
    """

    by_case: Interval
    by_recipe: Interval
    ratio_by_recipe: Interval
    record: tuple[int, int, int]
    against_nothing: tuple[int, int, int]
    over_single: dict[str, Interval]
    over_budget: list[str]
    refused: list[str]
    errors: list[str]

    @property
    def wins(self) -> bool:
        """Whether think is significantly nearer by both intervals, and not below single in any family, without failed requests
        or extra edits.
        """
        nearer = self.by_case.high < 0 and self.by_recipe.high < 0 and not self.below_single
        return nearer and not self.over_budget and not self.errors

    @property
    def below_single(self) -> list[str]:
        """The families in which think is farther from the targets than one plain edit."""
        return [family for family, gap in self.over_single.items() if gap.mean > 0]


def judge(results: Sequence[Outcome], trials: Sequence[Trial], edits: int) -> Verdict:
    """Compare think with best_of_n over all cases."""
    gaps = np.array([result.distances["think"] - result.distances["best_of_n"] for result in results])
    recipes = [result.case.recipe for result in results]
    return Verdict(
        by_case=bootstrap(gaps),
        by_recipe=bootstrap(gaps, recipes),
        ratio_by_recipe=bootstrap(_gaps(results, "think", "best_of_n"), recipes),
        record=duel(results, "think", "best_of_n"),
        against_nothing=duel(results, "think", "source"),
        over_single={family: bootstrap(_gaps(group, "think", "single")) for family, group in families(results).items()},
        over_budget=[_label(trial) for trial in trials if trial.answer.edits > _allowed(trial, edits)],
        refused=list(dict.fromkeys(f"{trial.case.id}: {trial.answer.refused}" for trial in trials if trial.answer.refused)),
        errors=[f"{_label(trial)}: {trial.answer.error}" for trial in trials if trial.answer.error],
    )


def columns(results: Sequence[Outcome]) -> list[str]:
    """The untouched source and the strategies that were run."""
    return list(results[0].distances)


def _gaps(results: Sequence[Outcome], first: str, second: str) -> NDArray[np.float64]:
    return np.array([result.ratio(first) - result.ratio(second) for result in results])


def lost(results: Sequence[Outcome], against: str) -> list[Outcome]:
    """The cases think loses against a strategy, worst first."""
    losses = [result for result in results if duel([result], "think", against)[2]]
    return sorted(losses, key=lambda result: result.distances[against] - result.distances["think"])


def families(results: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Results by family of recipes, in the order of the cases."""
    grouped: dict[str, list[Outcome]] = {}
    for result in results:
        grouped.setdefault(result.case.family, []).append(result)
    return grouped


def headline(verdict: Verdict, results: Sequence[Outcome], trials: Sequence[Trial], wall: float) -> dict[str, Any]:
    """The run in one object."""
    return {
        "think_wins": verdict.wins,
        "cases": len(results),
        "totals": {name: _rounded(summary(results, name)) for name in columns(results)},
        "mean_edits": {name: cost.edits for name, cost in costs(trials).items()},
        "costs": {name: asdict(cost) for name, cost in costs(trials).items()},
        "think_minus_single": {family: _rounded(asdict(gap)) for family, gap in verdict.over_single.items()},
        "below_single": verdict.below_single,
        "ciede2000": _newer(trials),
        "think_minus_best_of_n": _rounded(asdict(verdict.by_case)),
        "think_minus_best_of_n_by_recipe": _rounded(asdict(verdict.by_recipe)),
        "ratio_difference_by_recipe": _rounded(asdict(verdict.ratio_by_recipe)),
        "wins_ties_losses": verdict.record,
        "against_doing_nothing": verdict.against_nothing,
        "over_budget": len(verdict.over_budget),
        "refused": len(verdict.refused),
        "errors": len(verdict.errors),
        "wall_s": round(wall, 1),
    }


def details(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Every trial without its pixels."""
    return [
        {
            "case": trial.case.id,
            "family": trial.case.family,
            "instruction": trial.case.instruction,
            "strategy": trial.strategy,
            "seed": trial.seed,
            "source_distance": round(trial.before, 4),
            "distance": round(trial.distance, 4),
            "distance_ciede2000": trial.distance_2000,
            "ratio": round(trial.distance / trial.before, 4),
            "edits": trial.answer.edits,
            "turns": trial.answer.turns,
            "finish_reason": trial.answer.finish_reason,
            "overall": trial.answer.overall,
            "editor_seconds": trial.answer.editor_seconds,
            "thinker_seconds": trial.answer.thinker_seconds,
            "session_id": trial.answer.session_id,
            "seconds": round(trial.answer.seconds, 3),
            "refused": trial.answer.refused,
            "error": trial.answer.error,
        }
        for trial in trials
    ]


def _allowed(trial: Trial, edits: int) -> int:
    return 1 if trial.strategy == "single" else edits


def _label(trial: Trial) -> str:
    return f"{trial.case.id} {trial.strategy} seed {trial.seed}"


@dataclass(frozen=True)
class Cost:
    """Means over the sessions of a strategy, and the share of them that ended as satisfied."""

    edits: float
    editor_seconds: float
    thinker_seconds: float
    satisfied: float


def costs(trials: Sequence[Trial]) -> dict[Strategy, Cost]:
    """What each strategy took."""
    grouped: dict[Strategy, list[Trial]] = {}
    for trial in trials:
        grouped.setdefault(trial.strategy, []).append(trial)
    return {strategy: _cost([trial.answer for trial in group]) for strategy, group in grouped.items()}


def _cost(answers: Sequence[Answer]) -> Cost:
    rows = [(one.edits, one.editor_seconds, one.thinker_seconds, one.finish_reason == "satisfied") for one in answers]
    return Cost(*(round(float(value), 3) for value in np.mean(rows, axis=0)))


def _newer(trials: Sequence[Trial]) -> dict[str, float] | None:
    """Mean CIEDE2000 distance per strategy, if it was measured."""
    means: dict[str, float] = {}
    for strategy in dict.fromkeys(trial.strategy for trial in trials):
        values = [t.distance_2000 for t in trials if t.strategy == strategy and t.distance_2000 is not None]
        if not values:
            return None
        means[strategy] = round(float(np.mean(values)), 4)
    return means


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}

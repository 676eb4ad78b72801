"""The numbers of a report: for every dataset and judge the arms' scores, what they cost, and how they compare to the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from editthinker.cli import records
from evaluation.aggregation import plain
from evaluation.aggregation.scored import Point, Scored, Summary
from evaluation.items import Dataset
from evaluation.results import Row
from evaluation.scoring import work
from evaluation.scoring.prompts import OURS
from evaluation.scoring.questions import AGGREGATIONS
from evaluation.statistics import Difference, Interval, difference, interval

BASELINE: Final = "single"
"""The arm that others are compared with, if there is one of this name."""
_GROUP_METRICS: Final = ("score", "overall", "accuracy", "AVG")
"""The metric of a group's bar: the first of these that it has."""


class ReportError(ValueError):
    """A report that cannot be made."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an arm used, a mean for each item but for the time, which is the median."""

    items: int
    edits: float
    editor_seconds: float
    thinker_seconds: float
    tokens: float
    wall_seconds: float | None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Cost | None:
        """Of these rows, failed ones included; None without any."""
        asked = [row for row in rows if row.status != "skipped"]
        if not asked:
            return None
        walls = [row.wall_seconds for row in asked if row.wall_seconds is not None]
        return cls(
            len(asked),
            sum(row.edits for row in asked) / len(asked),
            sum(row.editor_seconds for row in asked) / len(asked),
            sum(row.thinker_seconds for row in asked) / len(asked),
            sum(row.prompt_tokens + row.completion_tokens for row in asked) / len(asked),
            median(walls) if walls else None,
        )


@dataclass(frozen=True, slots=True)
class Line:
    """An arm in a section."""

    arm: str
    summary: Summary
    interval: Interval | None
    cost: Cost | None
    counts: Mapping[str, int]
    scored: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against the baseline, over the items that both answered, with what each used for these."""

    arm: str
    baseline: str
    difference: Difference
    cost: Cost | None
    baseline_cost: Cost | None
    gains: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Section:
    """A dataset by one judge.

    Attributes:
        title: what the headline is.
        scale: its lowest and highest value.
        groups: the headline metric by group and arm.
        values: each item's headline by arm.
    """

    dataset: str
    judge: str
    title: str
    pin: str
    scale: tuple[float, float]
    lines: Sequence[Line]
    comparisons: Sequence[Comparison]
    groups: Mapping[str, Mapping[str, float]]
    values: Mapping[str, Mapping[str, float]]
    notes: Sequence[str]

    @property
    def official(self) -> bool:
        """Whether it is a benchmark's number, and not that of the sessions' own judge."""
        return self.judge != work.SERVER


@dataclass(frozen=True, slots=True)
class Report:
    """A run's report."""

    folder: Path
    baseline: str
    arms: Sequence[str]
    sections: Sequence[Section]
    rows: Sequence[Row]


def build(folder: Path, datasets: Sequence[Dataset], rows: Sequence[Row], baseline: str | None = None) -> Report:
    """The report of a run's rows.

    Args:
        baseline: an arm; the one named ``single``, or else the first, if None.

    Raises:
        ReportError: when the baseline is none of the arms.
    """
    arms = list(dict.fromkeys(row.arm for row in rows))
    chosen = baseline or (BASELINE if BASELINE in arms else arms[0] if arms else "")
    if chosen not in arms:
        message = f"{chosen!r} is none of the arms: {', '.join(arms)}" if arms else f"{folder}: the run has no results"
        raise ReportError(message)
    ordered = [chosen, *(arm for arm in arms if arm != chosen)]
    sections = [
        section
        for dataset in datasets
        for judge in [*work.judges(folder), work.SERVER]
        if (section := _section(folder, dataset, rows, judge, ordered)) is not None
    ]
    return Report(folder, chosen, ordered, sections, rows)


def _section(folder: Path, dataset: Dataset, rows: Sequence[Row], judge: str, arms: Sequence[str]) -> Section | None:
    found = work.scored(folder, dataset, rows, judge)
    if not found:
        return None
    module: Any = plain if judge == work.SERVER else AGGREGATIONS[dataset.name]
    points = {arm: _points(module, scored.values()) for arm, scored in found.items()}
    own = [row for row in rows if row.dataset == dataset.name]
    lines = [_line(arm, found.get(arm, {}), points.get(arm, {}), own, module) for arm in arms]
    return Section(
        dataset.name,
        judge,
        module.NAME,
        module.PIN,
        module.SCALE,
        lines,
        [made for arm in arms[1:] if (made := _comparison(arm, arms[0], points, own)) is not None],
        _groups(lines),
        _values(points),
        _notes(folder, dataset, judge, lines),
    )


def _points(module: Any, scored: Iterable[Scored]) -> dict[str, Point]:
    return {each.item: part for each in scored if (part := module.point(each)) is not None}


def _line(arm: str, scored: Mapping[str, Scored], points: Mapping[str, Point], rows: Sequence[Row], module: Any) -> Line:
    own = [row for row in rows if row.arm == arm]
    counts: Counter[str] = Counter(row.status for row in own)
    summary = module.aggregate(list(scored.values()))
    return Line(arm, summary, interval(list(points.values())), Cost.of(own), counts, len(scored))


def _comparison(arm: str, baseline: str, points: Mapping[str, Mapping[str, Point]], rows: Sequence[Row]) -> Comparison | None:
    ours, theirs = points.get(arm, {}), points.get(baseline, {})
    found = difference(ours, theirs)
    if found is None:
        return None
    both = set(ours) & set(theirs)
    costs = [Cost.of([row for row in rows if row.arm == name and row.item in both]) for name in (arm, baseline)]
    gains = {item: ours[item].total / ours[item].weight - theirs[item].total / theirs[item].weight for item in both}
    return Comparison(arm, baseline, found, costs[0], costs[1], gains)


def _groups(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """The headline metric by group and arm. The total of all is no group."""
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        for group, values in line.summary.groups.items():
            metric = next((name for name in _GROUP_METRICS if name in values), None)
            if metric is not None and group != "Overall":
                found.setdefault(group, {})[line.arm] = values[metric]
    return found


def _values(points: Mapping[str, Mapping[str, Point]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for arm, parts in points.items():
        for item, part in parts.items():
            found.setdefault(item, {})[arm] = part.total / part.weight
    return found


def _notes(folder: Path, dataset: Dataset, judge: str, lines: Sequence[Line]) -> list[str]:
    notes = list(dict.fromkeys(f"{line.arm}: {note}" for line in lines for note in line.summary.notes))
    for line in lines:
        told = {name: line.counts.get(name, 0) for name in ("failed", "skipped", "unchanged")}
        missing = len(dataset.items) - sum(line.counts.values())
        told |= {"not run": missing, "not scored": line.counts["edited"] + line.counts["unchanged"] - line.scored}
        told |= {"with an unread reply": line.summary.unread}
        if words := ", ".join(f"{count} {name}" for name, count in told.items() if count > 0):
            notes.append(f"{line.arm}: of {len(dataset.items)} items {words}")
    if judge == work.SERVER:
        notes.append("the judge that steered the sessions also scores them here: ask another one with `editthinker eval score`")
    elif OURS in work.Answers(records.read(folder / work.JOURNAL), judge).origins():
        notes.append("asked in our words and not the benchmark's: not comparable to papers")
    return notes

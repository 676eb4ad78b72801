"""KRIS-Bench: every score is brought to 0 to 100, and means are over all single scores, not over means.

Follows ``eval/kris/summarize.py`` of appletea233/EditThinker at 803d1a7, which aggregates the ``metrics.json`` of
mercurystraw/Kris_Bench at 7f7a944. That paper leaves Temporal Prediction out, and sends one picture of items that have several.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from evaluation.aggregation.scored import Point, Scored, Summary, headline, mean, means
from evaluation.datasets.krisbench import CATEGORIES, DIMENSIONS, KNOWLEDGE, PLAUSIBLE

NAME: Final = "KRIS-Bench, mean over all scores (0 to 100)"
SCALE: Final = (0.0, 100.0)
PIN: Final = "appletea233/EditThinker 803d1a7 over mercurystraw/Kris_Bench 7f7a944"
METRICS: Final = ("consistency", "quality", "instruction", "knowledge")
_SHORT: Final = {"consistency": "VC", "quality": "VQ", "instruction": "IF", "knowledge": "KP"}


def normalized(score: float) -> float:
    """1 to 5 as 0 to 100."""
    return (score - 1) * 25


def required(category: str) -> tuple[str, ...]:
    """The metrics of a category."""
    return METRICS if CATEGORIES.get(category) in PLAUSIBLE else METRICS[:3]


def point(scored: Scored) -> Point | None:
    """The item's scores, which count one by one; None for a category that is not counted."""
    if scored.group not in CATEGORIES:
        return None
    known = [normalized(value) for _, value in _known(scored)]
    return Point("all", sum(known), len(known)) if known else None


def aggregate(items: Sequence[Scored]) -> Summary:
    """The means by category, dimension and type of knowledge, and over all."""
    groups: dict[str, dict[str, float]] = {}
    for name, categories in ({name: (name,) for name in CATEGORIES} | dict(DIMENSIONS)).items():
        if found := _metrics(items, categories):
            groups[name] = found
    for knowledge, dimensions in KNOWLEDGE.items():
        if found := _metrics(items, [name for dimension in dimensions for name in DIMENSIONS[dimension]]):
            groups[knowledge] = {"AVG": found["AVG"]}
    uncounted = sorted({each.group for each in items} - set(CATEGORIES))
    unread = sum(any(each.values.get(name) is None for name in required(each.group)) for each in items)
    missing = [dimension for dimension in DIMENSIONS if dimension not in groups]
    notes = [f"without {', '.join(missing)}"] if missing and groups else []
    if uncounted:
        notes.append(f"without {', '.join(uncounted)}, which the script does not count")
    points = [part for each in items if (part := point(each)) is not None]
    return Summary(headline(points), groups, unread, notes)


def _known(scored: Scored) -> Iterable[tuple[str, float]]:
    for name in required(scored.group):
        value = scored.values.get(name)
        if value is not None:
            yield name, value


def _metrics(items: Sequence[Scored], categories: Collection[str]) -> dict[str, float]:
    """Means by metric of these categories, and AVG over all single scores."""
    found: dict[str, list[float]] = {_SHORT[name]: [] for name in METRICS}
    for each in items:
        if each.group in categories:
            for name, value in _known(each):
                found[_SHORT[name]].append(normalized(value))
    every = mean(value for values in found.values() for value in values)
    return {} if every is None else means(found) | {"AVG": every}

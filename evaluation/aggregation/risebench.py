"""RISEBench: the share of items whose required scores are all 5, and a weighted score.

Follows ``gpt_eval.py`` of PhoenixZ810/RISEBench at 5f22651. Two versions of its rule are told apart:

- ``2026``: since ce8cba3 (announced 2026-04-23) an item marked ``consistency_free`` needs reasoning and plausibility alone.
- ``2025``: before, such an item never counted as right, since it has no score of consistency. EditThinker's copy is of that time.

Numbers of the two do not compare. The weighted score has a flaw in both: as soon as one item of the file has
``consistency_free``, pandas gives it to the others as NaN, which is true, and every item but the logical ones is weighted as if
it were marked. That is what is published, so `aggregate` does it unless it is told not to. The accuracy is not affected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

from evaluation.aggregation.scored import Point, Scored, Summary, mean

Rule = Literal["2026", "2025"]
NAME: Final = "RISEBench accuracy (%)"
SCALE: Final = (0.0, 100.0)
PIN: Final = "PhoenixZ810/RISEBench 5f22651"
METRICS: Final = ("consistency", "reasoning", "plausibility")
FREE: Final = "consistency_free"
LOGICAL: Final = "logical_reasoning"
_BEST: Final = 5
_NAMES: Final = {
    "temporal_reasoning": "Temporal",
    "causal_reasoning": "Causal",
    "spatial_reasoning": "Spatial",
    LOGICAL: "Logical",
}


def binary(score: int) -> int:
    """A logical item's answer, 0 or 1, on the scale of the others: 1 or 5."""
    return 4 * min(score, 1) + 1


def complete(scored: Scored, rule: Rule = "2026") -> bool:
    """Whether every required score is 5. What could not be read is not."""
    consistency, reasoning, plausibility = (scored.values.get(name) for name in METRICS)
    if scored.group == LOGICAL:
        return (consistency, reasoning) == (_BEST, _BEST)
    if FREE in scored.flags and rule == "2026":
        return (reasoning, plausibility) == (_BEST, _BEST)
    return (consistency, reasoning, plausibility) == (_BEST, _BEST, _BEST)


def weighted(scored: Scored, *, free: bool) -> float:
    """The weighted score, 1 to 5; NaN where a score that it needs is missing.

    Args:
        free: weight it as an item without consistency.
    """
    consistency, reasoning, plausibility = (_number(scored.values.get(name)) for name in METRICS)
    if scored.group == LOGICAL:
        score = 0.3 * consistency + 0.7 * reasoning
    elif free:
        score = 0.2 * plausibility + 0.8 * reasoning
    else:
        score = 0.3 * consistency + 0.5 * reasoning + 0.2 * plausibility
    if reasoning == 1:
        score *= 0.5
        score = max(score, 1.0) if not math.isnan(score) else score
    return score


def percent(score: float) -> float:
    """1 to 5 as 0 to 100."""
    return 25 * (score - 1)


def point(scored: Scored) -> Point:
    """The item's part in the accuracy, by the rule since 2026."""
    return Point("all", 100.0 * complete(scored))


def aggregate(items: Sequence[Scored], rule: Rule = "2026", *, as_published: bool = True) -> Summary:
    """Accuracy (%) and weighted score (0 to 100) of all items and by category.

    Args:
        as_published: with the flaw of the weighted score.
    """
    spreads = as_published and any(FREE in each.flags for each in items)
    rows = [(each.group, complete(each, rule), weighted(each, free=spreads or FREE in each.flags)) for each in items]
    groups = {}
    for name, title in [("", "Overall"), *_NAMES.items()]:
        members = [(right, score) for group, right, score in rows if not name or group == name]
        if not members:
            continue
        groups[title] = {"accuracy": 100.0 * sum(right for right, _ in members) / len(members)}
        score = mean(score for _, score in members if not math.isnan(score))
        if score is not None:
            groups[title]["score"] = percent(score)
    unread = sum(_unread(each) for each in items)
    notes = [f"rule of {'since 2026-04' if rule == '2026' else 'before 2026-04'}"]
    if spreads:
        notes.append("weighted score as published: every item but the logical ones is weighted without consistency")
    return Summary(groups["Overall"]["accuracy"] if items else None, groups, unread, notes)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _unread(scored: Scored) -> bool:
    names = METRICS[:2] if scored.group == LOGICAL else METRICS[1:] if FREE in scored.flags else METRICS
    return any(scored.values.get(name) is None for name in names)

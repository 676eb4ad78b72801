"""GEdit-Bench v1: SC and PQ are the smaller of their two scores, O is the root of their product; the mean of the 11 group means.

Follows ``calculate_statistics.py`` of stepfun-ai/Step1X-Edit at 570eba6 and VIEScore's task ``tie``. The mean over all items,
which lmms-eval's task reports (EvolvingLMMs-Lab/lmms-eval at 75571cf), is another number: groups have different sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from evaluation.aggregation.scored import Point, Scored, Summary, headline, mean, means
from evaluation.datasets.gedit import GROUPS

NAME: Final = "GEdit G_O, mean of the 11 groups (0 to 10)"
SCALE: Final = (0.0, 10.0)
PIN: Final = "stepfun-ai/Step1X-Edit 570eba6"
METRICS: Final = ("semantics", "quality")
INTERSECTION: Final = "intersection"


def overall(scored: Scored) -> float | None:
    """The root of semantics times quality; None where one is missing."""
    semantics, quality = (scored.values.get(name) for name in METRICS)
    return None if semantics is None or quality is None else math.sqrt(semantics * quality)


def point(scored: Scored) -> Point | None:
    """The item's part in the mean of its group."""
    score = overall(scored)
    return None if score is None else Point(scored.group, score)


def aggregate(items: Sequence[Scored]) -> Summary:
    """The means of each group, and of the groups. A group without items is left out, and named."""
    known = [(each, score) for each in items if (score := overall(each)) is not None]
    groups = {}
    for name in GROUPS:
        members = [(each, score) for each, score in known if each.group == name]
        if members:
            found = {metric: [each.values[metric] or 0.0 for each, _ in members] for metric in METRICS}
            groups[name] = means(found | {"overall": [score for _, score in members]})
    missing = [name for name in GROUPS if name not in groups]
    notes = [f"without the groups {', '.join(missing)}: not comparable to papers"] if missing and groups else []
    points = [Point(each.group, score) for each, score in known]
    return Summary(headline(points), groups, len(items) - len(known), notes)


def item_mean(items: Sequence[Scored]) -> float | None:
    """The mean of O over all items, as lmms-eval reports it."""
    return mean(score for each in items if (score := overall(each)) is not None)


def intersection(items: Sequence[Scored]) -> Summary:
    """The same over the items that every model of the paper answered (``Intersection_exist``)."""
    return aggregate([each for each in items if INTERSECTION in each.flags])

"""ImgEdit-Bench: the mean of an item's three scores, rounded to two decimals; the mean of these by type, and over all items.

Follows ``step1_get_avgscore.py`` and ``step2_typescore.py`` of PKU-YuanGroup/ImgEdit at 547185d. The overall mean over all items,
and not over the nine types, is that of appletea233/EditThinker at 803d1a7, whose paper reports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from evaluation.aggregation.scored import Point, Scored, Summary, headline, mean, means

NAME: Final = "ImgEdit, mean over items (1 to 5)"
SCALE: Final = (1.0, 5.0)
PIN: Final = "PKU-YuanGroup/ImgEdit 547185d; overall as appletea233/EditThinker 803d1a7"
METRICS: Final = ("first", "second", "third")
"""The three scores in the order of the reply's lines; their names differ by type."""


def item_score(scored: Scored) -> float | None:
    """The mean of the item's scores, rounded to two decimals, as the first script writes it; None without scores."""
    value = mean(score for score in scored.values.values() if score is not None)
    return None if value is None else round(value, 2)


def point(scored: Scored) -> Point | None:
    """The item's part in the overall mean."""
    score = item_score(scored)
    return None if score is None else Point("all", score)


def aggregate(items: Sequence[Scored]) -> Summary:
    """The means by type, and over all items."""
    points = [(each, point(each)) for each in items]
    types: dict[str, list[float]] = {}
    for each, part in points:
        if part is not None:
            types.setdefault(each.group, []).append(part.total)
    known = [part for _, part in points if part is not None]
    groups = {name: {"score": value} for name, value in means(dict(sorted(types.items()))).items()}
    return Summary(headline(known), groups, len(points) - len(known))

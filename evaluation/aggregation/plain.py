"""Two scores of 0 to 10 of any dataset, by the sessions' own judge or another: means over items. No benchmark's number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from evaluation.aggregation.scored import Point, Scored, Summary, headline, means

NAME: Final = "overall score, mean over items (0 to 10)"
SCALE: Final = (0.0, 10.0)
PIN: Final = ""
METRICS: Final = ("semantic", "quality", "overall")


def point(scored: Scored) -> Point | None:
    """The item's overall score."""
    overall = scored.values.get("overall")
    return None if overall is None else Point("all", overall)


def aggregate(items: Sequence[Scored]) -> Summary:
    """The means by group, and over all items."""
    found: dict[str, dict[str, list[float]]] = {}
    for each in items:
        for name in METRICS:
            value = each.values.get(name)
            if value is not None:
                found.setdefault(each.group, {}).setdefault(name, []).append(value)
    points = [part for each in items if (part := point(each)) is not None]
    groups = {name: means(values) for name, values in sorted(found.items())}
    return Summary(headline(points), groups, len(items) - len(points))

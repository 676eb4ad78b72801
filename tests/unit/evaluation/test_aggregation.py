"""The aggregations: against values computed by hand, and against what the official scripts print for the same replies."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evaluation import replies
from evaluation.aggregation import gedit, imgedit, krisbench, plain, risebench
from evaluation.aggregation.scored import Scored, headline

OFFICIAL = Path(__file__).with_name("official")
REPLIES: dict[str, Any] = json.loads((OFFICIAL / "replies.json").read_text("utf-8"))
PRINTED: dict[str, Any] = json.loads((OFFICIAL / "printed.json").read_text("utf-8"))


def imgedit_items() -> list[Scored]:
    return [
        Scored(key, each["edit_type"], dict(zip(imgedit.METRICS, replies.imgedit(each["reply"]), strict=False)))
        for key, each in REPLIES["imgedit"].items()
    ]


def gedit_items() -> list[Scored]:
    found = []
    for key, each in REPLIES["gedit"].items():
        semantics, quality = replies.viescore(each["sc"]), replies.viescore(each["pq"])
        assert semantics and quality
        flags = frozenset({gedit.INTERSECTION} if each["intersection"] else ())
        found.append(Scored(key, each["group"], {"semantics": min(semantics), "quality": min(quality)}, flags=flags))
    return found


def rise_item(row: dict[str, Any]) -> Scored:
    logical = row["category"] == risebench.LOGICAL
    values: dict[str, float | None] = {}
    for name, judge in zip(risebench.METRICS, ("judge1", "judge2", "judge3"), strict=True):
        numbers = replies.risebench(row["judges"].get(judge) or "")
        values[name] = None if not numbers else risebench.binary(numbers[0]) if logical else numbers[0]
    return Scored(row["index"], row["category"], values, flags=frozenset({risebench.FREE} if row.get(risebench.FREE) else ()))


def rise_items() -> list[Scored]:
    # The official script drops all scores of an item with one that cannot be read.
    return [
        Scored(each.item, each.group, dict.fromkeys(risebench.METRICS), flags=each.flags) if risebench._unread(each) else each
        for each in map(rise_item, REPLIES["risebench"])
    ]


def kris_items() -> list[Scored]:
    found = []
    for category, entries in REPLIES["krisbench"].items():
        for key, each in entries.items():
            values = {name: replies.krisbench(each[name], name) for name in ("consistency", "quality")}
            if "both" in each:
                values["instruction"], values["knowledge"] = replies.krisbench_pair(each["both"])
            else:
                values["instruction"] = replies.krisbench(each["instruction"], "instruction")
            found.append(Scored(f"{category}/{key}", category, values))
    return found


def test_imgedit_is_as_the_official_scripts_print_it() -> None:
    items, printed = imgedit_items(), PRINTED["imgedit"]
    assert {each.item: score for each in items if (score := imgedit.item_score(each)) is not None} == printed["items"]
    summary = imgedit.aggregate(items)
    assert {name: round(values["score"], 2) for name, values in summary.groups.items()} == printed["types"]
    assert summary.headline is not None and round(summary.headline, 2) == printed["overall"]
    assert summary.unread == 1


def test_gedit_is_as_the_official_script_prints_it() -> None:
    items, printed = gedit_items(), PRINTED["gedit"]
    assert {each.item: list(each.values.values()) for each in items} == printed["items"]
    lines = [line for line in printed["printed"] if ":" in line and "," in line]
    for summary, title in ((gedit.aggregate(items), "Average: "), (gedit.intersection(items), "Average Intersection: ")):
        average = next(line for line in lines if line.startswith(title))
        assert summary.headline is not None and f"{summary.headline:.3f}" == average.rsplit(", ", 1)[1]
    for name, values in gedit.aggregate(items).groups.items():
        assert f"{name}: {values['semantics']:.3f}, {values['quality']:.3f}, {values['overall']:.3f}" in lines


def test_gedits_mean_of_groups_is_not_the_mean_over_items() -> None:
    first = [Scored(f"a{n}", "color_alter", {"semantics": 9, "quality": 9}) for n in range(3)]
    items = [*first, Scored("b", "ps_human", {"semantics": 4, "quality": 1}), Scored("c", "ps_human", {"semantics": None})]
    summary = gedit.aggregate(items)
    assert (summary.headline, gedit.item_mean(items), summary.unread) == ((9 + 2) / 2, (27 + 2) / 4, 1)
    assert "not comparable" in summary.notes[0] and "text_change" in summary.notes[0]


@pytest.mark.parametrize("rule", ["2026", "2025"])
def test_risebench_is_as_the_official_scripts_print_it(rule: risebench.Rule) -> None:
    summary, printed = risebench.aggregate(rise_items(), rule), PRINTED["risebench"][rule]
    for name, values in summary.groups.items():
        _, score, accuracy = map(float, printed[name])
        assert values["accuracy"] == pytest.approx(100 * accuracy)
        assert values["score"] == pytest.approx(score)
    assert summary.unread == 1
    assert PRINTED["risebench"]["2026"]["Overall"] != PRINTED["risebench"]["2025"]["Overall"]


def test_risebench_by_hand() -> None:
    def item(group: str, *values: float | None, free: bool = False) -> Scored:
        flags = frozenset({risebench.FREE} if free else ())
        return Scored(f"{group}{values}", group, dict(zip(risebench.METRICS, values, strict=False)), flags=flags)

    right, free = item("causal_reasoning", 5, 5, 5), item("temporal_reasoning", None, 5, 5, free=True)
    logical, wrong = item(risebench.LOGICAL, 5, 5), item("spatial_reasoning", 5, 1, 5)
    assert [risebench.complete(each) for each in (right, free, logical, wrong)] == [True, True, True, False]
    assert not risebench.complete(free, "2025")
    # 0.3 * 5 + 0.5 * 1 + 0.2 * 5 = 3, halved; 0.2 * 5 + 0.8 * 1 = 1.8, halved and at least 1.
    assert (risebench.weighted(wrong, free=False), risebench.weighted(wrong, free=True)) == (1.5, 1.0)
    assert math.isnan(risebench.weighted(free, free=False))
    plainly, published = (risebench.aggregate([right, wrong, free], as_published=flag) for flag in (False, True))
    assert plainly.groups["Spatial"]["score"] == pytest.approx(12.5) and published.groups["Spatial"]["score"] == 0
    assert plainly.headline == published.headline == pytest.approx(200 / 3)


def test_krisbench_is_as_the_official_script_prints_it() -> None:
    items, printed = kris_items(), PRINTED["krisbench"]
    for each in items:
        category, _, key = each.item.partition("/")
        assert {f"{name}_score": value for name, value in each.values.items()} == printed["scores"][category][key]
    summary = krisbench.aggregate(items)
    overall = printed["summary"].pop("Overall")["AVG"]
    assert summary.headline == pytest.approx(overall)
    for name, values in printed["summary"].items():
        assert summary.groups[name] == pytest.approx(values)
    for categories in printed["subitems"].values():
        for name, values in categories.items():
            assert {metric: value for metric, value in summary.groups[name].items() if metric != "AVG"} == pytest.approx(values)
    assert summary.unread == 1 and summary.notes == ["without Temporal Prediction"]


@pytest.mark.parametrize(
    ("module", "items"),
    [(imgedit, imgedit_items()), (gedit, gedit_items()), (risebench, rise_items()), (krisbench, kris_items())],
)
def test_a_headline_is_made_of_its_items_points(module: Any, items: list[Scored]) -> None:
    """Intervals resample points, so these must give the same number as the tables."""
    points = [part for each in items if (part := module.point(each)) is not None]
    assert headline(points) == pytest.approx(module.aggregate(items).headline)


def test_nothing_scored_has_no_headline() -> None:
    assert [module.aggregate([]).headline for module in (imgedit, gedit, risebench, krisbench, plain)] == [None] * 5

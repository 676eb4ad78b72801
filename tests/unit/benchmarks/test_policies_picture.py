"""The picture of strategies: well formed, and with what the figures say."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.policies import Row, RuleSet
from benchmarks.policies_picture import draw

SVG = "{http://www.w3.org/2000/svg}"


def row(strategy: Any, edits: float, true: float, *, rules: RuleSet = "single scores", **more: Any) -> Row:
    given: dict[str, Any] = {"judge": "noise 1", "kind": "both", "sessions": 9, **more}
    figures: dict[str, Any] = dict.fromkeys(("best", "false_satisfied", "satisfied", "critiques", "gain_per_edit"), (0.5, 0.1))
    return Row(rules, strategy, **given, **figures, true=(true, 0.05), edits=(edits, 0.1))


def places(rows: list[Row]) -> list[tuple[float, float, str]]:
    circles = ET.fromstring(draw(rows)).iter(f"{SVG}circle")
    return [(float(circle.get("cx", "")), float(circle.get("cy", "")), circle.get("fill", "")) for circle in circles]


def test_more_edits_are_to_the_right_and_a_better_answer_is_above() -> None:
    (single_x, single_y, _), (think_x, think_y, _) = places([row("single", 1, 7.5), row("think", 3, 8.2)])

    assert single_x < think_x and single_y > think_y
    assert 0 < think_y < single_y < 380 and 0 < single_x < think_x < 640


def test_a_judge_that_is_asked_again_is_a_disc() -> None:
    fills = [fill for _, _, fill in places([row("think", 3, 8.2), row("think", 2.8, 8.1, rules="repeated")])]

    assert fills[0] == "none" and fills[1].startswith("#")


def test_rows_of_one_kind_and_of_pairs_are_left_out() -> None:
    others = [row("think", 3, 8, kind="easy"), row("think", 3, 8, rules="pairs")]

    assert len(places([row("single", 1, 7.5), *others])) == 1


def test_two_judges_are_refused() -> None:
    with pytest.raises(ValueError, match="one judge"):
        draw([row("single", 1, 7.5), row("single", 1, 7.5, judge="noise 2")])

"""The report's numbers for programs and terminals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.items import Dataset
from evaluation.report.charts import bounds, signed
from evaluation.report.model import Comparison, Line, Report, Section
from evaluation.results import Row
from evaluation.scoring import work


def scores(folder: Path, datasets: Sequence[Dataset], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every score as a row: dataset, judge, arm, item, group, metric and value, which is None where a reply was unread."""
    found = []
    for dataset in datasets:
        for judge in [*work.judges(folder), work.SERVER]:
            for arm, items in work.scored(folder, dataset, rows, judge).items():
                for each in items.values():
                    named = {"dataset": dataset.name, "judge": judge, "arm": arm, "item": each.item, "group": each.group}
                    found += [{**named, "metric": metric, "value": value} for metric, value in each.values.items()]
    return found


def as_json(report: Report) -> str:
    """The numbers of the page as JSON."""
    sections = [_section(section) for section in report.sections]
    return json.dumps(
        {"baseline": report.baseline, "arms": list(report.arms), "sections": sections}, ensure_ascii=False, indent=2
    )


def _section(section: Section) -> dict[str, Any]:
    return {
        "dataset": section.dataset,
        "judge": section.judge,
        "headline": section.title,
        "pin": section.pin,
        "arms": [_line(line) for line in section.lines],
        "comparisons": [_comparison(each) for each in section.comparisons],
        "groups": section.groups,
        "notes": list(section.notes),
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "arm": line.arm,
        "score": line.summary.headline,
        "interval": None if line.interval is None else [line.interval.low, line.interval.high],
        "groups": line.summary.groups,
        "unread": line.summary.unread,
        "items": dict(line.counts),
        "cost": None if line.cost is None else asdict(line.cost),
    }


def _comparison(each: Comparison) -> dict[str, Any]:
    found = each.difference
    return {
        "arm": each.arm,
        "baseline": each.baseline,
        "change": found.change.value,
        "interval": [found.change.low, found.change.high],
        "wins": found.wins,
        "ties": found.ties,
        "losses": found.losses,
    }


def as_text(report: Report) -> str:
    """A few lines for a terminal."""
    lines = []
    for section in report.sections:
        lines.append(f"{section.dataset}, judge {section.judge}: {section.title}")
        compared = {each.arm: each.difference for each in section.comparisons}
        for line in section.lines:
            value = "-" if line.summary.headline is None else f"{line.summary.headline:.2f}"
            cost = (
                ""
                if line.cost is None
                else f", {line.cost.edits:.2f} edits and {line.cost.editor_seconds:.2f} editor seconds an item"
            )
            change = f", {signed(compared[line.arm].change.value)}{bounds(compared[line.arm])}" if line.arm in compared else ""
            lines.append(f"  {line.arm}: {value}{change}{cost}")
    return "".join(f"{line}\n" for line in lines)

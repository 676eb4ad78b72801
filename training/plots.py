"""Metrics of a run as one HTML page with SVG inside: nothing is loaded from anywhere."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

_WIDTH, _HEIGHT, _LEFT, _BELOW = 520, 200, 56, 24
_SMOOTHED: Final = 16  # a window is 1/16 of the steps
_STYLE: Final = (
    "body{font:14px system-ui,sans-serif;margin:2em auto;max-width:1120px;color:#222}"
    "figure{display:inline-block;margin:0 1em 1em 0}svg{display:block}.raw{stroke:#bcd}.mean{stroke:#036}"
    "text{font-size:11px;fill:#555}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}.raw{stroke:#345}.mean{stroke:#8cf}text{fill:#aaa}}"
)
NOT_CURVES: Final = frozenset({"stage", "step", "cpu_s"})


def latest(rows: Iterable[Mapping[str, Any]], stage: str) -> list[Mapping[str, Any]]:
    """The rows of a stage by step: of a step that has several, or that a resumed run did again, each number's last."""
    found: dict[Any, dict[str, Any]] = {}
    for row in rows:
        if row["stage"] == stage:
            found.setdefault(row["step"], {}).update(row)
    return [found[step] for step in sorted(found)]


def page(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page: for each stage each of its numbers over its steps, the single steps pale and their running mean dark."""
    stages = list(dict.fromkeys(str(row["stage"]) for row in rows))
    parts = []
    for stage in stages:
        found = latest(rows, stage)
        names = dict.fromkeys(name for row in found for name in row if name not in NOT_CURVES)
        spent = found[-1].get("cpu_s")
        told = f"{len(found)} steps" + (f", {spent:.0f} CPU-seconds" if spent is not None else "")
        charts = "".join(_chart(name, [(row["step"], row.get(name)) for row in found]) for name in names)
        parts.append(f"<h2>{html.escape(stage)}</h2><p>{told}</p>{charts}")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f"{head}<h1>{html.escape(title)}</h1>{''.join(parts)}</html>\n"


def _chart(name: str, points: Sequence[tuple[int, Any]]) -> str:
    known = [(step, float(value)) for step, value in points if isinstance(value, int | float) and math.isfinite(value)]
    if not known:
        return ""
    values = [value for _, value in known]
    low, high = min(values), max(values)
    first, last = known[0][0], known[-1][0]
    across, up = max(last - first, 1), (high - low) or 1.0

    def path(series: Sequence[tuple[int, float]]) -> str:
        return " ".join(
            f"{_LEFT + (step - first) / across * (_WIDTH - _LEFT - 8):.1f},{8 + (high - value) / up * (_HEIGHT - _BELOW - 8):.1f}"
            for step, value in series
        )

    lines = "".join(
        f'<polyline class="{kind}" fill="none" stroke-width="{width}" points="{path(series)}"/>'
        for kind, width, series in (("raw", 1, known), ("mean", 2, _smoothed(known)))
    )
    right = _WIDTH - 8
    marks = (
        f'<text x="{_LEFT - 6}" y="14" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{_HEIGHT - _BELOW}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{first}</text>'
        f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{last}</text>'
    )
    label = html.escape(name)
    return (
        f"<figure><figcaption>{label}</figcaption>"
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label} by step">'
        f"{lines}{marks}</svg></figure>"
    )


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    window = max(1, len(points) // _SMOOTHED)
    means = []
    for end in range(1, len(points) + 1):
        taken = [value for _, value in points[max(0, end - window) : end]]
        means.append((points[end - 1][0], sum(taken) / len(taken)))
    return means

"""A picture of the simulation: what a strategy's answers are worth, by the edits that it takes.

python -m benchmarks.policies --noise 1 --bias --rules "single scores" repeated --picture strategies.svg
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks.policies import Row

_WIDTH: Final = 640
_HEIGHT: Final = 380
_LEFT: Final = 60
_RIGHT: Final = 24
_TOP: Final = 44
_BOTTOM: Final = 52
_COLOURS: Final = {"single": "#6b7280", "best_of_n": "#b45309", "think": "#1d4ed8", "think_best_of_n": "#047857"}
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}.axis{stroke:#9ca3af}.grid{stroke:#e5e7eb}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.grid{stroke:#374151}}"
)


def draw(rows: Sequence[Row]) -> str:
    """An SVG: edits of a session against the true score of its answer, with the 95 % intervals, for the cases of both kinds.

    A ring is a judge whose single scores are trusted, a disc one that is asked again; a line joins the two of a strategy.

    Args:
        rows: of one judge; those of other rules and of one kind of case are not shown.
    """
    shown = [row for row in rows if row.kind == "both" and row.rules in {"single scores", "repeated"}]
    judges = {row.judge for row in shown}
    if len(judges) != 1:
        raise ValueError(f"a picture shows one judge, and these are {sorted(judges)}; choose one with --noise or --bias")
    x = _scale([row.edits for row in shown], _LEFT, _WIDTH - _RIGHT)
    y = _scale([row.true for row in shown], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>True score of the answer by edits of a session, {escape(judges.pop())}</title>",
        f"<style>{_STYLE}</style>",
        *_axes(x, y),
    ]
    for strategy in dict.fromkeys(row.strategy for row in shown):
        parts += _strategy(strategy, [row for row in shown if row.strategy == strategy], x, y)
    return "\n".join([*parts, "</svg>", ""])


def _scale(values: Sequence[tuple[float, float]], start: float, end: float) -> Callable[[float], float]:
    """Maps values to pixels, with a little room around all of them and their intervals."""
    least, most = min(middle - width for middle, width in values), max(middle + width for middle, width in values)
    room = 0.12 * (most - least) or 1.0
    least, most = least - room, most + room
    return lambda value: round(start + (value - least) / (most - least) * (end - start), 1)


def _axes(x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    counts = [edits for edits in range(1, 100) if _LEFT <= x(edits) <= right]
    parts = [f'<text x="{x(edits)}" y="{floor + 20}" text-anchor="middle">{edits}</text>' for edits in counts]
    for fifths in range(51):
        score = fifths / 5
        if _TOP <= y(score) <= floor:
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(score)}" y2="{y(score)}"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{y(score) + 4}" text-anchor="end">{score:.1f}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    parts.append(f'<text x="{right}" y="{_HEIGHT - 12}" text-anchor="end">edits of a session</text>')
    key = "true score of the answer (ring: single scores, disc: the judge is asked again)"
    return [*parts, f'<text x="{_LEFT - 40}" y="20">{key}</text>']


def _strategy(name: str, rows: Sequence[Row], x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    colour = _COLOURS.get(name, "#000000")
    points = [(x(row.edits[0]), y(row.true[0])) for row in rows]
    parts = [f'<polyline fill="none" stroke="{colour}" stroke-dasharray="3" points="{" ".join(f"{a},{b}" for a, b in points)}"/>']
    for row, (across, up) in zip(rows, points, strict=True):
        (edits, across_ci), (true, up_ci) = row.edits, row.true
        bars = (
            (x(edits - across_ci), x(edits + across_ci), up, up),
            (across, across, y(true - up_ci), y(true + up_ci)),
        )
        parts += [f'<line stroke="{colour}" x1="{a}" x2="{b}" y1="{c}" y2="{d}"/>' for a, b, c, d in bars]
        fill = colour if row.rules == "repeated" else "none"
        parts.append(f'<circle cx="{across}" cy="{up}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2"/>')
    across, up = points[-1]
    left = across > (_LEFT + _WIDTH - _RIGHT) / 2
    anchor, text_x = ("end", across - 12) if left else ("start", across + 12)
    return [*parts, f'<text x="{round(text_x, 1)}" y="{round(up - 10, 1)}" text-anchor="{anchor}">{escape(name)}</text>']

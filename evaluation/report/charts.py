"""Charts as inline SVG; colours are classes of the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from editthinker.report.markup import escape
from evaluation.statistics import Difference

_LONGEST_LABEL: Final = 36


def change(found: Difference, scale: tuple[float, float], reach: float) -> str:
    """A change and its interval on a line, with no change in the middle.

    Args:
        reach: the share of the scale at either end of the line.
    """
    span = scale[1] - scale[0]

    def at(value: float) -> float:
        return 50 + 48 * max(-1.0, min(1.0, value / span / reach))

    middle = at(found.change.value)
    kind = verdict(found)
    parts = ['<line class="axis" x1="2%" x2="98%" y1="14" y2="14"/><line class="zero" x1="50%" x2="50%" y1="3" y2="25"/>']
    if found.change.low is not None and found.change.high is not None:
        low, high = at(found.change.low), at(found.change.high)
        parts.append(f'<line class="range {kind}" x1="{low:.1f}%" x2="{high:.1f}%" y1="14" y2="14"/>')
    parts.append(f'<circle class="dot {kind}" cx="{middle:.1f}%" cy="14" r="6"/>')
    label = f"Change {signed(found.change.value)}{bounds(found)}"
    return f'<svg class="change" role="img" aria-label="{escape(label)}" width="100%" height="28">{"".join(parts)}</svg>'


def pairs(found: Difference) -> str:
    """Wins, ties and losses as one bar."""
    total = found.items or 1
    parts, left = [], 0.0
    for count, kind in ((found.wins, "better"), (found.ties, "even"), (found.losses, "worse")):
        width = 100 * count / total
        parts.append(f'<rect class="{kind}" x="{left:.2f}%" width="{width:.2f}%" y="0" height="10"/>')
        left += width
    label = f"{found.wins} items better, {found.ties} as good, {found.losses} worse"
    return f'<svg class="pairs" role="img" aria-label="{label}" width="100%" height="10">{"".join(parts)}</svg>'


def group_bar(value: float, most: float) -> str:
    """A group's change, left or right of no change."""
    share = 0.0 if most == 0 else max(-1.0, min(1.0, value / most))
    left, width = (50 + 50 * min(share, 0), 50 * abs(share))
    kind = "better" if value > 0 else "worse"
    bar = f'<rect class="{kind}" x="{left:.1f}%" width="{width:.1f}%" y="2" height="10"/>'
    zero = '<line class="zero" x1="50%" x2="50%" y1="0" y2="14"/>'
    return f'<svg class="group" aria-hidden="true" width="100%" height="14">{bar}{zero}</svg>'


def verdict(found: Difference) -> str:
    """``better`` or ``worse`` where the interval lies on one side; otherwise ``even``."""
    return "even" if not found.sure else "better" if found.change.value > 0 else "worse"


def signed(value: float) -> str:
    """A change with its sign, to two decimals."""
    text = f"{value:+.2f}"
    return "0.00" if text in {"+0.00", "-0.00"} else text.replace("-", "\u2212")


def bounds(found: Difference) -> str:
    """The interval in brackets, after a blank; nothing where there is none."""
    if found.change.low is None or found.change.high is None:
        return ""
    return f" ({signed(found.change.low)} to {signed(found.change.high)})"


def _short(label: str) -> str:
    """A label that fits an axis."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}\u2026"


def calibration(bins: Sequence[tuple[float, float, int]], labels: tuple[str, str], scale: tuple[float, float]) -> str:
    """A plot of means against means: on the diagonal both agree.

    Args:
        bins: of one score the mean, of the other the mean, and how many.
        labels: of the axes.
    """
    low, high = scale
    most = max((count for *_, count in bins), default=1)

    def at(value: float) -> float:
        return 12 + 84 * (value - low) / (high - low)

    dots = "".join(
        f'<circle class="dot even" cx="{at(x):.1f}" cy="{100 - at(y):.1f}" r="{0.7 + 1.3 * (count / most) ** 0.5:.1f}"/>'
        for x, y, count in bins
    )
    path = " ".join(f"{at(x):.1f},{100 - at(y):.1f}" for x, y, _ in bins)
    marks = [low, (low + high) / 2, high]
    lines = "".join(f"M{at(mark):g} 4V88M12 {100 - at(mark):g}H96" for mark in marks)
    axes = f'<path class="axis" d="{lines}" fill="none"/><line class="zero" x1="12" y1="88" x2="96" y2="4"/>'
    words = "".join(
        f'<text x="{at(mark):g}" y="93" text-anchor="middle">{mark:g}</text>'
        f'<text x="10" y="{101.4 - at(mark):g}" text-anchor="end">{mark:g}</text>'
        for mark in marks
    )
    words += (
        f'<text x="54" y="99" text-anchor="middle">{escape(_short(labels[0]))}</text>'
        f'<text x="4" y="46" text-anchor="middle" transform="rotate(-90 4 46)">{escape(_short(labels[1]))}</text>'
    )
    label = f"{labels[1]} by {labels[0]}"
    return (
        f'<svg class="calibration" role="img" aria-label="{escape(label)}" viewBox="0 0 100 100">{axes}'
        f'<polyline class="range even" points="{path}" fill="none"/>{dots}{words}</svg>'
    )

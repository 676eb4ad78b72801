"""From records to figures, and from figures to Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmarks.editing.servers import Record

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UNKNOWN = math.nan


@dataclass(frozen=True, slots=True)
class Figures:
    """One server's run of a trace. Good requests are those whose callers never leave: the same for every server.

    Attributes:
        good: how many there are.
        per_minute: good edits a minute, from the first arrival until the last good one was done.
        p50_s, p95_s, most_s: latency of the good ones, from their arrival in the trace.
        cpu_s: seconds of the processor for each good edit, all threads: other load on the machine shifts it less.
        slowdown: mean of latency / duration of the same edit alone.
        early: requests that were to be cancelled, but done before.
        wasted_calls: calls of the denoiser for requests that were cancelled.
        release_p50_s, release_max_s: from cancelling a running request until the server stopped working on it.
        worst: largest difference of a picture from the plain pipeline's, in 255ths.
    """

    good: int
    per_minute: float
    p50_s: float
    p95_s: float
    most_s: float
    cpu_s: float
    slowdown: float
    early: int
    wasted_calls: int
    release_p50_s: float
    release_max_s: float
    worst: int


def plain_numbers(run: DataclassInstance) -> dict[str, object]:
    """A data class for JSON, which has no NaN: such values become null."""
    items = asdict(run).items()
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in items}


def percentile(values: Sequence[float], share: float) -> float:
    """The quantile of the values (linear interpolation); NaN if there are none."""
    return float(np.percentile(values, 100 * share)) if values else UNKNOWN


def figures(
    records: Sequence[Record], solo_s: Mapping[int, float], expected: Mapping[int, Image.Image], cpu_s: float = UNKNOWN
) -> Figures:
    """A run's figures.

    Args:
        records: all of them.
        solo_s: seconds of each request alone, by its number.
        expected: the plain pipeline's pictures, by number.
        cpu_s: seconds of the processor, from the first arrival until nothing was in flight.
    """
    good = [record for record in records if record.request.patience is None]
    latencies = [latency(record) for record in good]
    left = [record for record in records if record.left is not None]
    begun = [record.released - record.left for record in left if record.left and record.released and record.calls]
    pictures = [(record.picture, expected[record.request.number]) for record in records if record.picture is not None]
    ended = max(record.done or 0.0 for record in good) - min(record.arrived for record in records)
    return Figures(
        good=len(good),
        per_minute=60 * len(good) / ended,
        p50_s=percentile(latencies, 0.5),
        p95_s=percentile(latencies, 0.95),
        most_s=max(latencies),
        cpu_s=cpu_s / len(good),
        slowdown=sum(latency(record) / solo_s[record.request.number] for record in good) / len(good),
        early=sum(record.done is not None and record.request.patience is not None for record in records),
        wasted_calls=sum(record.calls for record in left),
        release_p50_s=percentile(begun, 0.5),
        release_max_s=max(begun, default=UNKNOWN),
        worst=max((difference(made, plain) for made, plain in pictures), default=0),
    )


def latency(record: Record) -> float:
    """Seconds from a request's arrival in the trace until its picture was there."""
    assert record.done is not None, f"request {record.request.number} was never answered"
    return record.done - record.arrived


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two pictures in any channel of any pixel; 255 if their sizes differ."""
    if one.size != other.size:
        return 255
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---", *("---:" for _ in headings[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparison(runs: Mapping[str, Figures], ours: str) -> str:
    """The servers as columns, followed by the ratios of the others to ours (above 1: ours is better)."""
    others = [name for name in runs if name != ours]
    headings = ["", *runs, *(f"{ours} against {name}" for name in others)]
    mine = runs[ours]
    rows = []
    for label, field, decimals, more_is_better in _ROWS:
        values = [float(getattr(run, field)) for run in runs.values()]
        ratios = []
        for name in others:
            theirs, own = float(getattr(runs[name], field)), float(getattr(mine, field))
            ratios.append("" if more_is_better is None else _ratio(*((own, theirs) if more_is_better else (theirs, own))))
        rows.append([label, *(number(value, decimals) for value in values), *ratios])
    return table(headings, rows)


_ROWS: Sequence[tuple[str, str, int, bool | None]] = (
    ("good edits", "good", 0, None),
    ("good edits a minute", "per_minute", 1, True),
    ("p50 latency, s", "p50_s", 2, False),
    ("p95 latency, s", "p95_s", 2, False),
    ("longest latency, s", "most_s", 2, False),
    ("processor seconds a good edit", "cpu_s", 2, False),
    ("mean slowdown (latency / alone)", "slowdown", 2, False),
    ("denoiser calls for cancelled requests", "wasted_calls", 0, False),
    ("to be cancelled, done before", "early", 0, None),
    ("cancelled while running until released, p50, s", "release_p50_s", 3, False),
    ("cancelled while running until released, longest, s", "release_max_s", 3, False),
    ("largest difference to plain, of 255", "worst", 0, None),
)


def number(value: float, decimals: int) -> str:
    """A number for a table; a dash for none."""
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"


def _ratio(better: float, worse: float) -> str:
    if math.isnan(better) or math.isnan(worse) or worse == 0:
        return "-"
    return f"{better / worse:.2f}x"

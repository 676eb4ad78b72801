"""Tables for the terminal and a contact sheet in HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.asking import STRATEGIES
from benchmarks.cases import Case
from benchmarks.colorimetry import Pixels
from benchmarks.photos import photo
from benchmarks.scoring import SUCCESS, THRESHOLDS, Interval, Outcome, Trial, duel, summary
from benchmarks.targets import target
from benchmarks.verdict import Verdict, columns, costs, families, lost

THUMBNAIL = 240


def print_report(console: Console, results: Sequence[Outcome], trials: Sequence[Trial], verdict: Verdict, edits: int) -> None:
    """Print distances, costs, success rates, intervals and lost cases."""
    console.print(_by_family(results, edits))
    console.print(_costs(trials))
    console.print(_successes(results))
    wins, ties, losses = verdict.record
    console.print(f"think against best_of_n: {wins} wins, {ties} ties, {losses} losses")
    console.print(f"think - best_of_n, mean ΔE, 95 % over cases:   {_interval(verdict.by_case)}")
    console.print(f"think - best_of_n, mean ΔE, 95 % over recipes: {_interval(verdict.by_recipe)}")
    console.print(f"think - best_of_n, ratio,   95 % over recipes: {_interval(verdict.ratio_by_recipe)}")
    for family, gap in verdict.over_single.items():
        below = "  below single" if family in verdict.below_single else ""
        console.print(f"think - single, ratio, 95 % over cases, {family}: {_interval(gap)}{below}")
    for against, words in (("best_of_n", "best_of_n"), ("source", "doing nothing")):
        console.print(_losses(lost(results, against), against, words))
    for line in verdict.refused:
        console.print(f"refused: {line}", markup=False)
    for label, lines in (("more edits than allowed", verdict.over_budget), ("failed", verdict.errors)):
        for line in lines:
            console.print(f"{label}: {line}", style="red", markup=False)
    console.print("think wins significantly" if verdict.wins else "think does NOT win significantly", style="bold")


def _by_family(results: Sequence[Outcome], edits: int) -> Table:
    table = Table(title=f"mean ΔE to the target (ratio to the source's), {edits} edits; single: 1")
    table.add_column("family")
    for heading in ("cases", *columns(results), "think W-T-L"):
        table.add_column(heading, justify="right")
    for family, group in families(results).items():
        table.add_row(*_row(family, group))
    table.add_section()
    table.add_row(*_row("all", results), style="bold")
    return table


def _row(name: str, group: Sequence[Outcome]) -> list[str]:
    cells = [name, str(len(group))]
    for column in columns(group):
        numbers = summary(group, column)
        cells.append(f"{numbers['distance']:.2f} ({numbers['ratio']:.2f})")
    return [*cells, "-".join(map(str, duel(group, "think", "best_of_n")))]


def _successes(results: Sequence[Outcome]) -> Table:
    table = Table(
        title=f"success: distance(result, target) at most {SUCCESS} of distance(source, target); other limits for comparison"
    )
    table.add_column("at most")
    for column in columns(results):
        table.add_column(column, justify="right")
    for limit in THRESHOLDS:
        cells = [f"{summary(results, column)[f'success_{limit}']:.1%}" for column in columns(results)]
        table.add_row(str(limit), *cells, style="bold" if limit == SUCCESS else "")
    return table


def _costs(trials: Sequence[Trial]) -> Table:
    table = Table(title="means of a session")
    for heading in ("strategy", "edits", "editor seconds", "thinker seconds", "satisfied"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    for strategy, cost in costs(trials).items():
        seconds = (f"{cost.editor_seconds:.3f}", f"{cost.thinker_seconds:.3f}")
        table.add_row(strategy, f"{cost.edits:.2f}", *seconds, f"{cost.satisfied:.0%}")
    return table


def _losses(losses: Sequence[Outcome], against: str, words: str) -> Table | str:
    if not losses:
        return f"think loses no case against {words}"
    table = Table(title=f"think loses against {words} ({len(losses)})")
    for heading in ("case", "instruction", "think", words):
        table.add_column(heading)
    for result in losses:
        distances = (f"{result.distances[name]:.2f}" for name in ("think", against))
        table.add_row(result.case.id, result.case.instruction, *distances)
    return table


def _interval(interval: Interval) -> str:
    return f"{interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def write_sheet(path: Path, cases: Sequence[Case], trials: Sequence[Trial]) -> None:
    """One self-contained page: a row per case with source, each strategy's first answer, and target."""
    first: dict[tuple[Case, str], Trial] = {}
    for trial in trials:
        first.setdefault((trial.case, trial.strategy), trial)
    shown = [strategy for strategy in STRATEGIES if any(trial.strategy == strategy for trial in trials)]
    rows = [_sheet_row(case, [first.get((case, strategy)) for strategy in shown]) for case in cases]
    headings = "".join(f"<th>{name}</th>" for name in ("case", "source", *shown, "target"))
    style = "body{font:14px sans-serif}td{vertical-align:top;max-width:16em}"
    page = f"<!doctype html><meta charset=utf-8><title>closed loop</title><style>{style}</style>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{page}<table><tr>{headings}</tr>{''.join(rows)}</table>\n", encoding="utf-8")


def _sheet_row(case: Case, trials: Sequence[Trial | None]) -> str:
    cells = [f"<td><b>{escape(case.id)}</b><br>{escape(case.instruction)}</td>", _cell(photo(case.photo).pixels, "")]
    for trial in trials:
        pixels = trial.answer.pixels if trial else None
        note = f"{trial.distance:.1f} of {trial.before:.1f}" if trial else ""
        cells.append(_cell(pixels, note) if pixels is not None else "<td>no picture</td>")
    cells.append(_cell(target(case.photo, case.recipe), ""))
    return f"<tr>{''.join(cells)}</tr>"


def _cell(pixels: Pixels, note: str) -> str:
    scale = THUMBNAIL / max(pixels.shape[:2])
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    return f'<td><img src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"><br>{escape(note)}</td>'

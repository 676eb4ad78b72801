"""The report: one table for people, one line of JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        row: the benchmark's row that it belongs to.
        value: for programs; `shown` is for people.
        goal: its text, if there is one; `met` says whether it is met.
        reference: the figure of the reference's way.
    """

    row: str
    name: str
    value: float
    unit: str = ""
    goal: str = ""
    met: bool | None = None
    reference: str = ""

    @property
    def shown(self) -> str:
        """The value with its unit."""
        if self.unit == "%":
            return f"{self.value:.1%}"
        if not self.unit and self.value == int(self.value):
            return f"{self.value:.0f}"
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 2
        return f"{self.value:.{digits}f} {self.unit}".strip()


def at_least(row: str, name: str, value: float, least: float, unit: str = "%") -> Figure:
    """A figure with a lower limit as its goal."""
    goal = f">= {least:.0%}" if unit == "%" else f">= {least:g} {unit}"
    return Figure(row, name, value, unit, goal.strip(), met=value >= least)


def print_report(figures: Sequence[Figure], note: str) -> None:
    """Print the table, then the JSON."""
    table = Table(title=f"scale: {note}")
    for heading in ("row", "figure", "measured", "goal", "the reference's way"):
        table.add_column(heading, overflow="fold")
    last = ""
    for figure in figures:
        if last and figure.row != last:
            table.add_section()
        goal = figure.goal and f"{figure.goal} {'met' if figure.met else 'MISSED'}"
        table.add_row("" if figure.row == last else figure.row, figure.name, figure.shown, goal, figure.reference)
        last = figure.row
    Console(width=150).print(table)
    lines = [(figure.row, figure.name, round(figure.value, 4), figure.met, figure.reference) for figure in figures]
    print(json.dumps([dict(zip(("row", "figure", "value", "met", "reference"), line, strict=True)) for line in lines]))


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile of the values; NaN if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

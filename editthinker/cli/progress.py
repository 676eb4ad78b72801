"""Shows a running session: a row for each candidate, built from its events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from editthinker.client import CandidateRef, Event, Session
from editthinker.printable import one_line

_GOOD: Final = 8.0
_FAIR: Final = 5.0
_STATES: Final = {
    "edit_started": "editing …",
    "edited": "thinking …",
    "edit_failed": "failed",
    "critique_failed": "unscored",
}


@dataclass(slots=True)
class Row:
    """One candidate, as far as its events have arrived."""

    turn: int
    candidate: int
    instruction: str
    state: str = "editing …"
    semantic: float | None = None
    quality: float | None = None
    reason: str = ""
    critiques: int = 0

    @property
    def overall(self) -> float | None:
        """The geometric mean of the two scores."""
        if self.semantic is None or self.quality is None:
            return None
        return math.sqrt(self.semantic * self.quality)

    def critique(self, semantic: float, quality: float) -> None:
        """Another critique of it: its scores are means."""
        known = self.critiques
        self.semantic = ((self.semantic or 0.0) * known + semantic) / (known + 1)
        self.quality = ((self.quality or 0.0) * known + quality) / (known + 1)
        self.critiques = known + 1


class Progress:
    """The rows of one session, folded from its events."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], Row] = {}
        self.best: CandidateRef | None = None
        self.finish_reason: str | None = None
        self._instructions: dict[int, str] = {}

    def apply(self, event: Event) -> Row | None:
        """Apply an event; the row, if it reports the end of an edit or a critique."""
        if event.type == "finished":
            self.best, self.finish_reason = event.best, event.reason
            return None
        if event.turn is None:
            return None
        if event.type == "turn_started":
            self._instructions[event.turn] = one_line(event.instruction or "")
        if event.candidate is None:
            return None
        key = (event.turn, event.candidate)
        row = self.rows.setdefault(key, Row(*key, self._instructions.get(event.turn, "")))
        row.state = _STATES.get(event.type, row.state)
        if event.type == "critiqued":
            row.state = ""
            row.semantic, row.quality, row.critiques = event.semantic, event.quality, 1
            row.reason = one_line(event.reasoning or "")
            return row
        if event.type == "verified" and event.semantic is not None and event.quality is not None:
            row.critique(event.semantic, event.quality)
            return row
        if event.type in {"edit_failed", "critique_failed"}:
            row.reason = one_line(event.message or event.code or "")
            return row
        return None

    def table(self) -> Table:
        """The rows as a table."""
        table = Table(expand=True, show_edge=False, pad_edge=False, header_style="bold", title_justify="left")
        table.add_column("turn", no_wrap=True)
        for name in ("semantic", "quality", "overall"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("instruction", ratio=3)
        table.add_column("the thinker says", ratio=4, no_wrap=True, overflow="ellipsis")
        several = any(candidate > 1 for _, candidate in self.rows)
        for key, row in sorted(self.rows.items()):
            best = self.best is not None and key == (self.best.turn, self.best.candidate)
            label = f"{row.turn}.{row.candidate}" if several else str(row.turn)
            scores = [mark(value) for value in (row.semantic, row.quality, row.overall)]
            # Text, not markup: the words are strangers', and "[link=…]" is markup.
            says = Text(row.reason) if row.reason else Text(row.state, "dim")
            style = "bold" if best else None
            table.add_row(f"{label} ★" if best else label, *scores, Text(row.instruction), says, style=style)
        return table


def mark(score: float | None) -> str:
    """A score in rich markup, coloured by how good it is."""
    if score is None:
        return "[dim]-[/]"
    colour = "green" if score >= _GOOD else "yellow" if score >= _FAIR else "red"
    return f"[{colour}]{score:.1f}[/]"


@contextmanager
def shown(progress: Progress, console: Console) -> Iterator[None]:
    """Keep the table on a terminal up to date while the block runs; without a terminal `follow` prints lines."""
    if not console.is_terminal or console.quiet:
        yield
        return
    with Live(console=console, get_renderable=progress.table, refresh_per_second=8):
        yield


def follow(events: Iterable[Event], progress: Progress, console: Console) -> None:
    """Show a session's progress until its last event."""
    with shown(progress, console):
        for event in events:
            row = progress.apply(event)
            if row is not None and not console.is_terminal:
                console.print(as_line(row), markup=False, highlight=False, soft_wrap=True)


def as_line(row: Row) -> str:
    """A finished row as text, for logs."""
    label = f"turn {row.turn}" if row.candidate == 1 else f"turn {row.turn} candidate {row.candidate}"
    if row.overall is None:
        return f"{label}: {row.state}: {row.reason}"
    scores = f"semantic {row.semantic:.1f}  quality {row.quality:.1f}  overall {row.overall:.1f}"
    return f"{label}: {scores}  “{row.instruction}”: {row.reason}"


def summary(session: Session) -> str:
    """How a session ended, as one sentence."""
    turns = session.totals.turns or len(session.turns)
    parts = [f"{one_line(session.finish_reason or session.status)} after {turns} turn{'' if turns == 1 else 's'}"]
    if session.best is not None:
        parts.append(f"best: turn {session.best.turn}")
    if session.scores is not None:
        scores = session.scores
        parts.append(f"semantic {scores.semantic:.1f}, quality {scores.quality:.1f}, overall {scores.overall:.1f}")
    if session.preparation is not None and session.preparation.error is not None:
        parts.append(f"the instruction was not rewritten: {one_line(session.preparation.error.message)}")
    if session.preferred is False:
        parts.append("the judge does not prefer it to the unedited picture")
    return "; ".join(parts)

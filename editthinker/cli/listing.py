"""The table of ``sessions ls``, fitted to the terminal's width."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from rich.text import Text

from editthinker.cli.progress import mark
from editthinker.client import Session
from editthinker.printable import one_line

_COLUMNS: Final = ("id", "status", "started", "turns", "overall", "instruction")
_OPTIONAL: Final = ("started", "turns", "overall")
_MIN_INSTRUCTION: Final = 12
"""Least width of the instruction; optional columns are left out to make space for it."""
_GAP: Final = "  "


def listing(sessions: Iterable[Session], width: int | None) -> list[Text]:
    """A head, and a row for each session.

    Args:
        sessions: the sessions.
        width: of the terminal, in cells. The instruction is truncated to it, then optional columns are left out. An id is
            never truncated, because it is there to be copied. None, as in a pipe, for no limit.
    """
    rows = [{name: Text(name, "bold") for name in _COLUMNS}, *(_row(session) for session in sessions)]
    widths = {name: max(row[name].cell_len for row in rows) + len(_GAP) for name in _COLUMNS}
    names = list(_COLUMNS[:-1])
    for spare in _OPTIONAL:
        if width is None or sum(widths[name] for name in names) + min(_MIN_INSTRUCTION, widths["instruction"]) <= width:
            break
        names.remove(spare)
    lines = []
    for row in rows:
        line, instruction = Text(), row["instruction"]
        for name in names:
            line.append_text(row[name]).append(" " * (widths[name] - row[name].cell_len))
        if width is not None:
            instruction.truncate(max(1, width - line.cell_len), overflow="ellipsis")
        lines.append(line.append_text(instruction))
    return lines


def _row(session: Session) -> dict[str, Text]:
    started = "" if session.created_at is None else _moment(session.created_at)
    overall = Text.from_markup(mark(session.scores.overall if session.scores else None))
    turns = str(session.totals.turns or len(session.turns))
    plain = (session.id, session.status, started, turns)
    cells = [*(Text(one_line(cell)) for cell in plain), overall, Text(one_line(session.instruction))]
    return dict(zip(_COLUMNS, cells, strict=True))


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")

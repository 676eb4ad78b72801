"""Shows how far a run is: a bar on a terminal, a line for each item, and how it ended."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from editthinker.printable import one_line
from evaluation.results import Row
from evaluation.running import Outcome

_MOST_LISTED: Final = 10


class Display:
    """The progress of one process.

    Args:
        total: items in all arms.
        folder: of the run.
    """

    def __init__(self, total: int, folder: Path, *, quiet: bool) -> None:
        self._total = total
        self._folder = folder
        self._quiet = quiet
        self._done = 0
        self._console = Console(stderr=True, quiet=quiet)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal or quiet)
        self._task = self.bar.add_task("", total=total)

    def add(self, row: Row) -> None:
        """Count a row, and print its line."""
        self._done += 1
        said = row.error_message if row.status in {"failed", "skipped"} else _scored(row)
        line = f"{self._done}/{self._total} {row.task}: {row.status}{f': {said}' if said else ''}"
        self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
        self.bar.update(self._task, completed=self._done)

    def ended(self, outcome: Outcome) -> None:
        """Print how the run ended."""
        if self._quiet:
            return
        counts = Counter(row.status for row in outcome.rows)
        told = [f"{counts[name]} {name}" for name in ("edited", "unchanged", "skipped", "failed") if counts[name]]
        edits, seconds = sum(row.edits for row in outcome.rows), sum(row.editor_seconds for row in outcome.rows)
        told += (
            [f"{outcome.left} left, the budget is used up: the same command with a larger one goes on"] if outcome.left else []
        )
        out = sys.stdout
        out.write(
            f"{len(outcome.rows)} results: {', '.join(told)}; {edits} edits, {seconds:.1f} editor seconds; {self._folder}\n"
        )
        failed = [row for row in outcome.rows if row.status == "failed"]
        for row in failed[:_MOST_LISTED]:
            out.write(f"failed: {one_line(f'{row.task}: {row.error_message}')}\n")
        if len(failed) > _MOST_LISTED:
            out.write(f"and {len(failed) - _MOST_LISTED} more; try them again with --retry-failed\n")
        out.flush()

    def stopped(self) -> None:
        """Print how far the run came."""
        if not self._quiet:
            sys.stderr.write(f"{self._done} of {self._total} are there, in {self._folder}; the same command goes on from here\n")
            sys.stderr.flush()


@contextmanager
def shown(total: int, folder: Path, *, quiet: bool) -> Iterator[Display]:
    """A display, shown while the block runs; a block that fails is one that was stopped."""
    display = Display(total, folder, quiet=quiet)
    try:
        with display.bar:
            yield display
    except BaseException:
        # BaseException: Ctrl-C is how most runs stop, and that is when one wants to know how far it came.
        display.stopped()
        raise


def _scored(row: Row) -> str:
    if row.overall is None:
        return f"{row.edits} edits"
    return f"overall {row.overall:.1f}, {row.edits} edit{'' if row.edits == 1 else 's'}"

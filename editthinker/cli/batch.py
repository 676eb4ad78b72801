"""``editthinker edit PHOTO... INSTRUCTION -o FOLDER``: many photos, several at a time. A batch that was stopped goes on where it
was: see `journal`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from editthinker.cli import several, target
from editthinker.cli.failures import FAILED, UNCHANGED, UsageError, describe
from editthinker.cli.journal import Entry, Journal, task_of
from editthinker.cli.progress import summary
from editthinker.cli.prompts import Item
from editthinker.client import (
    AsyncEditThinker,
    EditThinkerError,
    ImageFormat,
    NotFoundError,
    RateLimitError,
    Session,
    SessionFailedError,
    SessionOptions,
)
from editthinker.client.pictures import sniff
from editthinker.printable import json_text, one_line

_PNG: Final[tuple[tuple[str, ...], ImageFormat]] = ((".png",), "png")
_ENCODINGS: Final[dict[str, tuple[tuple[str, ...], ImageFormat]]] = {
    "image/jpeg": ((".jpg", ".jpeg"), "jpeg"),
    "image/webp": ((".webp",), "webp"),
}
"""Suffixes and format of results by the type of their source; others become PNG."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The arguments of a batch."""

    items: Sequence[Item]
    folder: Path
    options: SessionOptions
    jobs: int
    json: bool
    quiet: bool


@dataclass(slots=True)
class Outcome:
    """How one edit ended: ``edited``, ``unchanged`` (nothing is written), ``kept`` (it was there already) or ``failed``."""

    item: Item
    result: str
    note: str
    output: Path | None = None
    session: Session | None = None

    def as_json(self) -> str:
        """One JSON line."""
        session = self.session
        known: dict[str, Any] = {
            "photo": str(self.item.photo),
            "instruction": self.item.instruction,
            "result": self.result,
            "output": None if self.output is None else str(self.output),
            "session": session.id if session else None,
            "finish_reason": session.finish_reason if session else None,
            "scores": session.scores.model_dump() if session and session.scores else None,
            "error": self.note if self.result == "failed" else None,
        }
        return json_text(json.dumps(known, ensure_ascii=False))


def carry_out(batch: Batch, server: str | None, api_key: str | None) -> int:
    """Run a batch on a server, or on an embedded stack started for it; the exit status.

    Raises:
        UsageError: when the folder cannot be used.
        EditThinkerError: when the server refuses what every photo needs, or does not answer.
        KeyboardInterrupt: for Ctrl-C and SIGTERM. The sessions under way go on, and the next run collects them.
    """
    target.folder_for(batch.folder)
    with Journal(batch.folder) as journal, target.address(server, api_key, quiet=batch.quiet) as at:
        display = _Display(batch)
        with display.shown():
            try:
                several.run(_run(batch, journal, display, at.url, at.key))
            except UsageError:
                raise
            except BaseException:
                # BaseException: Ctrl-C is how most batches stop, and that is when one wants to know how far it came.
                display.stopped()
                raise
    display.ended()
    results = {outcome.result for outcome in display.without}
    return FAILED if "failed" in results else UNCHANGED if results else 0


async def _run(batch: Batch, journal: Journal, display: _Display, base_url: str, api_key: str) -> None:
    waiting = iter(batch.items)
    client = several.client(base_url, api_key)
    run = _Run(batch, journal, client)

    async def work() -> None:
        for item in waiting:
            display.add(await run.edit(item))

    async with client, asyncio.TaskGroup() as group:
        for _ in range(min(batch.jobs, len(batch.items))):
            group.create_task(work())


class _Run:
    """The edits of one run."""

    def __init__(self, batch: Batch, journal: Journal, client: AsyncEditThinker) -> None:
        self._batch = batch
        self._journal = journal
        self._client = client
        self._under_way = several.UnderWay()
        self._tasks: Counter[str] = Counter()

    async def edit(self, item: Item) -> Outcome:
        """One edit, or what an earlier run left of it.

        Raises:
            EditThinkerError: when the other photos would fail in the same way.
        """
        try:
            picture = item.photo.read_bytes()
        except OSError as exc:
            return Outcome(item, "failed", exc.strerror or str(exc))
        suffixes, image_format = _ENCODINGS.get(sniff(picture) or "", _PNG)
        suffix = item.photo.suffix if item.photo.suffix.lower() in suffixes else suffixes[0]
        task = self._task(item, picture)
        entry = self._journal.entry(task)
        if entry and entry.result == "edited" and (self._batch.folder / entry.output).exists():
            return Outcome(item, "kept", "was there already", self._batch.folder / entry.output)
        if entry is None or entry.result == "failed":
            entry = self._journal.begin(task, item, suffix)
        try:
            session = await self._ended_session(task, entry, item, picture)
            if session.unchanged:
                # As a failed one, the next run tries it again.
                self._journal.ended(task, "failed")
                return Outcome(item, "unchanged", summary(session), session=session)
            result = await self._client.sessions.image(session.id, format=image_format)
        except EditThinkerError as exc:
            if several.stops(exc):
                raise
            self._journal.ended(task, "failed")
            failed = exc.session if isinstance(exc, SessionFailedError) else None
            return Outcome(item, "failed", describe(exc), session=failed)
        output = self._batch.folder / entry.output
        target.write_atomically(output, result)
        self._journal.ended(task, "edited")
        return Outcome(item, "edited", summary(session), output, session)

    def _task(self, item: Item, picture: bytes) -> str:
        """Names an edit. Equal photos of the same file name, in two folders, are two edits."""
        task = task_of(item, picture, self._batch.options)
        self._tasks[task] += 1
        return task if self._tasks[task] == 1 else f"{task}-{self._tasks[task]}"

    async def _ended_session(self, task: str, entry: Entry, item: Item, picture: bytes) -> Session:
        """The session of an edit once it has ended with a picture: the one that an earlier run made, or a new one."""
        options: dict[str, Any] = {**self._batch.options, "idempotency_key": entry.key}
        session = await self._known_session(entry.session)
        while session is None or not session.ended:
            ends = self._under_way.ends
            try:
                with self._under_way.one():
                    if session is None:
                        session = await self._client.sessions.create(picture, item.instruction, **options)
                        self._journal.created(task, session.id)
                    session = await self._client.sessions.wait(session.id)
            except RateLimitError:
                if not await self._under_way.one_ends(ends):
                    raise
        if session.best is None:
            raise SessionFailedError(session)
        return session

    async def _known_session(self, session_id: str | None) -> Session | None:
        """The session of an earlier run, if the server still has it."""
        if session_id is None:
            return None
        try:
            return await self._client.sessions.get(session_id)
        except NotFoundError:
            return None


class _Display:
    """Shows the progress of a batch: a bar on a terminal, a line for each photo, and how it ended."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._counts: Counter[str] = Counter()
        self._console = Console(stderr=True, quiet=batch.quiet)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        hidden = not self._console.is_terminal or batch.quiet
        # Lines of JSON stay whole on a terminal.
        self._bar = Progress(*columns, console=self._console, disable=hidden, redirect_stdout=False)
        self._task = self._bar.add_task("", total=len(batch.items))
        self.without: list[Outcome] = []
        """Those that there is no result of."""

    def shown(self) -> Progress:
        """Show the bar while the block runs."""
        return self._bar

    def add(self, outcome: Outcome) -> None:
        """Count an edit that ended, and print its line."""
        self._counts[outcome.result] += 1
        if outcome.result in {"failed", "unchanged"}:
            self.without.append(outcome)
        done = sum(self._counts.values())
        state = "failed: " if outcome.result == "failed" else ""
        line = f"{done}/{len(self._batch.items)} {outcome.item.photo}: {state}{outcome.note}"
        self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
        self._bar.update(self._task, completed=done)
        if self._batch.json:
            sys.stdout.write(outcome.as_json() + "\n")
            sys.stdout.flush()

    def ended(self) -> None:
        """Print how the batch ended."""
        self._summarize(sys.stderr if self._batch.json else sys.stdout, "")

    def stopped(self) -> None:
        """Print how far the batch came."""
        self._summarize(sys.stderr, "; the same command goes on from here")

    def _summarize(self, out: Any, more: str) -> None:
        if self._batch.quiet:
            return
        total = len(self._batch.items)
        left = total - sum(self._counts.values())
        counts = [("edited", "edited"), ("kept", "there already"), ("unchanged", "unchanged"), ("failed", "failed")]
        told = [f"{self._counts[name]} {words}" for name, words in counts if self._counts[name]]
        told += [f"{left} left"] if left else []
        out.write(f"{total} photo{'' if total == 1 else 's'}: {', '.join(told)}; results in {self._batch.folder}{more}\n")
        for outcome in self.without:
            out.write(f"{outcome.result}: {one_line(f'{outcome.item.photo}: {outcome.note}')}\n")
        out.flush()

"""Runs datasets through arms: a session for each item and arm, on a running server or the embedded stack.

A run lives in a folder. Its journal has an item's idempotency key before the session is asked for, the session once the server
has named it, and the row once the picture is on disk. So a run that is killed at any moment goes on where it was, and nothing is
edited twice: a repeat of the request returns the first one's session.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from editthinker.cli import several, target
from editthinker.cli.records import Journal, JournalError
from editthinker.client import (
    AsyncEditThinker,
    EditThinkerError,
    NotFoundError,
    RateLimitError,
    Retries,
    Session,
    SessionFailedError,
)
from evaluation.arms import Arm, distinct
from evaluation.items import Dataset, DatasetError, Item, PictureSource, decoded
from evaluation.results import JOURNAL, Row, as_dict, from_record, session_columns, task_of, write, write_file

MANIFEST: Final = "run.json"
_VERSION: Final = 1
_JPEG_QUALITY: Final = 95
"""Of results in benchmarks that expect JPEG: as the server's own re-encoding."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may use, all its processes together.

    Before a session starts, those under way are counted with as many edits and seconds as the largest one so far. A run so
    exceeds its budget by less than the sessions that are under way then.
    """

    edits: int | None = None
    editor_seconds: float | None = None

    def admits(self, rows: Sequence[Row], under_way: int) -> bool:
        """Whether another session may start."""
        return all(
            limit is None or sum(used) + (under_way + 1) * max(used, default=least) <= limit
            for limit, used, least in (
                (self.edits, [row.edits for row in rows], 1),
                (self.editor_seconds, [row.editor_seconds for row in rows], 0),
            )
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What is run.

    Attributes:
        folder: where results and the journal go.
        jobs: sessions at a time.
        retry_failed: try items again that failed in an earlier run.
        limit: of each dataset its first items alone; None for all.
        fresh: a word that makes the sessions of this run others than those of a run in another folder with the same items,
            options and server. Without it they are shared.
    """

    datasets: Sequence[Dataset]
    arms: Sequence[Arm]
    folder: Path
    jobs: int = 4
    budget: Budget = field(default_factory=Budget)
    retry_failed: bool = False
    limit: int | None = None
    fresh: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """An item in an arm."""

    dataset: Dataset
    arm: Arm
    item: Item

    @property
    def name(self) -> str:
        """Names it in the journal."""
        return task_of(self.dataset.name, self.arm.name, self.item.id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        rows: of all items and arms so far, those of earlier processes included.
        left: items that were not begun because the budget was used up.
    """

    rows: Sequence[Row]
    left: int = 0


def tasks(run: Run) -> Iterator[Task]:
    """The items one after the other, each in every arm, so that a run that stops early can be compared."""
    for dataset in run.datasets:
        for item in dataset.items[: run.limit]:
            for arm in run.arms:
                yield Task(dataset, arm, item)


def carry_out(
    run: Run, server: str | None, api_key: str | None, on_row: Callable[[Row], None] = lambda _: None, *, quiet: bool = False
) -> Outcome:
    """Run it on a server, or on an embedded stack started for it.

    Args:
        on_row: called with each row, also those of earlier processes.

    Raises:
        JournalError: when the folder is of another run.
        EditThinkerError: when the server refuses what every item needs, or does not answer.
        KeyboardInterrupt: for Ctrl-C and SIGTERM. The sessions under way go on, and the next process collects them.
    """
    distinct(run.arms)
    target.folder_for(run.folder)
    with Journal(run.folder / JOURNAL) as journal:
        _check_manifest(run)
        work = _Work(run, journal, on_row)
        if not work.left():
            # Nothing needs a server.
            return work.outcome()
        with target.address(server, api_key, quiet=quiet) as at:
            try:
                several.run(work.go(at.url, at.key))
            finally:
                write(run.folder, "results", [as_dict(row) for row in work.rows.values()])
        return work.outcome()


class _Opened(BaseModel, extra="allow"):
    """A dataset of a run; further fields are its options."""

    path: str


class _Manifest(BaseModel):
    version: Literal[1]
    fresh: str = ""
    arms: dict[str, dict[str, Any]]
    datasets: dict[Literal["imgedit", "gedit", "risebench", "krisbench", "own"], _Opened]


def manifest(folder: Path) -> dict[str, Any]:
    """Arms and datasets of a run.

    Raises:
        JournalError: when there is no run in the folder, or it is of another version.
    """
    path = folder / MANIFEST
    try:
        known = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as exc:
        message = f"{folder} is not the folder of a run: {MANIFEST} is not there"
        raise JournalError(message) from exc
    except (ValueError, RecursionError) as exc:
        message = f"{path} is not JSON: {exc}; restore it, or give another folder"
        raise JournalError(message) from exc
    version = known.get("version") if isinstance(known, dict) else None
    if isinstance(version, int) and version != _VERSION:
        message = f"{path} is of version {version}, and this editthinker reads {_VERSION}; use the one that wrote it"
        raise JournalError(message)
    try:
        return _Manifest.model_validate(known).model_dump()
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{path}: {where + ': ' if where else ''}{first['msg']}; restore it, or give another folder"
        raise JournalError(message) from exc


def _check_manifest(run: Run) -> None:
    """Arms and datasets of the folder: more may be added, and those that are there must be the same."""
    path = run.folder / MANIFEST
    new: dict[str, Any] = {"version": _VERSION, "arms": {}, "datasets": {}, "fresh": run.fresh}
    known = manifest(run.folder) if path.exists() else new
    if known.get("fresh") != run.fresh:
        message = f"{run.folder} was run with --fresh {known.get('fresh')!r}; give the same, or another folder"
        raise JournalError(message)
    for arm in run.arms:
        if known["arms"].setdefault(arm.name, dict(arm.options)) != dict(arm.options):
            message = f"{run.folder} has an arm {arm.name!r} with other options: {known['arms'][arm.name]}; give it another name"
            raise JournalError(message)
    for dataset in run.datasets:
        known["datasets"][dataset.name] = {"version": dataset.version, "items": len(dataset.items), **dataset.options}
    # As JSON escapes them: what is not UTF-8 in a path.
    write_file(path, json.dumps(known, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace"))


class _Work:
    """The sessions of one process of a run."""

    def __init__(self, run: Run, journal: Journal, on_row: Callable[[Row], None]) -> None:
        self._run = run
        self._journal = journal
        self._on_row = on_row
        self._under_way = several.UnderWay()
        self._busy = 0
        self._stopped = False
        self._pictures: Mapping[str, int] = {}
        self.rows: dict[str, Row] = {}
        self._begun: dict[str, dict[str, Any]] = {}
        for record in journal.records:
            self._apply(record)

    def _apply(self, record: Mapping[str, Any]) -> None:
        row = from_record(record)
        task = record.get("task")
        if row is not None:
            self.rows[row.task] = row
            self._begun.pop(row.task, None)
        elif isinstance(task, str) and isinstance(record.get("key"), str):
            self._begun[task] = {"key": record["key"], "attempt": record.get("attempt", 1), "session": None}
        elif isinstance(task, str) and task in self._begun:
            self._begun[task]["session"] = record.get("session")

    def left(self) -> list[Task]:
        """The tasks without a result."""
        return [task for task in tasks(self._run) if not self._done(task)]

    def outcome(self) -> Outcome:
        """How it ended."""
        return Outcome(list(self.rows.values()), len(self.left()) if self._stopped else 0)

    def _done(self, task: Task) -> bool:
        row = self.rows.get(task.name)
        if row is None or (row.status == "failed" and self._run.retry_failed):
            return False
        return row.output is None or (self._run.folder / row.output).exists()

    async def go(self, base_url: str, api_key: str) -> None:
        """Work until every task has a row, or the budget is used up."""
        for task in tasks(self._run):
            if self._done(task):
                self._on_row(self.rows[task.name])
        waiting = iter(self.left())
        async with several.client(base_url, api_key, Retries()) as client:
            # Less patient: a wrong URL is told at once.
            self._pictures = await _pictures_of_editors(client)
        async with several.client(base_url, api_key) as client, asyncio.TaskGroup() as group:
            for _ in range(self._run.jobs):
                group.create_task(self._worker(client, waiting))

    async def _worker(self, client: AsyncEditThinker, waiting: Iterator[Task]) -> None:
        for task in waiting:
            known = self._begun.get(task.name)
            row = self.rows.get(task.name)
            # What was asked for already, or only has to be fetched again, is paid for.
            paid = known is not None or (row is not None and row.answered)
            if not paid and not self._run.budget.admits(list(self.rows.values()), self._busy):
                self._stopped = True
                return
            self._busy += 1
            try:
                made = await self._row(client, task)
            finally:
                self._busy -= 1
            self._record({"task": task.name, "row": as_dict(made)})
            self._on_row(made)

    async def _row(self, client: AsyncEditThinker, task: Task) -> Row:
        """One item in one arm, or what an earlier process left of it.

        Raises:
            EditThinkerError: when the other items would fail in the same way.
        """
        attempt = 1
        try:
            if refused := self._needs_more_pictures(task):
                return _row(task, status="skipped", error_code="too_many_pictures", error_message=refused)
            pictures = await asyncio.to_thread(lambda: [source.read() for source in task.item.sources])
            digest = await asyncio.to_thread(lambda: task.item.digest)
            entry = self._entry(task, digest)
            attempt = entry["attempt"]
            session, reused = await self._ended_session(client, task, entry, pictures)
            output = await self._save(client, task, session)
        except DatasetError as exc:
            return _row(task, status="failed", attempt=attempt, error_code="invalid_dataset", error_message=str(exc))
        except SessionFailedError as exc:
            error = exc.session.error
            told = {"error_code": error.code if error else exc.session.status, "error_message": str(exc)}
            return _row(task, status="failed", attempt=attempt, **told, **session_columns(exc.session))
        except EditThinkerError as exc:
            if several.stops(exc):
                raise
            code = getattr(exc, "code", None) or type(exc).__name__
            return _row(task, status="failed", attempt=attempt, error_code=code, error_message=str(exc))
        status = "unchanged" if session.unchanged else "edited"
        return _row(task, status=status, attempt=attempt, output=output, reused=reused, **session_columns(session))

    def _needs_more_pictures(self, task: Task) -> str | None:
        editor = task.arm.options.get("editor") or next(iter(self._pictures), "")
        takes, needs = self._pictures.get(editor), len(task.item.sources)
        return f"the item has {needs} pictures, and {editor} takes {takes}" if takes is not None and needs > takes else None

    def _entry(self, task: Task, digest: str) -> dict[str, Any]:
        """Key, attempt and session of a task, recorded before anything is asked for."""
        row, known = self.rows.get(task.name), self._begun.get(task.name)
        if known is not None:
            return known
        again = row is not None and row.status == "failed"
        attempt = row.attempt + 1 if row is not None and again else row.attempt if row is not None else 1
        key = idempotency_key(task, digest, attempt, self._run.fresh)
        self._record({"task": task.name, "key": key, "attempt": attempt})
        if row is not None and row.answered and row.session:
            # Its picture was removed, and is fetched again.
            self._record({"task": task.name, "session": row.session})
        return self._begun[task.name]

    async def _ended_session(
        self, client: AsyncEditThinker, task: Task, entry: dict[str, Any], pictures: Sequence[bytes]
    ) -> tuple[Session, bool]:
        """The session of a task once it has ended with a picture, and whether it had ended before it was asked for."""
        session = await _known_session(client, entry["session"])
        reused, options = False, self._options(task, entry["key"])
        while session is None or not session.ended:
            ends = self._under_way.ends
            try:
                with self._under_way.one():
                    if session is None:
                        session = await client.sessions.create(list(pictures), task.item.instruction, **options)
                        reused = session.ended
                        self._record({"task": task.name, "session": session.id})
                    session = await client.sessions.wait(session.id)
            except RateLimitError:
                if not await self._under_way.one_ends(ends):
                    raise
        if session.best is None:
            raise SessionFailedError(session)
        return session, reused

    def _options(self, task: Task, key: str) -> dict[str, Any]:
        # At most 512 characters each, as the server takes them.
        names = {"eval_dataset": task.dataset.name, "eval_arm": task.arm.name, "eval_item": task.item.id}
        metadata = {name: text[:512] for name, text in names.items()}
        return {**task.arm.options, "idempotency_key": key, "metadata": metadata}

    async def _save(self, client: AsyncEditThinker, task: Task, session: Session) -> str:
        """Write the picture, and what belongs next to it; its path in the run's folder."""
        compression = _JPEG_QUALITY if task.dataset.format == "jpeg" else None
        picture = await client.sessions.image(session.id, format=task.dataset.format, compression=compression)
        home = Path(task.dataset.name)
        for path, source in task.dataset.companions(task.item, task.arm.name).items():
            data = await asyncio.to_thread(as_png, source)
            write_file(self._run.folder / home / path, data)
        output = home / task.dataset.output(task.item, task.arm.name)
        write_file(self._run.folder / output, picture)
        return output.as_posix()

    def _record(self, record: Mapping[str, Any]) -> None:
        self._journal.append(record)
        self._apply(record)


def idempotency_key(task: Task, digest: str, attempt: int, fresh: str) -> str:
    """Names what is asked for by all that makes it, so that a repeat in any process and folder is the same session.

    Args:
        digest: of the item's contents.
    """
    parts = [task.dataset.name, task.arm.name, dict(task.arm.options), task.item.id, digest, attempt, fresh]
    return "eval-" + hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]


def as_png(picture: PictureSource) -> bytes:
    """A picture as PNG.

    Raises:
        DatasetError: when it cannot be read.
    """
    out = io.BytesIO()
    with decoded(picture) as read:
        read.save(out, "PNG")
    return out.getvalue()


def _row(task: Task, **columns: Any) -> Row:
    named = {
        "dataset": task.dataset.name,
        "dataset_version": task.dataset.version,
        "arm": task.arm.name,
        "item": task.item.id,
        "group": task.item.group,
        "subgroup": task.item.subgroup,
        "instruction": task.item.instruction,
        "seed": task.arm.options.get("seed"),
    }
    asked = {name: task.arm.options.get(name) for name in ("editor", "thinker", "judge", "strategy")}
    return Row(**{**named, **asked, **columns})


async def _known_session(client: AsyncEditThinker, session_id: str | None) -> Session | None:
    """The session of an earlier process, if the server still has it."""
    if session_id is None:
        return None
    with suppress(NotFoundError):
        return await client.sessions.get(session_id)
    return None


async def _pictures_of_editors(client: AsyncEditThinker) -> dict[str, int]:
    """How many pictures each editor takes, the default editor first; those that do not say are left out."""
    cards = [card.model_dump() for card in await client.models.list()]
    return {card["id"]: card["images"] for card in cards if isinstance(card.get("images"), int)}

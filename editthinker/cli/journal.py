"""The journal of a batch: what was asked for and what came of it, so that a batch that was killed goes on and pays for nothing
twice.

It is a file of JSON lines in the folder of the results. An edit's idempotency key is in it before the edit is requested, and its
session once the server has named it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from editthinker.cli import records
from editthinker.cli.failures import UsageError
from editthinker.cli.prompts import Item

NAME: Final = ".editthinker-batch.jsonl"
_RESULTS: Final = frozenset({"edited", "failed"})


@dataclass(slots=True)
class Entry:
    """What the journal has about one edit.

    Attributes:
        key: its idempotency key.
        output: the file name of its result.
        session: its session's id, once the server has named it.
        result: ``edited`` or ``failed``, or None before its end.
    """

    key: str
    output: str
    session: str | None = None
    result: str | None = None


def task_of(item: Item, picture: bytes, options: Mapping[str, Any]) -> str:
    """Names an edit by all that makes it: file name, picture, instruction and options."""
    parts = [item.photo.name, hashlib.sha256(picture).hexdigest(), item.instruction, options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


class Journal:
    """The journal in a folder, for this process alone.

    Raises:
        UsageError: when another batch writes into the folder.
        OSError: when the journal cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, Entry] = {}
        try:
            self._records = records.Journal(folder / NAME)
        except records.JournalError:
            message = f"another batch writes into {folder}; wait for it, or give another folder"
            raise UsageError(message) from None
        for record in self._records.records:
            self._apply(record)

    def entry(self, task: str) -> Entry | None:
        """What it has about an edit."""
        return self._entries.get(task)

    def begin(self, task: str, item: Item, suffix: str) -> Entry:
        """Record that an edit is about to be requested, for the first time or after it failed."""
        former = self._entries.get(task)
        output = former.output if former else self._free_name(item.photo.stem, suffix)
        entry = Entry(f"batch-{secrets.token_hex(16)}", output)
        self._entries[task] = entry
        named = {"task": task, "photo": str(item.photo), "instruction": item.instruction}
        self._records.append({**named, "key": entry.key, "output": output})
        return entry

    def created(self, task: str, session_id: str) -> None:
        """Record an edit's session."""
        self._entries[task].session = session_id
        self._records.append({"task": task, "session": session_id})

    def ended(self, task: str, result: str) -> None:
        """Record how an edit ended."""
        self._entries[task].result = result
        self._records.append({"task": task, "result": result})

    def __enter__(self) -> Self:
        """Use the journal in a ``with``."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file, which releases its lock."""
        self._records.__exit__(kind, value, trace)

    def _free_name(self, stem: str, suffix: str) -> str:
        """A name that neither a result has nor a file of the user's: the folder may be that of the photos."""
        taken = {entry.output for entry in self._entries.values()}
        names = (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}" for number in count(1))
        return next(name for name in names if name not in taken and not (self._folder / name).exists())

    def _apply(self, record: Mapping[str, Any]) -> None:
        task = record.get("task")
        if not isinstance(task, str):
            return
        if isinstance(record.get("key"), str) and isinstance(record.get("output"), str):
            # Only a name: what the file says must not lead out of the folder.
            self._entries[task] = Entry(record["key"], Path(record["output"]).name)
        elif entry := self._entries.get(task):
            entry.session = record["session"] if isinstance(record.get("session"), str) else entry.session
            entry.result = record["result"] if record.get("result") in _RESULTS else entry.result

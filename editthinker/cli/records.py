"""An append-only journal of JSON lines, each on disk before what it says is relied on: a run that was killed goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from editthinker.cli.failures import UsageError


class JournalError(UsageError):
    """The journal cannot be used: another process has it, or it is of something else."""


class Journal:
    """A journal, for this process alone.

    Args:
        path: its file; created if absent.

    Attributes:
        records: those of earlier processes, in their order.

    Raises:
        JournalError: when another process uses it.
        OSError: when it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(self._file, path)
            with os.fdopen(os.dup(self._file), "rb") as file:
                data = file.read()
            self.records = list(_records(data))
            if data and not data.endswith(b"\n"):
                # A kill can leave half a line.
                os.write(self._file, b"\n")
        except BaseException:
            # BaseException: Ctrl-C, too, must not leave the lock held in a process that goes on.
            os.close(self._file)
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record and wait until it is on disk.

        Raises:
            OSError: when it cannot be written; it names the file.
        """
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            os.lseek(self._file, 0, os.SEEK_END)
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, str(self.path)) from exc

    def __enter__(self) -> Self:
        """Use the journal in a ``with``."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file, which releases its lock."""
        os.close(self._file)


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a journal that another process may be writing; none without the file."""
    try:
        return list(_records(path.read_bytes()))
    except FileNotFoundError:
        return []


def _records(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _lock(file: int, path: Path) -> None:
    try:
        # Not on Windows.
        import fcntl  # noqa: PLC0415
    except ModuleNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"another process writes {path}; wait for it, or give another folder"
        raise JournalError(message) from None

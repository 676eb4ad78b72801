"""Files that are complete or absent, and where to continue: an export that was killed goes on, without a row twice or none.

Rows are written to hidden files. When these are large enough, they are flushed to the disk, and the manifest, which is replaced
in one step, names them and the place in the stream; what it does not name is written again. So a crash at any moment costs what
was hidden, and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.trajectories.layouts import Form, Row, schema

MANIFEST: Final = "manifest.json"
_SEEN: Final = ".seen.sqlite"
_ROW_GROUP_BYTES: Final = 16 * 1024**2
"""Rows in memory at a time. Readers of parquet hold a row group, too."""
_VERSION: Final = 1
_REMEMBERED: Final = 1000
"""Sessions that are read again after an interruption, at most, and then known by their ids."""


class ExportConflictError(Exception):
    """The folder holds something else than this export."""


@dataclass
class Cursor:
    """Where an export has come to.

    Attributes:
        phase: what is read: the sessions, then the votes, then nothing.
        since: the latest creation of what was read, in Unix seconds.
        ids: what was read last. The server orders by when something was recorded, which is a little after its creation.
    """

    phase: str = "sessions"
    since: float | None = None
    ids: list[str] = field(default_factory=list)

    def after(self, at: float, name: str) -> Cursor:
        """The place after one more."""
        return Cursor(self.phase, at if self.since is None else max(self.since, at), [*self.ids[-_REMEMBERED:], name])


@dataclass
class Manifest:
    """What is complete in a folder.

    Attributes:
        options: of the export; they must be the same to continue.
        files: the complete files, relative to the folder.
        rows: by split.
        skipped: what was left out, by reason.
        parts: how many times files were completed.
    """

    options: Mapping[str, Any]
    version: int = _VERSION
    complete: bool = False
    cursor: Cursor = field(default_factory=Cursor)
    files: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    parts: int = 0


class _Files(ABC):
    """The hidden files of a part, one for each split."""

    @abstractmethod
    def write(self, split: str, row: Row) -> int:
        """Write a row: about how many bytes it takes."""

    @abstractmethod
    def finish(self) -> dict[str, Path]:
        """Complete and flush them: the hidden paths by the names that they are to have."""

    @abstractmethod
    def abandon(self) -> None:
        """Close what is open. What is left is removed when the export continues."""


class _Parquet(_Files):
    def __init__(self, folder: Path, part: int, columns: pa.Schema) -> None:
        self._folder, self._part, self._columns = folder, part, columns
        self._writers: dict[str, tuple[Path, BinaryIO, pq.ParquetWriter]] = {}
        self._rows: dict[str, list[Row]] = {}
        self._sizes: dict[str, int] = {}

    def write(self, split: str, row: Row) -> int:
        size = _size(row)
        self._rows.setdefault(split, []).append(row)
        self._sizes[split] = self._sizes.get(split, 0) + size
        if sum(self._sizes.values()) >= _ROW_GROUP_BYTES:
            for each in list(self._rows):
                self._flush(each)
        return size

    def finish(self) -> dict[str, Path]:
        for split in list(self._rows):
            self._flush(split)
        found = {}
        for split, (path, file, writer) in self._writers.items():
            writer.close()
            _synced(file)
            found[f"{split}-{self._part:05d}.parquet"] = path
        return found

    def abandon(self) -> None:
        for _, file, writer in self._writers.values():
            # OSError: of a full disk, which was told already.
            with contextlib.suppress(pa.ArrowException, OSError):
                writer.close()
            with contextlib.suppress(OSError):
                file.close()

    def _flush(self, split: str) -> None:
        rows = self._rows.pop(split)
        self._sizes.pop(split)
        if split not in self._writers:
            path = self._folder / f".{split}-{self._part:05d}.parquet"
            file = path.open("wb")
            # Pictures are compressed already.
            self._writers[split] = (path, file, pq.ParquetWriter(file, self._columns, compression="zstd", compression_level=1))
        self._writers[split][2].write_table(pa.Table.from_pylist(rows, schema=self._columns))


class _JsonLines(_Files):
    def __init__(self, folder: Path, part: int) -> None:
        self._folder, self._part = folder, part
        self._open: dict[str, tuple[Path, BinaryIO]] = {}

    def write(self, split: str, row: Row) -> int:
        if split not in self._open:
            path = self._folder / f".{split}-{self._part:05d}.jsonl"
            self._open[split] = (path, path.open("wb"))
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        self._open[split][1].write(line)
        return len(line)

    def finish(self) -> dict[str, Path]:
        for _, file in self._open.values():
            _synced(file)
        return {f"{split}-{self._part:05d}.jsonl": path for split, (path, _) in self._open.items()}

    def abandon(self) -> None:
        for _, file in self._open.values():
            with contextlib.suppress(OSError):
                file.close()


class _Folders(_Files):
    def __init__(self, folder: Path, part: int) -> None:
        self._folder, self._part = folder, part
        self._made: dict[str, Path] = {}

    def write(self, split: str, row: Row) -> int:
        if split not in self._made:
            path = self._folder / f".{split}-{self._part:05d}"
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            self._made[split] = path
        place = self._made[split] / row["name"]
        place.mkdir()
        for name, data in row["files"].items():
            with (place / name).open("wb") as file:
                file.write(data)
        return sum(map(len, row["files"].values()))

    def finish(self) -> dict[str, Path]:
        # One call for thousands of small files.
        os.sync()
        return {f"{split}-{self._part:05d}": path for split, path in self._made.items()}

    def abandon(self) -> None:
        """Its files are closed."""


class Shards:
    """The folder of an export.

    Args:
        folder: made if it does not exist.
        form: of the files.
        options: of the export.
        part_bytes: bytes after which files are completed.
        ids: whether rows have the columns of `--with-ids`.

    Raises:
        ExportConflictError: for a folder of another export, or of something else.
    """

    _cursor: Cursor

    def __init__(self, folder: Path, form: Form, options: Mapping[str, Any], part_bytes: int, *, ids: bool) -> None:
        self._folder, self._form, self._part_bytes = folder, form, part_bytes
        self._columns = schema(form, ids=ids) if form in {"trl", "verl", "pairs"} else None
        self.manifest = self._found(dict(options))
        self._seen = self._locked()
        self._remove_unnamed()
        self._begin()

    @property
    def rows(self) -> int:
        """Rows so far, those that are still hidden among them."""
        return sum(self.manifest.rows.values()) + sum(self._new.values())

    def has(self, key: bytes) -> bool:
        """Whether a row with this key was written.

        Raises:
            OSError: when the disk fails.
        """
        with self._named():
            return self._seen.execute("SELECT 1 FROM seen WHERE key = ?", (key,)).fetchone() is not None

    def write(self, split: str, key: bytes, row: Row) -> None:
        """Write a row, whose key none has yet.

        Raises:
            OSError: when the disk fails; it names what could not be written.
        """
        with self._named():
            self._seen.execute("INSERT INTO seen VALUES (?, ?)", (key, self.manifest.parts))
            self._bytes += self._files.write(split, row)
        self._new[split] = self._new.get(split, 0) + 1

    def skip(self, reason: str) -> None:
        """Count something that is left out."""
        self._skipped[reason] = self._skipped.get(reason, 0) + 1

    def passed(self, at: float, name: str) -> None:
        """A session or vote is written as a whole; files that are large enough are completed."""
        self._cursor = self._cursor.after(at, name)
        if self._bytes >= self._part_bytes:
            self.complete_part()

    def begin_phase(self, phase: str) -> None:
        """What is read next; what was read before is complete."""
        self._cursor = Cursor(phase)

    def complete_part(self, *, last: bool = False) -> None:
        """Complete the hidden files, and name them in the manifest.

        Args:
            last: whether nothing follows.

        Raises:
            OSError: when the disk fails; it names what could not be written.
        """
        with self._named():
            hidden = self._files.finish() if self._new else {}
            # Before the manifest: an interrupted commit leaves keys of a part that is then written again, and are forgotten.
            self._seen.commit()
        for name, path in hidden.items():
            path.rename(self._folder / name)
        _sync_folder(self._folder)
        known = self.manifest
        rows, skipped = dict(known.rows), dict(known.skipped)
        for total, more in ((rows, self._new), (skipped, self._skipped)):
            for name, count in more.items():
                total[name] = total.get(name, 0) + count
        files = [*known.files, *hidden]
        cursor = self._cursor
        parts = known.parts + 1
        self.manifest = Manifest(known.options, _VERSION, last, cursor, files, rows, skipped, parts)
        self._write_manifest()
        if not last:
            self._begin()

    def close(self) -> None:
        """Forget what is hidden, as a crash would."""
        self._files.abandon()
        self._seen.close()
        if self.manifest.complete:
            for name in (_SEEN, f"{_SEEN}-journal"):
                (self._folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the disk with the name of what could not be read or written."""
        try:
            yield
        except sqlite3.Error as exc:
            raise OSError(errno.EIO, str(exc), str(self._folder / _SEEN)) from exc
        except OSError as exc:
            if exc.filename is not None or exc.errno is None:
                raise
            raise OSError(exc.errno, exc.strerror, str(self._folder)) from exc

    def _locked(self) -> sqlite3.Connection:
        """The keys of what is complete, locked against another export into the folder."""
        seen = sqlite3.connect(self._folder / _SEEN, timeout=0)
        try:
            seen.execute("PRAGMA locking_mode=EXCLUSIVE")
            seen.execute("CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, part INTEGER) WITHOUT ROWID")
            seen.execute("DELETE FROM seen WHERE part >= ?", (self.manifest.parts,))
            seen.commit()
        except sqlite3.DatabaseError as exc:
            seen.close()
            if exc.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise ExportConflictError(f"{self._folder}: another export writes there; wait for it") from exc
            if exc.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise ExportConflictError(f"{self._folder / _SEEN}: {exc}; name a new folder") from exc
            raise OSError(errno.EIO, str(exc), str(self._folder / _SEEN)) from exc
        return seen

    def _begin(self) -> None:
        part = self.manifest.parts
        self._bytes = 0
        self._new: dict[str, int] = {}
        self._skipped: dict[str, int] = {}
        self._cursor = self.manifest.cursor
        self._files: _Files
        if self._columns is not None:
            self._files = _Parquet(self._folder, part, self._columns)
        else:
            self._files = (_Folders if self._form == "folder" else _JsonLines)(self._folder, part)

    def _found(self, options: dict[str, Any]) -> Manifest:
        path = self._folder / MANIFEST
        if not path.exists():
            if self._folder.exists() and any(self._folder.iterdir()):
                raise ExportConflictError(f"{self._folder} is not empty, and no export; name a new folder")
            self._folder.mkdir(parents=True, exist_ok=True)
            manifest = Manifest(options)
            self.manifest = manifest
            self._write_manifest()
            return manifest
        try:
            stored = json.loads(path.read_text("utf-8"))
            if not isinstance(stored, dict) or not isinstance(stored.get("version"), int):
                raise ExportConflictError(f"{path} is not the manifest of an export; name a new folder")
            if stored["version"] != _VERSION:
                raise ExportConflictError(f"{path} is of version {stored['version']}, and not {_VERSION}; name a new folder")
            manifest = Manifest(**{**stored, "options": dict(stored["options"]), "cursor": Cursor(**stored["cursor"])})
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise ExportConflictError(f"{path} is not the manifest of an export ({exc}); name a new folder") from exc
        different = sorted(name for name in options.keys() | manifest.options if options.get(name) != manifest.options.get(name))
        if different:
            named = ", ".join(f"{name}={manifest.options.get(name)!r}" for name in different)
            raise ExportConflictError(
                f"{self._folder} holds an export with other options ({named}); repeat them, or name a new folder"
            )
        return manifest

    def _remove_unnamed(self) -> None:
        """Files of a part that was never completed."""
        named = {MANIFEST, _SEEN, f"{_SEEN}-journal", *self.manifest.files}
        for path in self._folder.iterdir():
            if path.name in named or not _is_ours(path.name):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _write_manifest(self) -> None:
        hidden = self._folder / f".{MANIFEST}"
        with self._named(), hidden.open("wb") as file:
            file.write(json.dumps(asdict(self.manifest), indent=1).encode())
            _synced(file)
        hidden.rename(self._folder / MANIFEST)
        _sync_folder(self._folder)


def split_of(source: str, splits: Mapping[str, float]) -> str:
    """The split of a source picture, by its digest: all that was made of one picture is in one split.

    Args:
        splits: shares by name, which add up to 1.
    """
    at = int.from_bytes(hashlib.sha256(f"split {source}".encode()).digest()[:8]) / 2**64
    total = 0.0
    for name, share in splits.items():
        total += share
        if at < total:
            return name
    return list(splits)[-1]


def _is_ours(name: str) -> bool:
    """Whether a name is one that an export gives: a hidden file, or a numbered part of a split."""
    stem = name.removeprefix(".").partition(".")[0]
    return stem.rpartition("-")[2].isdigit() or name == f".{MANIFEST}"


def _size(value: Any) -> int:
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 8


def _synced(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""The results of a run: a row for each item and arm, as JSON lines and parquet, for pandas and `datasets`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePath
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from editthinker.cli import records, target
from editthinker.client import Session
from evaluation.items import PictureFile

Status = Literal["edited", "unchanged", "failed", "skipped"]
JOURNAL: Final = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one item in one arm. `docs/evaluation.md` describes the columns.

    Attributes:
        status: ``edited``; ``unchanged``, where the answer is the source; ``failed``; or ``skipped``, without a session.
        output: path of the picture, relative to the run's folder; None without one.
        attempt: 1, and one more each time that a failed item is tried again.
        wall_seconds: from the session's creation to its end.
        first_overall: the server's score of the first turn's best candidate, to compare with `overall`.
        reused: whether the session was there already: an earlier run in another folder asked for the same.
    """

    dataset: str
    dataset_version: str
    arm: str
    item: str
    group: str
    subgroup: str
    instruction: str
    status: Status
    output: str | None = None
    session: str | None = None
    editor: str | None = None
    thinker: str | None = None
    judge: str | None = None
    strategy: str | None = None
    seed: int | None = None
    attempt: int = 1
    finish_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    turns: int = 0
    edits: int = 0
    editor_seconds: float = 0.0
    thinker_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    wall_seconds: float | None = None
    semantic: float | None = None
    quality: float | None = None
    overall: float | None = None
    first_overall: float | None = None
    best_turn: int | None = None
    reused: bool = False

    @property
    def task(self) -> str:
        """Names item and arm in the run."""
        return task_of(self.dataset, self.arm, self.item)

    @property
    def answered(self) -> bool:
        """Whether there is a picture to score."""
        return self.status in {"edited", "unchanged"}


_ROW: Final = TypeAdapter(Row)


def task_of(dataset: str, arm: str, item: str) -> str:
    """Names an item in an arm."""
    return f"{dataset}/{arm}/{item}"


def session_columns(session: Session) -> dict[str, Any]:
    """The columns that a session that has ended fills."""
    scores, totals = session.scores, session.totals
    first = [each.scores.overall for each in session.turns[0].candidates if each.scores] if session.turns else []
    wall = None
    if session.created_at is not None and session.finished_at is not None:
        wall = session.finished_at - session.created_at
    return {
        "session": session.id,
        "editor": session.editor,
        "thinker": session.thinker,
        "judge": session.judge,
        "strategy": session.strategy,
        "finish_reason": session.finish_reason,
        "turns": totals.turns,
        "edits": totals.edits,
        "editor_seconds": totals.editor_seconds,
        "thinker_seconds": totals.thinker_seconds,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "wall_seconds": wall,
        "semantic": scores.semantic if scores else None,
        "quality": scores.quality if scores else None,
        "overall": scores.overall if scores else None,
        "first_overall": max(first) if first else None,
        "best_turn": session.best.turn if session.best else None,
    }


def from_record(record: Mapping[str, Any]) -> Row | None:
    """The row of a journal's record; None where it has none. Columns of a newer version are left out.

    A folder can come from others: a row whose columns are of other types is none, and neither is one whose picture would be
    outside of the folder.
    """
    given = record.get("row")
    if not isinstance(given, dict):
        return None
    try:
        row = _ROW.validate_python({each.name: _whole(given[each.name]) for each in fields(Row) if each.name in given})
    except ValidationError:
        return None
    inside = row.output is None or (not PurePath(row.output).is_absolute() and ".." not in PurePath(row.output).parts)
    return row if inside else None


def _whole(value: Any) -> Any:
    """A text without lone surrogates, which neither pages nor tables can hold; other values as they are."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def picture(folder: Path, row: Row) -> PictureFile:
    """The picture of a row that has one.

    Args:
        folder: of the run.
    """
    return PictureFile(folder / (row.output or ""), "repeat `editthinker eval run`, which fetches it again")


def latest(records: Iterable[Mapping[str, Any]]) -> dict[str, Row]:
    """The last row of each task, by task."""
    found = {}
    for record in records:
        row = from_record(record)
        if row is not None:
            found[row.task] = row
    return found


def read(folder: Path) -> list[Row]:
    """The rows of a run, also of one that is under way: those of each arm in the order of its items' ends."""
    return list(latest(records.read(folder / JOURNAL)).values())


def write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write rows as ``<name>.jsonl`` and ``<name>.parquet``; the paths.

    Raises:
        OSError: when they cannot be written.
    """
    lines, table = folder / f"{name}.jsonl", folder / f"{name}.parquet"
    write_file(lines, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "backslashreplace"))
    write_file(table, _parquet(rows))
    return [lines, table]


def as_dict(row: Row) -> dict[str, Any]:
    """A row as JSON."""
    return asdict(row)


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - 100 ms
    from pyarrow import parquet  # noqa: PLC0415

    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(list(rows)), sink)
    return bytes(sink.getvalue())


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that it is whole on disk, or not there.

    Raises:
        OSError: when it cannot be written; it names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with target.atomic(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

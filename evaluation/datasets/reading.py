"""Reads the files that benchmarks come as, with errors that name file, row and field."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from evaluation.items import DatasetError, PictureFile, checked

_LONGEST_NAME: Final = 200
"""Bytes of a key: a name has at most 255 (ext4, APFS, NTFS in UTF-16), and results add up to 20."""
_TABLES: Final = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def list_in(path: Path, names: Sequence[str]) -> Path:
    """The list of a dataset: the path itself, or the first of these files in it.

    Raises:
        DatasetError: when none is there.
    """
    found = path if path.is_file() else next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        message = f"{path}: neither {' nor '.join(names)} is there"
        raise DatasetError(message)
    return found


def json_file(path: Path) -> Any:
    """A JSON file's value.

    Raises:
        DatasetError: when it cannot be read.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as exc:
        message = f"{path}: {exc.strerror}"
        raise DatasetError(message) from exc
    except (ValueError, RecursionError) as exc:
        message = f"{path} is not JSON: {exc}"
        raise DatasetError(message) from exc


def objects_by_key(path: Path) -> dict[str, Row]:
    """The rows of a JSON object of objects.

    Raises:
        DatasetError: when it is something else.
    """
    value = json_file(path)
    if not isinstance(value, dict):
        message = f"{path}: expected an object of items by their keys, found {kind(value)}"
        raise DatasetError(message)
    return {key: Row(f"{path}, item {key!r}", row) for key, row in value.items()}


def objects_in_list(path: Path) -> list[Row]:
    """The rows of a JSON list of objects.

    Raises:
        DatasetError: when it is something else.
    """
    value = json_file(path)
    if not isinstance(value, list):
        message = f"{path}: expected a list of items, found {kind(value)}"
        raise DatasetError(message)
    return [Row(f"{path}, row {number}", row) for number, row in enumerate(value, 1)]


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


class Row:
    """One row, and where it is from.

    Args:
        where: file and row, for errors.
        values: the row as it was read.

    Raises:
        DatasetError: when it is not an object.
    """

    def __init__(self, where: str, values: object) -> None:
        if not isinstance(values, dict):
            message = f"{where}: expected an object, found {kind(values)}"
            raise DatasetError(message)
        self.where = where
        self.values: Mapping[str, Any] = values

    def text(self, *names: str) -> str:
        """The text of the first of these fields that is there.

        Raises:
            DatasetError: when none is there, or it is empty or no text.
        """
        name = next((name for name in names if self.values.get(name) is not None), None)
        if name is None:
            message = f"{self.where}: the field {' or '.join(names)} is missing"
            raise DatasetError(message)
        value = self.values[name]
        if not isinstance(value, str) or not value.strip():
            what = "is empty" if isinstance(value, str) else f"is {kind(value)}, and not a text"
            message = f"{self.where}: the field {name} {what}"
            raise DatasetError(message)
        if not _is_unicode(value):
            message = f"{self.where}: the field {name} has half of a surrogate pair, which is no text"
            raise DatasetError(message)
        return value

    def optional(self, *names: str) -> str:
        """The text of the first of these fields that is there; "" without one."""
        for name in names:
            value = self.values.get(name)
            if isinstance(value, str):
                return value
        return ""

    def picture(self, root: Path, *names: str) -> PictureFile:
        """The picture that a field names, relative to a folder.

        Raises:
            DatasetError: when the field is missing, or the file is outside the folder or not there.
        """
        return self.file(root, self.text(*names), names[0])

    def pictures(self, root: Path, name: str) -> tuple[PictureFile, ...]:
        """The pictures that a field names: a path, or a list of paths.

        Raises:
            DatasetError: as `picture`.
        """
        value = self.values.get(name)
        if not isinstance(value, list):
            return (self.picture(root, name),)
        if not value or not all(isinstance(each, str) for each in value):
            message = f"{self.where}: the field {name} is neither a path nor a list of paths"
            raise DatasetError(message)
        return tuple(self.file(root, each, name) for each in value)

    def file(self, root: Path, path: str, name: str) -> PictureFile:
        """A file in a folder.

        Raises:
            DatasetError: when it is outside, or not there.
        """
        # A downloaded list must not make us send any file of this machine.
        whole = (root / path).resolve()
        if not whole.is_relative_to(root.resolve()):
            message = f"{self.where}: the field {name} leads out of {root}: {path}"
            raise DatasetError(message)
        if not whole.is_file():
            message = f"{self.where}: the field {name} names a file that does not exist: {root / path}"
            raise DatasetError(message)
        return PictureFile(root / path)


def plain_name(text: str, where: str) -> str:
    """A key that is used as a file name.

    Raises:
        DatasetError: when it is a path, not UTF-8, or longer than names of files can be with what is added to it.
    """
    if not text or text in {".", ".."} or any(letter in text for letter in "/\\\0") or not _is_unicode(text):
        message = f"{where}: {text!r} cannot be a file name; give the item another one"
        raise DatasetError(message)
    if len(text.encode()) > _LONGEST_NAME:
        message = f"{where}: {text[:40]!r}… has {len(text.encode())} bytes as a file name; at most {_LONGEST_NAME} are possible"
        raise DatasetError(message)
    return text


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates: JSON and names of files can."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@dataclass(frozen=True, slots=True)
class ParquetPicture:
    """A picture in a row of a parquet file, as `datasets` stores it: a struct of bytes and path."""

    path: Path
    row: int
    column: str

    @property
    def name(self) -> str:
        """File, row and column."""
        return f"{self.path}, row {self.row + 1}, {self.column}"

    def read(self) -> bytes:
        """The picture's bytes.

        Raises:
            DatasetError: when there are none, or they are not a picture.
        """
        value = _cell(self.path, self.row, self.column)
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            message = f"{self.name}: no picture's bytes are there"
            raise DatasetError(message)
        return checked(data, self.name)


def parquet_files(path: Path) -> list[Path]:
    """A parquet file, or those of a folder and its subfolders, by name.

    Raises:
        DatasetError: without any.
    """
    found = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not found:
        message = f"{path}: there is no parquet file"
        raise DatasetError(message)
    return found


def parquet_rows(path: Path, without: frozenset[str] = frozenset()) -> Iterator[Row]:
    """The rows of a parquet file, but for some columns.

    Raises:
        DatasetError: when it cannot be read.
    """
    file = _parquet(path)
    names = [name for name in file.schema_arrow.names if name not in without]
    batches = file.iter_batches(batch_size=256, columns=names)
    number = 0
    while True:
        with _broken(path):
            rows = next(batches, None)
            found = [] if rows is None else rows.to_pylist()
        if rows is None:
            return
        for values in found:
            number += 1
            yield Row(f"{path}, row {number}", values)


def parquet_columns(path: Path) -> list[str]:
    """The names of a parquet file's columns.

    Raises:
        DatasetError: when it cannot be read.
    """
    return list(_parquet(path).schema_arrow.names)


def table_rows(path: Path) -> list[Row]:
    """The rows of a CSV, TSV, JSON, JSON lines or parquet file.

    Raises:
        DatasetError: when it cannot be read, or is none of these.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return objects_in_list(path)
    if suffix == ".parquet":
        return list(parquet_rows(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".jsonl":
                lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
                return [_json_line(path, number, line) for number, line in lines]
            if suffix in {".csv", ".tsv"}:
                rows = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
                return [Row(f"{path}, line {rows.line_num}", values) for values in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        message = f"{path}: {getattr(exc, 'strerror', None) or exc}"
        raise DatasetError(message) from exc
    message = f"{path}: a table ends in {', '.join(_TABLES)}"
    raise DatasetError(message)


def _json_line(path: Path, number: int, line: str) -> Row:
    where = f"{path}, line {number}"
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as exc:
        message = f"{where} is not JSON: {exc}"
        raise DatasetError(message) from exc
    return Row(where, values)


def _parquet(path: Path) -> Any:
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - 100 ms, for datasets in parquet alone

    with _broken(path):
        return ParquetFile(path)


@contextmanager
def _broken(path: Path) -> Iterator[None]:
    """Errors of a parquet file that cannot be read."""
    from pyarrow import ArrowException  # noqa: PLC0415 - as above

    try:
        yield
    except (OSError, ArrowException, UnicodeDecodeError) as exc:
        message = f"{path}: {getattr(exc, 'strerror', None) or exc}; the file is damaged, or no parquet file: download it again"
        raise DatasetError(message) from exc


@lru_cache(maxsize=4)
def _group(path: Path, number: int, column: str) -> list[Any]:
    """The values of a column in a row group: a benchmark's rows are read in their order, from one group after another."""
    with _broken(path):
        return list(_parquet(path).read_row_group(number, columns=[column]).column(column).to_pylist())


@lru_cache(maxsize=64)
def _sizes(path: Path) -> tuple[int, ...]:
    metadata = _parquet(path).metadata
    return tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))


def _cell(path: Path, row: int, column: str) -> Any:
    for number, size in enumerate(_sizes(path)):
        if row < size:
            return _group(path, number, column)[row]
        row -= size
    message = f"{path} has fewer rows than when it was opened"
    raise DatasetError(message)

"""The photos of a batch and their instructions: from the command line, or from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from editthinker.cli.failures import UsageError
from editthinker.client.pictures import sniff
from editthinker.printable import one_line

_PHOTO_NAMES: Final = frozenset({"photo", "image", "file"})
_INSTRUCTION_NAMES: Final = frozenset({"instruction", "prompt"})
_DELIMITERS: Final = ",;\t"
_MAGIC_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One edit of a batch."""

    photo: Path
    instruction: str


def items(photos: Sequence[Path], instruction: str | None, prompts: Path | None) -> list[Item]:
    """The edits of a batch, checked as far as that is possible without paying for one.

    Args:
        photos: of the command line; without any, those of the file.
        instruction: of all photos, or None to take each from the file.
        prompts: the CSV file.

    Raises:
        UsageError: naming the photo or row that is wrong.
    """
    pairs = [(photo, instruction) for photo in photos] if instruction is not None else _from_file(photos, prompts)
    seen: set[tuple[Path, str]] = set()
    found = []
    for photo, text in pairs:
        if (photo.resolve(), text) in seen:
            message = f"{photo} is listed twice with the same instruction: {one_line(text)}"
            raise UsageError(message)
        seen.add((photo.resolve(), text))
        _check(photo)
        found.append(Item(photo, text))
    return found


def _check(photo: Path) -> None:
    try:
        with photo.open("rb") as file:
            start = file.read(_MAGIC_BYTES)
    except OSError as exc:
        message = f"{photo}: {exc.strerror}"
        raise UsageError(message) from exc
    if sniff(start) is None:
        message = f"{photo} is not an image; give PNG, JPEG or WebP files"
        raise UsageError(message)


def _from_file(photos: Sequence[Path], prompts: Path | None) -> list[tuple[Path, str]]:
    assert prompts is not None
    rows = _rows(prompts)
    if not photos:
        return [(prompts.parent / name, text) for name, text in rows]
    pairs = []
    for photo in photos:
        # A row names a photo by its path, or by its file name alone.
        texts = [text for name, text in rows if (prompts.parent / name).resolve() == photo.resolve() or name == photo.name]
        if not texts:
            message = f"{prompts} has no row for {photo}; add one, or leave the photo out"
            raise UsageError(message)
        pairs += [(photo, text) for text in texts]
    return pairs


def _rows(path: Path) -> list[tuple[str, str]]:
    """Photo and instruction of every row. The first row may be a head; without one the columns are in this order."""
    try:
        # With the mark that spreadsheets write at the start of UTF-8.
        text = path.read_text("utf-8-sig")
        first = text.split("\n", 1)[0]
        # Some spreadsheets write semicolons.
        delimiter = min(_DELIMITERS, key=lambda mark: first.find(mark) if mark in first else len(first) + 1)
        rows = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True))
    except OSError as exc:
        message = f"{path}: {exc.strerror}"
        raise UsageError(message) from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        message = f"{path} is not a CSV file in UTF-8: {exc}"
        raise UsageError(message) from exc
    names = [cell.strip().lower() for cell in rows[0]] if rows else []
    photo_at = next((at for at, name in enumerate(names) if name in _PHOTO_NAMES), None)
    text_at = next((at for at, name in enumerate(names) if name in _INSTRUCTION_NAMES), None)
    head = photo_at is not None and text_at is not None
    photo_at, text_at = (photo_at, text_at) if photo_at is not None and text_at is not None else (0, 1)
    found = []
    for number, row in enumerate(rows[1 if head else 0 :], 2 if head else 1):
        if not any(cell.strip() for cell in row):
            continue
        cells = [row[at].strip() if at < len(row) else "" for at in (photo_at, text_at)]
        if not all(cells):
            message = f"{path}, row {number}: write photo and instruction, as in: photo.jpg,make it feel like golden hour"
            raise UsageError(message)
        found.append((cells[0], cells[1]))
    if not found:
        message = f"{path} has no rows; write one for each photo, as in: photo.jpg,make it feel like golden hour"
        raise UsageError(message)
    return found

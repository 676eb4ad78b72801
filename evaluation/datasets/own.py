"""Pictures of one's own: a table of pictures and instructions, or a folder of pictures and one instruction.

A table is CSV, TSV, JSON lines, a JSON list, or parquet, with a column ``image`` (a path relative to the table, a list of paths,
or in parquet the bytes) and ``instruction``; ``id``, ``group`` and ``reference`` are optional. Results are ``<arm>/<id>.png``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from editthinker.client import ImageFormat
from evaluation.datasets.reading import ParquetPicture, Row, plain_name, table_rows
from evaluation.items import DatasetError, Item, PictureFile, PictureSource, unique

TABLES: Final = ("items.csv", "items.tsv", "items.jsonl", "items.json", "items.parquet")
_PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp"})


class Own:
    """Pictures of one's own.

    Args:
        path: a table, a folder with one of `TABLES`, or a folder of pictures.
        instruction: for a folder of pictures.

    Raises:
        DatasetError: when it cannot be read.
    """

    name = "own"
    version = "1"
    format: ImageFormat = "png"

    def __init__(self, path: Path, instruction: str | None = None) -> None:
        self.options: Mapping[str, Any] = {"path": str(path.resolve()), "instruction": instruction}
        table = path if path.is_file() else next((path / name for name in TABLES if (path / name).is_file()), None)
        if table is not None:
            self.items = unique([_item(row, table, number) for number, row in enumerate(table_rows(table))], table)
            return
        if instruction is None:
            message = f"{path}: there is none of {', '.join(TABLES)}; for a folder of pictures give an instruction"
            raise DatasetError(message)
        found = sorted(each for each in path.glob("*") if each.suffix.lower() in _PICTURES)
        self.items = unique([Item(plain_name(each.name, str(path)), instruction, (PictureFile(each),)) for each in found], path)

    def output(self, item: Item, arm: str) -> Path:
        """``<arm>/<id>.png``."""
        return Path(arm, f"{item.id}.png")

    def companions(self, item: Item, arm: str) -> Mapping[Path, PictureSource]:  # noqa: ARG002 - the protocol's signature
        """None."""
        return {}


def _item(row: Row, table: Path, number: int) -> Item:
    given = row.values.get("id")
    return Item(
        id=plain_name(str(number + 1) if given is None else str(given), row.where),
        instruction=row.text("instruction", "prompt"),
        sources=_sources(row, table, number),
        group=row.optional("group") or "all",
        reference=row.optional("reference"),
    )


def _sources(row: Row, table: Path, number: int) -> tuple[PictureSource, ...]:
    if isinstance(row.values.get("image"), dict | bytes):
        return (ParquetPicture(table, number, "image"),)
    return row.pictures(table.parent, "image")

"""Rows that ``editthinker export --as trl`` wrote, as `datasets` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, Image
from datasets import Sequence as Listed

from training.samples import PICTURES, Sample, sample


class NoRowsError(ValueError):
    """There is nothing to train on."""


def load(folder: Path, split: str, cache: Path) -> Dataset:
    """The rows of a split.

    Args:
        folder: of the export.
        split: of the export: ``train`` unless it was made with ``--splits``.
        cache: a folder for what `datasets` makes of the files.

    Raises:
        NoRowsError: there are none.
    """
    files = sorted(str(path) for path in folder.glob(f"{split}-*.parquet"))
    if not files:
        raise NoRowsError(f"{folder} has no {split}-*.parquet; write it with: editthinker export --as trl -o {folder}")
    rows = Dataset.from_parquet(files, cache_dir=str(cache))
    missing = {"prompt", "completion", "images"} - set(rows.column_names)
    if missing or not len(rows):
        raise NoRowsError(f"{folder} has no rows of --as trl" + (f": without {', '.join(sorted(missing))}" if missing else ""))
    return rows


class Samples:
    """Rows as samples, each made when it is asked for.

    Args:
        rows: of `load`.
    """

    def __init__(self, rows: Dataset) -> None:
        self._rows = rows.cast_column("images", Listed(Image(decode=False)))

    def __call__(self, number: int) -> Sample:
        """The sample of a row.

        Raises:
            UnusableRowError: no edit can be made for it.
        """
        row = self._rows[number]
        return sample(row, [_file(image) for image in row["images"]])

    def usable(self) -> list[int]:
        """The rows that an edit can be made for; no picture is read for it."""
        counts = pc.list_value_length(self._rows.data.column("images")).to_pylist()
        return [number for number, count in enumerate(counts) if count == PICTURES]


def prompts(rows: Dataset, numbers: Sequence[int]) -> Dataset:
    """The columns that GRPO needs: prompt, images, and the number of the sample."""
    return rows.select(numbers).select_columns(["prompt", "images"]).add_column("sample", list(numbers))


def _file(image: dict[str, Any]) -> bytes:
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()

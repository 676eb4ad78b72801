"""A run's results as the folders that pairwise arenas read: GenArena, and the candidates gallery of GEditBench v2.

Both rank models by a judge that compares pictures in pairs, and bring their own judges and statistics. Written for
ruihanglix/genarena at a693658 and ZhangqiJiang07/GEditBench_v2 at da7409b.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from editthinker.cli import target
from evaluation import results
from evaluation.items import Dataset, Item, PictureSource
from evaluation.results import Row, write_file
from evaluation.running import as_png

_SOURCES: Final = "source"
"""The folder of the sources, next to those of the arms."""
_ROWS: Final = 32
"""Of a row group, with their pictures."""
_LONGEST_GROUP: Final = 60
"""Letters of a group in a file's name."""


class GalleryError(ValueError):
    """A run that cannot be written as a gallery."""


_COLUMNS: Final = pa.schema(
    [
        ("index", pa.int64()),
        ("task_type", pa.string()),
        ("instruction", pa.string()),
        ("input_images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("prompt_source", pa.string()),
    ]
)


def genarena(folder: Path, datasets: Sequence[Dataset], rows: Sequence[Row], to: Path, day: str) -> int:
    """Write ``data/<dataset>/data-….parquet`` and ``arena/<dataset>/models/EditThinker_<day>/<arm>/000000.png``; the pictures.

    Args:
        day: as ``20261130``: GenArena insists on experiments named so.

    Raises:
        DatasetError: when a picture cannot be read.
    """
    count = 0
    for dataset in datasets:
        path = to / "data" / dataset.name / "data-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with target.atomic(path) as file, pq.ParquetWriter(file, _COLUMNS) as writer:
            for some in _batches(dataset):
                writer.write_table(pa.Table.from_pylist(some, schema=_COLUMNS))
        for number, arm, picture in _pictures(folder, dataset, rows):
            home = to / "arena" / dataset.name / "models" / f"EditThinker_{day}" / arm
            write_file(home / f"{number:06}.png", as_png(picture))
            count += 1
    return count


def _batches(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    """The rows of a dataset, a few at a time: the pictures of all do not fit into memory."""
    for start in range(0, len(dataset.items), _ROWS):
        some = dataset.items[start : start + _ROWS]
        yield [_genarena_row(start + number, dataset, item) for number, item in enumerate(some)]


def _genarena_row(number: int, dataset: Dataset, item: Item) -> dict[str, Any]:
    return {
        "index": number,
        "task_type": item.group,
        "instruction": item.instruction,
        "input_images": [{"bytes": source.read(), "path": None} for source in item.sources],
        "prompt_source": dataset.name,
    }


def geditv2(folder: Path, datasets: Sequence[Dataset], rows: Sequence[Row], to: Path) -> int:
    """Write ``<arm>/<group>_000000.png``, ``source/…`` and ``metadata.jsonl``, a line for each picture; the pictures.

    Raises:
        GalleryError: when an arm has the name of the sources.
        DatasetError: when a picture cannot be read.
    """
    if any(row.arm == _SOURCES for row in rows):
        message = f"an arm is named {_SOURCES!r}, which is the folder of the sources there; run it again under another name"
        raise GalleryError(message)
    lines = []
    for dataset in datasets:
        for number, arm, picture in _pictures(folder, dataset, rows):
            item = dataset.items[number]
            # A group of one's own table is any text.
            group = re.sub(r"[^\w.+-]", "_", item.group)[:_LONGEST_GROUP]
            key = f"{group}_{number:06}" if len(datasets) == 1 else f"{dataset.name}_{group}_{number:06}"
            source = to / _SOURCES / f"{key}.png"
            if not source.exists():
                write_file(source, as_png(item.sources[0]))
            write_file(to / arm / f"{key}.png", as_png(picture))
            line = {"key": key, "model": arm, "task": item.group, "instruction": item.instruction}
            lines.append(line | {"image_path": f"{arm}/{key}.png", "source_image_path": f"{_SOURCES}/{key}.png"})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_file(to / "metadata.jsonl", text.encode("utf-8", "backslashreplace"))
    return len(lines)


def _pictures(folder: Path, dataset: Dataset, rows: Sequence[Row]) -> Iterator[tuple[int, str, PictureSource]]:
    """The results of a dataset: the item's number, the arm, and the picture."""
    numbers = {item.id: number for number, item in enumerate(dataset.items)}
    for row in rows:
        if row.dataset == dataset.name and row.item in numbers and row.output is not None:
            yield numbers[row.item], row.arm, results.picture(folder, row)

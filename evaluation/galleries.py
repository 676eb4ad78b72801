"""A run's results as the folders that pairwise arenas read: GenArena, and the candidates gallery of GEditBench v2.

Both rank models by a judge that compares pictures in pairs, and bring their own judges and statistics. Written for
ruihanglix/genarena at a693658 and ZhangqiJiang07/GEditBench_v2 at da7409b.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.items import Dataset, Item
from evaluation.results import Row, write_file
from evaluation.running import as_png

_COLUMNS = pa.schema(
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
    """
    count = 0
    for dataset in datasets:
        table = [_genarena_row(number, dataset, item) for number, item in enumerate(dataset.items)]
        path = to / "data" / dataset.name / "data-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(table, schema=_COLUMNS), path)
        for number, arm, picture in _pictures(folder, dataset, rows):
            home = to / "arena" / dataset.name / "models" / f"EditThinker_{day}" / arm
            write_file(home / f"{number:06}.png", as_png(picture))
            count += 1
    return count


def _genarena_row(number: int, dataset: Dataset, item: Item) -> dict[str, Any]:
    return {
        "index": number,
        "task_type": item.group,
        "instruction": item.instruction,
        "input_images": [{"bytes": source.read(), "path": None} for source in item.sources],
        "prompt_source": dataset.name,
    }


def geditv2(folder: Path, datasets: Sequence[Dataset], rows: Sequence[Row], to: Path) -> int:
    """Write ``<arm>/<group>_000000.png``, ``source/…`` and ``metadata.jsonl``, a line for each picture; the pictures."""
    lines = []
    for dataset in datasets:
        for number, arm, picture in _pictures(folder, dataset, rows):
            item = dataset.items[number]
            key = f"{item.group}_{number:06}" if len(datasets) == 1 else f"{dataset.name}_{item.group}_{number:06}"
            source = to / "source" / f"{key}.png"
            if not source.exists():
                write_file(source, as_png(item.sources[0].read()))
            write_file(to / arm / f"{key}.png", as_png(picture))
            line = {"key": key, "model": arm, "task": item.group, "instruction": item.instruction}
            lines.append(line | {"image_path": f"{arm}/{key}.png", "source_image_path": f"source/{key}.png"})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_file(to / "metadata.jsonl", text.encode("utf-8", "backslashreplace"))
    return len(lines)


def _pictures(folder: Path, dataset: Dataset, rows: Sequence[Row]) -> Iterator[tuple[int, str, bytes]]:
    """The results of a dataset: the item's number, the arm, and the picture."""
    numbers = {item.id: number for number, item in enumerate(dataset.items)}
    for row in rows:
        if row.dataset == dataset.name and row.item in numbers and row.output is not None:
            yield numbers[row.item], row.arm, (folder / row.output).read_bytes()

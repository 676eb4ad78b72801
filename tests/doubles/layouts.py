"""Small sets in the layouts of the benchmarks, made of the repository's photographs.

The instructions are ones that the classical editor carries out; the keys, groups and fields are the benchmarks' own.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from evaluation.datasets.gedit import GROUPS
from evaluation.datasets.krisbench import CATEGORIES as KRIS_CATEGORIES
from evaluation.datasets.risebench import CATEGORIES as RISE_CATEGORIES

PHOTOS: Final = tuple(
    sorted(path for folder in ("examples/photos", "benchmarks/honesty/photos") for path in Path(folder).glob("*.jpg"))
)
IMGEDIT_TYPES: Final = ("add", "adjust", "background", "extract", "remove", "replace", "style", "action", "compose")
INSTRUCTIONS: Final = (
    "make it feel like golden hour",
    "make it black and white",
    "make it a little brighter",
    "give it a cold, overcast mood",
    "increase the contrast",
    "make the colours more vivid",
    "make it sepia",
    "darken it slightly and make it warmer",
)


def picture(number: int, side: int = 96, kind: str = "JPEG") -> bytes:
    """A photograph of the repository at a small size, another crop for every number."""
    with Image.open(PHOTOS[number % len(PHOTOS)]) as photo:
        small = photo.convert("RGB")
        small.thumbnail((side * 2, side * 2))
    left = (number * 7) % max(small.width - side, 1)
    whole = small.crop((left, 0, left + min(side, small.width), min(side, small.height)))
    out = io.BytesIO()
    whole.save(out, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return out.getvalue()


def instruction(number: int) -> str:
    """One of the instructions."""
    return INSTRUCTIONS[number % len(INSTRUCTIONS)]


def imgedit(folder: Path, count: int, side: int = 96) -> Path:
    """ImgEdit-Bench's layout: ``basic_edit.json`` and pictures in folders."""
    listed = {}
    for number, kind in _numbered(IMGEDIT_TYPES, count):
        name = f"animal/{number:09}.jpg"
        _write(folder / name, picture(number, side))
        listed[str(1000 + number)] = {"id": name, "prompt": instruction(number), "edit_type": kind}
    return _json(folder, "basic_edit.json", listed)


def gedit(folder: Path, count: int, side: int = 96) -> Path:
    """GEdit-Bench's layout: parquet with pictures inside, each key in both languages."""
    rows: list[dict[str, Any]] = []
    for number, group in _numbered(GROUPS, count):
        given = {"bytes": picture(number, side), "path": f"{number}.jpg"}
        row = {
            "key": f"key{number}",
            "task_type": group,
            "instruction": instruction(number),
            "Intersection_exist": number % 3 != 0,
        }
        row |= {"input_image": given, "input_image_raw": given}
        rows += [row | {"instruction_language": language} for language in ("en", "cn")]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet", row_group_size=16)
    return folder


def risebench(folder: Path, count: int, side: int = 96) -> Path:
    """RISEBench's layout: ``data_total.json`` and pictures in folders."""
    rows = []
    for number, category in _numbered(RISE_CATEGORIES, count):
        name = f"{category}_images/{number}.png"
        _write(folder / name, picture(number, side, "PNG"))
        row: dict[str, Any] = {
            "index": f"{category}_{number}",
            "category": category,
            "subtask": "Puzzle Solving" if category == "logical_reasoning" else "State Transition",
            "instruction": instruction(number),
            "image": name,
        }
        if category == "logical_reasoning":
            row["reference_txt"] = f"The picture after “{instruction(number)}”."
        else:
            row["reference"] = f"The picture after “{instruction(number)}”."
        if category == "temporal_reasoning" and number % 8 == 0:
            row["consistency_free"] = True
        rows.append(row)
    return _json(folder, "data_total.json", rows)


def krisbench(folder: Path, count: int, side: int = 96) -> Path:
    """KRIS-Bench's layout: a folder for each category, with ``annotation.json``; two categories give several pictures."""
    entries: dict[str, dict[str, Any]] = {}
    for number, category in _numbered(tuple(KRIS_CATEGORIES), count):
        several = category in {"temporal_prediction", "multi-element_composition"}
        names = [f"{number}-{part}.jpg" for part in range(1, 4 if several else 2)]
        for part, name in enumerate(names):
            _write(folder / category / name, picture(number + part, side))
        entries.setdefault(category, {})[str(number)] = {
            "ori_img": names if several else names[0],
            "ins_en": instruction(number),
            "explain_en": "It follows from how light works.",
        }
    for category, listed in entries.items():
        _json(folder / category, "annotation.json", listed)
    return folder


def own(folder: Path, count: int, side: int = 96) -> Path:
    """A table of one's own, as JSON lines."""
    lines = []
    for number in range(count):
        _write(folder / f"{number}.jpg", picture(number, side))
        lines.append(json.dumps({"id": f"photo-{number}", "image": f"{number}.jpg", "instruction": instruction(number)}))
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


LAYOUTS: Final = {"imgedit": imgedit, "gedit": gedit, "risebench": risebench, "krisbench": krisbench, "own": own}


def _numbered(names: tuple[str, ...], count: int) -> Iterator[tuple[int, str]]:
    return zip(range(count), itertools.cycle(names), strict=False)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _json(folder: Path, name: str, value: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return folder

"""Writes a judge's replies as the files that the official scripts would have written, so that these aggregate them too.

| benchmark | file, in the folder of an arm's results | read by |
|---|---|---|
| ImgEdit-Bench | ``result.json`` | ``step1_get_avgscore.py`` |
| GEdit-Bench | ``gpt4o/eval_results_new/<arm>_<group>_gpt_score.csv`` | ``calculate_statistics.py --backbone gpt4o`` |
| RISEBench | ``<arm>.pkl`` | ``gpt_eval.py``, which asks nothing that is in it |
| KRIS-Bench | ``<category>/metrics.json`` | EditThinker's ``summarize.py`` |

They are those of the judge that scored last; ``gpt4o`` is a name that GEdit's script insists on.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from evaluation.datasets.gedit import GROUPS
from evaluation.items import Dataset, Item
from evaluation.results import Row, write_file
from evaluation.scoring import questions


class Replies(Protocol):
    """The replies of a judge."""

    def of(self, folder: Path, row: Row, question: str) -> str | None:
        """The last reply about a row's picture."""


def write(dataset: Dataset, folder: Path, rows: Sequence[Row], replies: Replies) -> None:
    """Write the files of one dataset, for every arm.

    Raises:
        OSError: when they cannot be written.
    """
    items = {item.id: item for item in dataset.items}
    arms: dict[str, list[tuple[Item, dict[str, str | None]]]] = {}
    for row in rows:
        if row.dataset == dataset.name and row.item in items:
            item = items[row.item]
            said = {name: replies.of(folder, row, name) for name in questions.expected(dataset.name, item)}
            if all(reply is not None for reply in said.values()):
                arms.setdefault(row.arm, []).append((item, said))
    for arm, scored in arms.items():
        for path, data in _files(dataset, arm, scored):
            write_file(folder / dataset.name / path, data)


def _files(dataset: Dataset, arm: str, scored: Sequence[tuple[Item, Mapping[str, str | None]]]) -> Iterator[tuple[Path, bytes]]:
    match dataset.name:
        case "imgedit":
            yield Path(arm, "result.json"), _json({item.id: said["scores"] for item, said in scored})
        case "gedit":
            for group in GROUPS:
                yield Path(arm, "gpt4o", "eval_results_new", f"{arm}_{group}_gpt_score.csv"), _gedit(dataset, arm, group, scored)
        case "risebench":
            judges = {item.id: _rise(item, said) for item, said in scored}
            # Only texts and None: what reads it with pickle gets nothing but these.
            yield Path(arm, f"{arm}.pkl"), pickle.dumps(judges, protocol=4)
        case "krisbench":
            categories: dict[str, dict[str, Any]] = {}
            for item, said in scored:
                categories.setdefault(item.group, {})[item.extra["key"]] = _kris(item, said)
            for category, entries in categories.items():
                yield Path("results", arm, category, "metrics.json"), _json(entries)


def _gedit(dataset: Dataset, arm: str, group: str, scored: Sequence[tuple[Item, Mapping[str, str | None]]]) -> bytes:
    out = io.StringIO()
    names = ("source_image", "edited_image", "instruction", "sementics_score", "quality_score", "intersection_exist")
    table = csv.DictWriter(out, [*names, "instruction_language"])
    table.writeheader()
    for item, said in scored:
        values = {name: questions.read("gedit", item, name, said[name] or "")[name] for name in ("semantics", "quality")}
        if item.group != group or None in values.values():
            continue
        edited = dataset.output(item, arm)
        source = next(iter(dataset.companions(item, arm)))
        row = (source, edited, item.instruction, values["semantics"], values["quality"], item.extra["intersection"])
        table.writerow({**dict(zip(names, row, strict=True)), "instruction_language": item.subgroup})
    return out.getvalue().encode()


def _rise(item: Item, said: Mapping[str, str | None]) -> dict[str, str | None]:
    judges = {"judge1": said.get("consistency"), "judge2": said["reasoning"]}
    return judges | ({"judge3": said["plausibility"]} if "plausibility" in questions.expected("risebench", item) else {})


def _kris(item: Item, said: Mapping[str, str | None]) -> dict[str, Any]:
    entry: dict[str, Any] = {"instruction": item.instruction, "explain": item.reference}
    for name, reply in said.items():
        for metric, value in questions.read("krisbench", item, name, reply or "").items():
            entry[f"{metric}_score"] = value
    return entry


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")

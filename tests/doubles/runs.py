"""A folder as `editthinker eval run` leaves it, made without a server: pictures, rows and scores are made up."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance

from evaluation import datasets, results
from evaluation.items import Item
from evaluation.results import Row
from tests.doubles.layouts import LAYOUTS

_USUAL: Mapping[str, Mapping[str, Any]] = {"single": {"strategy": "single"}, "think": {"strategy": "think"}}


def made_run(
    folder: Path,
    kinds: Sequence[str],
    count: int,
    arms: Mapping[str, Mapping[str, Any]] = _USUAL,
    *,
    side: int = 64,
    gain: float = 1.2,
) -> Path:
    """A run of `count` items of each kind; the arms but the first are better by about `gain`, and cost more."""
    opened = [datasets.load(kind, LAYOUTS[kind](folder / "data" / kind, count, side)) for kind in kinds]
    out = folder / "run"
    out.mkdir(parents=True, exist_ok=True)
    rolls = random.Random(3)
    rows = []
    for dataset in opened:
        for item in dataset.items:
            hard = rolls.gauss(6, 1.6)
            for place, (arm, options) in enumerate(arms.items()):
                output = Path(dataset.name) / dataset.output(item, arm)
                for path, source in dataset.companions(item, arm).items():
                    results.write_file(out / dataset.name / path, source.read())
                results.write_file(out / output, _edited(item, place, dataset.format))
                overall = min(max(hard + place * rolls.gauss(gain, 0.9), 0), 10)
                rows.append(_row(dataset, item, arm, options, output, overall, place, rolls))
    (out / results.JOURNAL).write_text("".join(json.dumps({"task": row.task, "row": asdict(row)}) + "\n" for row in rows))
    known = {each.name: {"version": each.version, "items": len(each.items), **each.options} for each in opened}
    manifest = {"version": 1, "fresh": "", "arms": {name: dict(options) for name, options in arms.items()}, "datasets": known}
    (out / "run.json").write_text(json.dumps(manifest))
    return out


def _edited(item: Item, place: int, kind: str) -> bytes:
    with Image.open(io.BytesIO(item.sources[0].read())) as source:
        changed = ImageEnhance.Color(ImageEnhance.Brightness(source.convert("RGB")).enhance(1.1 + 0.1 * place)).enhance(
            1 + 0.5 * place
        )
    out = io.BytesIO()
    changed.save(out, kind.upper())
    return out.getvalue()


def _row(
    dataset: Any, item: Item, arm: str, options: Mapping[str, Any], output: Path, overall: float, place: int, rolls: random.Random
) -> Row:
    edits = 1 if place == 0 else rolls.choice([1, 2, 2, 3, 5])
    return Row(
        *(dataset.name, dataset.version, arm, item.id, item.group, item.subgroup, item.instruction, "edited"),
        output=output.as_posix(),
        session=f"ses_{item.id}_{arm}",
        editor="classical",
        thinker="rules",
        judge="rules",
        strategy=options.get("strategy", "think"),
        seed=0,
        finish_reason="satisfied",
        turns=edits,
        edits=edits,
        editor_seconds=edits * 5.3 + rolls.random(),
        thinker_seconds=edits * 2.1,
        prompt_tokens=1500 * edits,
        completion_tokens=180 * edits,
        wall_seconds=edits * 8.0 + rolls.random() * 3,
        semantic=overall,
        quality=min(overall + 0.5, 10),
        overall=overall,
        first_overall=max(overall - place, 0),
        best_turn=edits,
    )

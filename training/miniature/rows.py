"""Rows of the miniature: questions to the thinker with the replies that it is taught, searched once and kept in shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.miniature import colour, search
from training.miniature.editing import effective
from training.miniature.photographs import Pixels
from training.miniature.rules import statistics
from training.miniature.turns import Turn, judged, turn
from training.miniature.world import INTENTS, SIDES, Intent, Scene, Splits, scene, written
from training.replies import rendered

SHARD: Final = 64
"""Scenes of a shard, about 10 CPU-seconds of search."""
TURNS: Final = 4
"""Turns of a scene: the search is paid once, candidates cost an edit."""
UNIT: Final = 4
"""CIELAB units, and percent: values are multiples of it, so that each is one word of the vocabulary."""


@dataclass(frozen=True)
class TaughtTurn:
    """A turn, and the reply that is taught.

    Attributes:
        turn: the question.
        reply: the answer, with what is measured in the pictures as its thoughts.
        best: distance that the scene's best instruction leaves.
    """

    turn: Turn
    reply: str
    best: float


def thoughts(asked: Turn) -> str:
    """What a thinker should have seen: statistics of the source, its sides, the candidate, and the wanted picture."""
    scene = asked.scene
    named = {"source": scene.source, "now": asked.candidate, "want": scene.target}
    parts = [f"{name} {_words(statistics(pixels))}" for name, pixels in named.items()]
    parts.insert(1, f"sides {_words(sides(scene.source))}")
    return "; ".join(parts)


def sides(pixels: Pixels) -> tuple[float, ...]:
    """Mean L* near the left, right, top and bottom edge."""
    light = colour.lab(pixels)[..., 0]
    edge = len(light) // 4
    near = {"left": light[:, :edge], "right": light[:, -edge:], "top": light[:edge], "bottom": light[-edge:]}
    return tuple(float(near[side].mean()) for side in SIDES)


def _words(values: tuple[float, ...]) -> str:
    return " ".join(str(UNIT * round(value / UNIT)) for value in values)


def taught(made: Scene, rng: np.random.Generator) -> list[TaughtTurn]:
    """`TURNS` turns of a scene."""
    found = search.best(made)
    usual = search.rounded({name: effective(name, amount, made.seed) for name, amount in found.amounts.items()})
    rows = []
    for _ in range(TURNS):
        asked = turn(made, rng, found.amounts)
        # A candidate that is the source says nothing of the seed, so the best answer is that for a usual one.
        amounts = usual if np.array_equal(asked.candidate, made.source) else found.amounts
        scores = judged(made, asked.candidate)
        rows.append(
            TaughtTurn(asked, rendered(thoughts(asked), scores.semantic, scores.quality, written(amounts)), found.distance)
        )
    return rows


def shard(
    folder: Path, number: int, seed: int, splits: Splits | None = None, intents: Sequence[Intent] = INTENTS
) -> list[TaughtTurn]:
    """The turns of `SHARD` scenes, the intents in turn; searched the first time, then read from the folder."""
    path = folder / f"{number:05}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for index in range(number * SHARD, (number + 1) * SHARD):
            rng = np.random.default_rng((seed, index))
            rows += taught(scene(intents[index % len(intents)], rng, splits), rng)
        _write(path, rows)
    return list(_read(path))


def _write(path: Path, rows: list[TaughtTurn]) -> None:
    texts = [
        {
            **{name: getattr(row.turn.scene, name) for name in ("intent", "key", "instruction", "seed", "photograph", "look")},
            "turn_instruction": row.turn.turn_instruction,
            "reply": row.reply,
            "best": row.best,
            "reference": row.turn.scene.reference is not None,
        }
        for row in rows
    ]
    # A killed run leaves a temporary file, never half a shard.
    unfinished = path.with_suffix(".tmp.npz")
    scenes = [row.turn.scene for row in rows]
    np.savez_compressed(
        unfinished,
        texts=np.array(json.dumps(texts)),
        source=np.stack([made.source for made in scenes]),
        target=np.stack([made.target for made in scenes]),
        candidate=np.stack([row.turn.candidate for row in rows]),
        reference=np.stack([made.source if made.reference is None else made.reference for made in scenes]),
    )
    unfinished.replace(path)


def _read(path: Path) -> Iterator[TaughtTurn]:
    with np.load(path) as stored:
        texts: list[dict[str, Any]] = json.loads(str(stored["texts"]))
        pictures = {name: stored[name] for name in ("source", "target", "candidate", "reference")}
    for index, text in enumerate(texts):
        source, target, candidate, reference = (pictures[name][index] for name in ("source", "target", "candidate", "reference"))
        kept = {name: text[name] for name in ("intent", "key", "instruction", "seed", "photograph", "look")}
        made = Scene(**kept, source=source, target=target, reference=reference if text["reference"] else None)
        yield TaughtTurn(Turn(made, candidate, text["turn_instruction"]), text["reply"], text["best"])

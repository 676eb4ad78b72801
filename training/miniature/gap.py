"""How much of the distance only looking removes: the best look-up by instruction against the best instruction of each picture.

The look-up is as strong as it can be: for each thing that a reader of the instruction alone can know (the intent, the look's
name, the order and its amount) the one instruction that does best over many scenes, searched in the same way as the oracle, or
the editor's own "neutralise the colour cast", which looks for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.miniature import colour, search
from training.miniature.editing import effective
from training.miniature.looks import TRAINED
from training.miniature.world import INTENTS, FailedEditError, Intent, Scene, Splits, edit, read, scene, written

REQUIRED: Final = 1 / 3
"""Share of the whole distance that has to lie between the look-up and the best instruction of each picture."""
_AUTOMATIC: Final = "neutralise the colour cast"
_ROUNDS: Final = 2000


@dataclass(frozen=True)
class Row:
    """Mean distances of one scene, from the doing of nothing to the best that was found.

    Attributes:
        intent: of the scene.
        nothing: source to target.
        literal: the caller's words, given to the editor as they are.
        look_up: the best fixed instruction for what the words say.
        unseen_seed: the scene's best instruction for a seed of average strength: the best first edit.
        best: the scene's best instruction for its own seed: the best second edit.
    """

    intent: Intent
    nothing: float
    literal: float
    look_up: float
    unseen_seed: float
    best: float


COLUMNS: Final = ("nothing", "literal", "look_up", "unseen_seed", "best")


def look_up(fitted: int, seed: int = 11) -> dict[str, str]:
    """The best fixed instruction by key, each over `fitted` scenes of training; orders are not in it, they say what to do."""
    gathered: dict[str, list[Scene]] = {}
    for intent in ("cast", "exposure", "repair", "side", "match", "leave"):
        gathered[intent] = [scene(intent, np.random.default_rng((seed, index))) for index in range(fitted)]
    index = 0
    looks: dict[str, list[Scene]] = {}
    while not looks or min(map(len, looks.values())) < fitted or len(looks) < len(TRAINED):
        drawn = scene("look", np.random.default_rng((seed, 1, index)))
        looks.setdefault(drawn.key, []).append(drawn)
        index += 1
    gathered |= {name: found[:fitted] for name, found in looks.items()}
    return {key: _best_fixed(scenes) for key, scenes in gathered.items()}


def _best_fixed(scenes: Sequence[Scene]) -> str:
    candidates = [written(search.fixed(scenes)), written({}), _AUTOMATIC]
    return min(candidates, key=lambda text: float(np.mean([after(one, text) for one in scenes])))


def after(scene: Scene, instruction: str, *, refused: float | None = None) -> float:
    """Distance to the target after an edit; a refused one leaves the source, or is worth `refused`."""
    try:
        return colour.distance(edit(scene.source, instruction, scene.seed), scene.target)
    except FailedEditError:
        return scene.whole if refused is None else refused


def measured(scene: Scene, table: dict[str, str]) -> Row:
    """One scene under every answer."""
    found = search.best(scene)
    usual = search.rounded({name: effective(name, amount, scene.seed) for name, amount in found.amounts.items()})
    fixed = scene.key if read(scene.key) is not None else table[scene.key]
    unseen = after(scene, written(usual))
    return Row(scene.intent, scene.whole, after(scene, scene.instruction), after(scene, fixed), unseen, found.distance)


def share(rows: Sequence[Row]) -> tuple[float, float, float]:
    """The gap as a share of the whole, with its 95 % interval by bootstrap over scenes."""
    lost = np.array([row.look_up - row.best for row in rows])
    whole = np.array([row.nothing for row in rows])
    if not whole.any():
        return 0.0, 0.0, 0.0
    drawn = np.random.default_rng(0).integers(0, len(rows), size=(_ROUNDS, len(rows)))
    shares = lost[drawn].sum(axis=1) / np.maximum(1e-9, whole[drawn].sum(axis=1))
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(lost.sum() / whole.sum()), float(low), float(high)


def rows_of(count: int, table: dict[str, str], splits: Splits | None = None, seed: int = 5) -> list[Row]:
    """`count` scenes, measured against a look-up."""
    return [
        measured(scene(INTENTS[index % len(INTENTS)], np.random.default_rng((seed, 2, index)), splits), table)
        for index in range(count)
    ]


def printed(rows: Sequence[Row]) -> str:
    """The table: mean CIELAB distances by intent, and the gap as a share of the whole."""
    lines = [f"{'':10}{'scenes':>7}" + "".join(f"{name.replace('_', ' '):>13}" for name in COLUMNS) + "   gap / whole [95 %]"]
    for intent in (*INTENTS, None):
        chosen = [row for row in rows if intent in (row.intent, None)]
        if not chosen:
            continue
        means = "".join(f"{np.mean([getattr(row, name) for row in chosen]):13.2f}" for name in COLUMNS)
        gap, low, high = share(chosen)
        told = f"   {gap:.2f} [{low:.2f}, {high:.2f}]" if any(row.nothing for row in chosen) else "   nothing to do"
        lines.append(f"{intent or 'all':10}{len(chosen):7}{means}{told}")
    return "\n".join(lines)

"""Turns: a scene with a candidate that a thinker scores and improves, and the judge that knows the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.miniature import colour, search
from training.miniature.editing import adjusted, effective
from training.miniature.photographs import Pixels
from training.miniature.world import FailedEditError, Scene, edit, operations, read, written
from training.rewards import RefusedEditError, Scores

NEAR: Final = 8.0
"""CIELAB units: where there is less to do than this, the semantic score counts in this measure, so that small is not sharp."""
_CLIPPED: Final = 25.0
"""Points of quality for each share of the picture that an edit newly clips: 10 % cost 2.5."""


@dataclass(frozen=True, eq=False)
class Turn:
    """One question to the thinker.

    Attributes:
        scene: source, reference, instruction, hidden target.
        candidate: the edited picture that is to be judged.
        turn_instruction: that it was made with.
    """

    scene: Scene
    candidate: Pixels
    turn_instruction: str


def judged(scene: Scene, picture: Pixels) -> Scores:
    """Semantic: the share of the way to the target; quality: what the edit did not clip. Both 0-10."""
    left = colour.distance(picture, scene.target) / max(scene.whole, NEAR)
    worse = max(0.0, _clipped(picture) - max(_clipped(scene.source), _clipped(scene.target)))
    return Scores(10 * max(0.0, 1 - left), 10 * max(0.0, 1 - worse * _CLIPPED / 10))


def _clipped(pixels: Pixels) -> float:
    return float(((pixels <= 1) | (pixels >= 254)).any(axis=-1).mean())  # noqa: PLR2004 - code values


def first_turn(scene: Scene) -> Turn:
    """The first turn of a session: the source edited with the caller's words, or the source where the editor refuses them."""
    try:
        candidate = edit(scene.source, scene.instruction, scene.seed)
    except FailedEditError:
        candidate = scene.source
    return Turn(scene, candidate, scene.instruction)


def turn(scene: Scene, rng: np.random.Generator, found: dict[str, int] | None = None) -> Turn:
    """A turn with a candidate of random quality: by the caller's words, near the target, too weak or too strong, or astray.

    Args:
        scene: of the turn.
        rng: decides.
        found: the scene's best amounts; without them the candidate is by the caller's words or astray.
    """
    kind = rng.choice(("first", "near", "scaled", "astray"), p=(0.25, 0.2, 0.3, 0.25))
    if kind == "first":
        return first_turn(scene)
    if kind == "astray" or found is None or not found:
        names = rng.choice(operations()[:7], size=int(rng.integers(1, 4)), replace=False)
        amounts = {str(name): float(rng.uniform(-60, 60)) for name in names}
    else:
        usual = {name: effective(name, amount, scene.seed) for name, amount in found.items()}
        factor = 1.0 if kind == "near" else float(rng.uniform(0.2, 1.8))
        amounts = {name: amount * factor * float(rng.uniform(0.85, 1.15)) for name, amount in usual.items()}
    kept = search.rounded({name: abs(amount) if name in ("vignette", "sepia") else amount for name, amount in amounts.items()})
    return Turn(scene, adjusted(scene.source, kept, scene.seed), written(kept))


class WorldEditor:
    """The embedded editor as a reward's editor; edits take no time, so they are not in parallel."""

    async def edit(self, sample: Turn, instruction: str, seed: int) -> Pixels:
        """The edited source; amounts go the short way."""
        amounts = read(instruction)
        try:
            if amounts is not None and not any(abs(amount) > 100 for amount in amounts.values()):  # noqa: PLR2004 - percent
                return adjusted(sample.scene.source, amounts, seed)
            return edit(sample.scene.source, instruction, seed)
        except FailedEditError as exc:
            raise RefusedEditError(str(exc)) from exc


class TargetJudge:
    """A judge that knows the hidden target, and reads no text."""

    name = "target"

    async def score(self, sample: Turn, picture: Pixels | None) -> Scores:
        """Scores by the distance to the target."""
        return judged(sample.scene, sample.candidate if picture is None else picture)


def seeds_of(count: int) -> Callable[[Turn], list[int]]:
    """The scene's own seed, which the candidate was made with, and `count` - 1 others.

    With the scene's own seed alone a thinker may learn what a candidate gives away of it; the others keep it to what holds for
    every seed.
    """
    return lambda sample: [(sample.scene.seed + 7919 * step) % 2**31 for step in range(count)]

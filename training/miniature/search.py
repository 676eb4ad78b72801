"""The best instruction of a scene, found by editing: the oracle, the look-up by instruction, and the targets of SFT.

Amounts are searched at half the size by Gauss-Newton on CIELAB, with weights that turn squares into distances, and then polished
coordinate by coordinate on the distance itself. An adjustment that removes less than `WORTH` is left out, so that instructions
are short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from training.miniature import colour
from training.miniature.colour import F64, Pixels
from training.miniature.editing import adjusted
from training.miniature.world import SIDES, Scene, edit, operations, written

STEP: Final = 4
"""Percent: amounts are multiples of it."""
WORTH: Final = 0.15
"""CIELAB units that an adjustment has to remove."""
_MOST: Final = 100
_PROBE: Final = 8
_ROUNDS: Final = 4
_DAMPING: Final = 0.03
"""Of the mean of the normal matrix's diagonal: adjustments that do nearly the same share the work."""

GLOBAL: Final = ("exposure", "contrast", "shadows", "highlights", "warmth", "tint", "saturation")
_SIDED: Final = ("exposure", *(f"{side} exposure" for side in SIDES))


@dataclass(frozen=True)
class Found:
    """An instruction and what it leaves of the distance, at full size."""

    amounts: dict[str, int]
    distance: float

    @property
    def instruction(self) -> str:
        """In words."""
        return written(self.amounts)


def names_for(scene: Scene) -> tuple[str, ...]:
    """The adjustments that are searched for a scene."""
    if scene.intent == "side":
        return _SIDED
    if scene.intent == "order":
        return tuple(name for name in operations() if name in scene.key) if "exposure" not in scene.key else ("exposure",)
    return GLOBAL


def best(scene: Scene) -> Found:
    """The best instruction that was found for this scene, under its own seed."""
    if scene.whole == 0:
        return Found({}, 0.0)
    problem = _Problem([scene], names_for(scene))
    amounts = problem.solved()
    return Found(amounts, colour.distance(edit(scene.source, written(amounts), scene.seed), scene.target))


def fixed(scenes: Sequence[Scene]) -> dict[str, int]:
    """The best one instruction for all these scenes together: what a thinker with its eyes shut would answer."""
    return _Problem(scenes, tuple(dict.fromkeys(name for scene in scenes for name in names_for(scene)))).solved()


def rounded(amounts: dict[str, float]) -> dict[str, int]:
    """Amounts in percent as multiples of `STEP`, within what the editor accepts, without zeros."""
    steps = {name: int(np.clip(STEP * round(amount / STEP), -_MOST, _MOST)) for name, amount in amounts.items()}
    return {name: amount for name, amount in steps.items() if amount}


class _Problem:
    """Amounts of `names` that bring each scene's source near its target."""

    def __init__(self, scenes: Sequence[Scene], names: tuple[str, ...]) -> None:
        self._names = names
        self._sources = [_half(scene.source) for scene in scenes]
        self._targets = [colour.lab(_half(scene.target)) for scene in scenes]
        self._seeds = [scene.seed for scene in scenes]
        self._known: dict[tuple[int, ...], F64] = {}

    def _residual(self, amounts: tuple[int, ...]) -> F64:
        """(scenes, pixels, 3)."""
        if amounts not in self._known:
            named = dict(zip(self._names, amounts, strict=True))
            self._known[amounts] = np.stack(
                [
                    (colour.lab(adjusted(source, named, seed)) - target).reshape(-1, 3)
                    for source, target, seed in zip(self._sources, self._targets, self._seeds, strict=True)
                ]
            )
        return self._known[amounts]

    def _distance(self, amounts: tuple[int, ...]) -> float:
        return float(np.linalg.norm(self._residual(amounts), axis=-1).mean())

    def solved(self) -> dict[str, int]:
        amounts = self._newton()
        amounts = self._polished(amounts)
        return {name: amount for name, amount in zip(self._names, amounts, strict=True) if amount}

    def _newton(self) -> tuple[int, ...]:
        nothing = (0,) * len(self._names)
        current, reached = nothing, self._distance(nothing)
        for _ in range(_ROUNDS):
            residual = self._residual(current)
            weight = 1 / np.sqrt(np.maximum(np.linalg.norm(residual, axis=-1, keepdims=True), 1.0))
            columns = []
            for index in range(len(self._names)):
                step = _PROBE if current[index] <= 0 else -_PROBE
                moved = _with(current, index, current[index] + step)
                columns.append(((self._residual(moved) - residual) * weight).ravel() / step)
            jacobian = np.stack(columns, axis=-1)
            normal = jacobian.T @ jacobian
            normal += np.eye(len(normal)) * (_DAMPING * normal.diagonal().mean() + 1e-9)
            delta = np.linalg.solve(normal, -jacobian.T @ (residual * weight).ravel())
            # The sliders bend: where the whole step leads past the aim, a part of it does not.
            tried = [_moved(current, delta * share) for share in (1.0, 0.5, 0.2)]
            following = min(tried, key=self._distance)
            if self._distance(following) >= reached:
                break
            current, reached = following, self._distance(following)
        return current

    def _polished(self, amounts: tuple[int, ...]) -> tuple[int, ...]:
        reached = self._distance(amounts)
        for index, amount in enumerate(amounts):
            if amount and self._distance(_with(amounts, index, 0)) < reached + WORTH:
                amounts = _with(amounts, index, 0)
                reached = self._distance(amounts)
        for index, amount in enumerate(amounts):
            for turn in (STEP, -STEP):
                if not amount:
                    continue
                while abs(amounts[index] + turn) <= _MOST:
                    moved = _with(amounts, index, amounts[index] + turn)
                    after = self._distance(moved)
                    if after >= reached:
                        break
                    amounts, reached = moved, after
        return amounts


def _moved(amounts: tuple[int, ...], delta: F64) -> tuple[int, ...]:
    return tuple(
        int(np.clip(STEP * round((value + move) / STEP), -_MOST, _MOST)) for value, move in zip(amounts, delta, strict=True)
    )


def _with(amounts: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*amounts[:index], value, *amounts[index + 1 :])


def _half(pixels: Pixels) -> Pixels:
    small = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small).astype(np.uint8)

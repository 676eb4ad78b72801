"""Closed-loop control of the sliders: which amounts reach the imagined picture?

Two least-squares problems on a small thumb, both with the expected responses of
`respond` as their model:

- `learn`: how strongly did this editor answer? From the amounts used and the candidate
  measured, one gain for each operation, drawn to 1 (an editor's seed varies strengths, so
  one candidate is weak evidence), and the rest that no gain explains.
- `solve`: the amounts that, at those gains and with that rest, land on the target.
  Levenberg-Marquardt from the amounts used. Every amount costs what chance could make of it,
  so that two sliders do not pull strongly against each other for a small gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.embedded.thinker.measurements import tone_vector
from services.embedded.thinker.operations import Key
from services.embedded.thinker.pixels import Floats, fit, reduce
from services.embedded.thinker.slider_model import respond
from services.embedded.thinker.target_picture import WEIGHTS

Vector = npt.NDArray[np.float64]
Amounts = dict[Key, float]

GRID = 28
_PRIOR = 0.35  # standard deviation of a gain between editors and seeds
_NOISE = 0.7  # standard deviation of the figures, in the units of `signature`
_RIDGE = 1.5  # what 100 % of an operation must improve to be worth saying
_CHANCE = 0.15  # share of every response that an editor's seed may add or take away
_STEP = 0.05
_STRIDE = 0.6  # the model is trusted so far from where it was linearised
_TURNS = 6


def shrink(thumb: Floats) -> Floats:
    """A (h, w, 3) thumb at the size the control works on."""
    return reduce(thumb, *fit(thumb.shape[1], thumb.shape[0], GRID))


def signature(thumb: Floats, *, in_place: bool) -> Vector:
    """A thumb as a vector whose squared length is about a squared CIELAB distance.

    Pixels (only where candidate and source show the same spots) and tone figures weigh alike.
    """
    figures = tone_vector(thumb).astype(np.float64) * WEIGHTS * 2.0 / np.sqrt(len(WEIGHTS))
    if not in_place:
        return np.asarray(figures * np.sqrt(2.0), dtype=np.float64)
    pixels = thumb.reshape(-1).astype(np.float64) / np.sqrt(thumb.shape[0] * thumb.shape[1])
    return np.asarray(np.concatenate([pixels, figures]), dtype=np.float64)


@dataclass(frozen=True)
class Learned:
    """What a candidate taught: gains by operation, their standard errors, and the change no gain explains."""

    gains: dict[Key, float] = field(default_factory=dict)
    errors: dict[Key, float] = field(default_factory=dict)
    rest: Vector | float = 0.0


def learn(source: Floats, candidate: Floats, used: Mapping[Key, float], *, in_place: bool) -> Learned:
    """Gains of the operations in `used`, from the shrunken source and candidate thumbs."""
    keys = [key for key, percent in used.items() if abs(percent) >= 1.0]
    measured = signature(candidate, in_place=in_place)
    gains = dict.fromkeys(keys, 1.0)
    errors = dict.fromkeys(keys, _PRIOR)
    expected = signature(respond(source, used, gains), in_place=in_place)
    for _ in range(2):
        if not keys:
            break
        columns = []
        for key in keys:
            nudged = gains | {key: gains[key] + 0.15}
            columns.append((signature(respond(source, used, nudged), in_place=in_place) - expected) / 0.15)
        slope = np.stack(columns, axis=1) / _NOISE
        away = np.array([gains[key] - 1.0 for key in keys])
        left = slope.T @ slope + np.eye(len(keys)) / _PRIOR**2
        right = slope.T @ ((measured - expected) / _NOISE) - away / _PRIOR**2
        step = np.linalg.solve(left, right)
        errors = dict(zip(keys, np.sqrt(np.diag(np.linalg.inv(left))).tolist(), strict=True))
        gains = {key: float(np.clip(gains[key] + step[i], -1.5, 3.0)) for i, key in enumerate(keys)}
        expected = signature(respond(source, used, gains), in_place=in_place)
    return Learned(gains, errors, measured - expected)


def solve(
    source: Floats,
    goal: Floats,
    knobs: Sequence[Key],
    *,
    fixed: Mapping[Key, float],
    start: Mapping[Key, float],
    learned: Learned,
    in_place: bool,
) -> Amounts:
    """Amounts in percent for the knobs that bring the source to the goal (both shrunken).

    `fixed` amounts are applied too and stay as they are.
    """
    target = signature(goal, in_place=in_place) - learned.rest

    def missing(amounts: Vector) -> Vector:
        said = dict(fixed) | {key: float(100.0 * amounts[i]) for i, key in enumerate(knobs)}
        return signature(respond(source, said, learned.gains), in_place=in_place) - target

    least = np.array([_least(key) for key in knobs])
    amounts = np.array([start.get(key, 0.0) / 100.0 for key in knobs])
    off = missing(amounts)
    damping = 1e-2
    for _ in range(_TURNS):
        slope = np.stack([(missing(_nudged(amounts, i)) - off) / _STEP for i in range(len(knobs))], axis=1)
        price = _RIDGE + _CHANCE**2 * (slope**2).sum(axis=0)
        before = float(off @ off + price @ amounts**2)
        normal = slope.T @ slope + np.diag(price)
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -(slope.T @ off + price * amounts))
        step *= min(1.0, _STRIDE / max(float(np.abs(step).max()), 1e-9))
        tried = np.clip(amounts + step, least, 1.0)
        tried_off = missing(tried)
        after = float(tried_off @ tried_off + price @ tried**2)
        if after >= before:
            damping *= 10.0
            continue
        amounts, off, damping = tried, tried_off, damping / 3.0
        if before - after < 0.01 * before:
            break
    return {key: float(100.0 * amounts[i]) for i, key in enumerate(knobs)}


def _nudged(amounts: Vector, index: int) -> Vector:
    out = amounts.copy()
    out[index] += _STEP
    return out


_ONE_WAY = frozenset({"tint shadows", "tint highlights", "overlay", "sepia", "haze", "glow", "vignette"})


def _least(key: Key) -> float:
    """The lowest amount that can be said: a tint by -20 % is no phrase."""
    return 0.0 if key[0] in _ONE_WAY else -1.0

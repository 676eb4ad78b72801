"""Solver for slider amounts: which amounts bring the source to the target picture?

Two least-squares problems on a small thumb, both with `forward.applied` as the forward model:

- `estimate_gains`: how strongly did this editor respond? From the amounts used and the candidate measured, one gain for
  each operation with a prior at 1 (an editor's seed varies strengths, so one candidate is weak evidence), and the
  residual that no gain explains.
- `solve`: the amounts that, at those gains and with that residual, reach the target. Levenberg-Marquardt from the amounts
  used. Every amount has a penalty in proportion to its own effect, so that two sliders do not cancel each other for a
  small improvement.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from services.embedded.cielab import F32
from services.embedded.instructions.operations import ORDER, Kind, Operation
from services.embedded.thinker.forward import Key, applied
from services.embedded.thinker.measurements import WEIGHTS, tone_vector
from services.embedded.thinker.pictures import fit, reduce

Vector = npt.NDArray[np.float64]

GRID = 28
_PRIOR = 0.35  # standard deviation of a gain between editors and seeds
_NOISE = 0.7  # standard deviation of the figures, in the units of `feature_vector`
_RIDGE = 1.5  # what 100 % of an operation must improve to be included
_SPREAD = 0.3  # share of every response by which an editor may differ from the forward model
_STEP = 0.05
_GAIN_STEP = 0.15
_TRUST_RADIUS = 0.6  # largest step: how far the linearised model is trusted
_ITERATIONS = 6
_DAMPING = 0.6  # share of a deviation that is expected to come again
_ONE_WAY = frozenset({Kind.SPLIT_TONE, Kind.OVERLAY, Kind.SEPIA, Kind.HAZE, Kind.GLOW, Kind.VIGNETTE})
"""Sliders that only go up here."""


def shrink(thumb: F32) -> F32:
    """A (h, w, 3) thumb at the size that the solver works on."""
    return reduce(thumb, *fit(thumb.shape[1], thumb.shape[0], GRID))


def feature_vector(thumb: F32, *, in_place: bool) -> Vector:
    """A thumb as a vector whose squared length is about a squared CIELAB distance.

    Pixels and tone figures have the same weight; without `in_place`, pixels are left out.
    """
    figures = tone_vector(thumb).astype(np.float64) * WEIGHTS * 2.0 / np.sqrt(len(WEIGHTS))
    if not in_place:
        return np.asarray(figures * np.sqrt(2.0), dtype=np.float64)
    pixels = thumb.reshape(-1).astype(np.float64) / np.sqrt(thumb.shape[0] * thumb.shape[1])
    return np.asarray(np.concatenate([pixels, figures]), dtype=np.float64)


@dataclass(frozen=True)
class GainEstimate:
    """Gains by operation, their standard errors, and the change that no gain explains."""

    gains: dict[Key, float] = field(default_factory=dict)
    errors: dict[Key, float] = field(default_factory=dict)
    residual: Vector | float = 0.0

    def damped(self, deaf: Collection[Key]) -> GainEstimate:
        """What to expect of the next attempt: a part of each deviation, as the editor's seed causes the rest.

        Phrases that will be replaced (`deaf`) are expected to work, so their gain is 1.
        """
        gains = {key: 1.0 + _DAMPING * (gain - 1.0) for key, gain in self.gains.items() if key not in deaf}
        return GainEstimate(gains, self.errors, self.residual * _DAMPING)


def _slope(function: Callable[[Vector], Vector], at: Vector, value: Vector, step: float) -> Vector:
    """The Jacobian (figures, variables) of a function by forward differences."""
    return np.stack([(function(nudged) - value) / step for nudged in at + step * np.eye(len(at))], axis=1)


def estimate_gains(source: F32, candidate: F32, used: Sequence[Operation], *, in_place: bool) -> GainEstimate:
    """The gains of the operations in `used`, from the shrunken source and candidate thumbs."""
    keys = [operation.key for operation in used]
    measured = feature_vector(candidate, in_place=in_place)

    def expected(gains: Vector) -> Vector:
        gained = dict(zip(keys, gains.tolist(), strict=True))
        return feature_vector(applied(source, used, {}, gained), in_place=in_place)

    gains, errors = np.ones(len(keys)), np.full(len(keys), _PRIOR)
    value = expected(gains)
    for _ in range(2 if keys else 0):
        slope = _slope(expected, gains, value, _GAIN_STEP) / _NOISE
        left = slope.T @ slope + np.eye(len(keys)) / _PRIOR**2
        right = slope.T @ ((measured - value) / _NOISE) - (gains - 1.0) / _PRIOR**2
        errors = np.sqrt(np.diag(np.linalg.inv(left)))
        gains = np.clip(gains + np.linalg.solve(left, right), -1.5, 3.0)
        value = expected(gains)
    named_gains, named_errors = (dict(zip(keys, figures.tolist(), strict=True)) for figures in (gains, errors))
    return GainEstimate(named_gains, named_errors, measured - value)


def solve(
    source: F32, target: F32, sliders: Sequence[Operation], estimate: GainEstimate, fixed: Sequence[Operation], *, in_place: bool
) -> list[Operation]:
    """The sliders, starting from their amounts, with those that bring the source to the target (both shrunken thumbs).

    `fixed` operations are applied too and stay as they are.
    """
    features = feature_vector(target, in_place=in_place) - estimate.residual

    def moved(amounts: Vector) -> list[Operation]:
        return [replace(slider, amount=float(amount)) for slider, amount in zip(sliders, amounts, strict=True)]

    def residual(amounts: Vector) -> Vector:
        operations = sorted([*fixed, *moved(amounts)], key=lambda operation: ORDER[operation.kind])
        return feature_vector(applied(source, operations, {}, estimate.gains), in_place=in_place) - features

    lowest = np.array([0.0 if slider.kind in _ONE_WAY else -1.0 for slider in sliders])
    amounts = np.array([slider.amount for slider in sliders])
    off = residual(amounts)
    damping = 1e-2
    for _ in range(_ITERATIONS if sliders else 0):
        slope = _slope(residual, amounts, off, _STEP)
        penalty = _RIDGE + _SPREAD**2 * (slope**2).sum(axis=0)
        before = float(off @ off + penalty @ amounts**2)
        normal = slope.T @ slope + np.diag(penalty)
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -(slope.T @ off + penalty * amounts))
        step *= min(1.0, _TRUST_RADIUS / max(float(np.abs(step).max()), 1e-9))
        tried = np.clip(amounts + step, lowest, 1.0)
        tried_off = residual(tried)
        after = float(tried_off @ tried_off + penalty @ tried**2)
        if after >= before:
            damping *= 10.0
            continue
        amounts, off, damping = tried, tried_off, damping / 3.0
        if before - after < 0.01 * before:
            break
    return moved(amounts)

"""What can be read off two pictures side by side: what moved, what was lost, what was added."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from services.embedded.thinker.measure import Reading, radius_squared, read
from services.embedded.thinker.pixels import Floats, Picture, fit, reduce

_STRUCTURE = 256
_CELL = 16  # pixels
_SLOW = 3.0  # pixels; coarser than grain, finer than shading
_SAME_SHAPE = 0.02  # aspects closer than 2 % are rounding


@dataclass(frozen=True)
class Comparison:
    """A source and a candidate, measured alone and against each other.

    `structure` is how much of the source's lightness detail is found again in place
    (-1..1, tone and contrast left aside), `mirrored` and `upended` the same after
    flipping the candidate. `odd` is a (h, w) map of how far each spot of the candidate
    lies, in CIELAB, from what one smooth change of tone, colour and light would make of the source.
    `noise` is the standard deviation, in L*, of the fine-grained difference where the source is flat.
    `shape` is the candidate's aspect over the source's.
    """

    source: Picture
    candidate: Picture
    before: Reading
    after: Reading
    after_thumb: Floats = field(repr=False)
    structure: float
    mirrored: float
    upended: float
    odd: Floats = field(repr=False)
    noise: float
    shape: float

    @property
    def reshaped(self) -> bool:
        """Whether the candidate has another shape than the source."""
        return abs(float(np.log(self.shape))) > _SAME_SHAPE

    @property
    def in_place(self) -> bool:
        """Whether a spot of the candidate still shows what the same spot of the source shows."""
        return not self.reshaped and self.structure >= max(self.mirrored, self.upended) - 0.05

    @property
    def change(self) -> float:
        """Mean CIELAB distance between the two thumbs."""
        return distance(self.after_thumb, self.source.thumb)


def distance(first: Floats, second: Floats) -> float:
    """Mean CIELAB (1976) distance of two (h, w, 3) pictures of one size."""
    return float(np.sqrt(((first - second) ** 2).sum(axis=2)).mean())


def compare(source: Picture, candidate: Picture) -> Comparison:
    """Measure two pictures, of any two sizes, side by side."""
    height, width = source.thumb.shape[:2]
    after_thumb = reduce(candidate.thumb, width, height)
    size = fit(source.width, source.height, _STRUCTURE)
    first = reduce(source.frame[..., 0], *size)
    second = reduce(candidate.frame[..., 0], *size)
    # Even a picture and itself stay below 1 where there is little detail.
    whole = max(0.2, shared_structure(first, first))
    return Comparison(
        source=source,
        candidate=candidate,
        before=read(source),
        after=read(candidate),
        after_thumb=after_thumb,
        structure=shared_structure(first, second) / whole,
        mirrored=shared_structure(first, np.ascontiguousarray(second[:, ::-1])) / whole,
        upended=shared_structure(first, np.ascontiguousarray(second[::-1])) / whole,
        odd=oddness(source.thumb, after_thumb),
        noise=added_noise(source.frame[..., 0], candidate.frame[..., 0]),
        shape=candidate.aspect / source.aspect,
    )


def added_noise(before: Floats, after: Floats) -> float:
    """Standard deviation, in L*, of the noise that the (h, w) plane `after` has and `before` has not.

    The difference to the source is looked at, since film grain is too coarse for an estimate from the candidate
    alone; its slow part is a change of tone, and only the quarter of the source's blocks with the least detail counts.
    """
    height, width = before.shape
    if min(height, width) < 2 * _CELL:
        return 0.0
    change = reduce(after, width, height) - before
    change = change - cv2.GaussianBlur(change, (0, 0), _SLOW)
    detail = before - cv2.GaussianBlur(before, (0, 0), _SLOW)
    rows, columns = height // _CELL, width // _CELL

    def mean(plane: Floats) -> Floats:
        cut = plane[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
        out: Floats = cut.mean(axis=(1, 3)).reshape(-1)
        return out

    rough = mean(detail * detail)
    # Contrast, haze and blur scale the detail that is there; what is left of the change is new.
    scaled = mean(change * detail) ** 2 / np.maximum(rough, 1e-6)
    new = np.maximum(mean(change * change) - scaled, 0.0)
    return float(np.sqrt(np.median(new[rough <= np.percentile(rough, 25)])))


def shared_structure(first: Floats, second: Floats) -> float:
    """Mean local correlation of two (h, w) planes, weighted by the detail of the first, -1..1."""
    window = (11, 11)
    mean_1, mean_2 = cv2.blur(first, window), cv2.blur(second, window)
    var_1 = np.maximum(cv2.blur(first * first, window) - mean_1 * mean_1, 0.0)
    var_2 = np.maximum(cv2.blur(second * second, window) - mean_2 * mean_2, 0.0)
    both = cv2.blur(first * second, window) - mean_1 * mean_2
    # A little noise energy in the divisor keeps flat areas from counting as lost detail.
    match = both / np.sqrt((var_1 + 0.5) * (var_2 + 0.5))
    weight = var_1 / (var_1 + 8.0)
    total = float(weight.sum())
    return 1.0 if total < 1e-3 * weight.size else float((match * weight).sum() / total)


def oddness(before: Floats, after: Floats) -> Floats:
    """Distance (h, w) of `after` from the best smooth global mapping of `before`.

    The mapping is quadratic in CIELAB and allows a vignette and linear gradients, so what
    remains is local: a new object, another colour for one thing, a written word.
    """
    height, width = before.shape[:2]
    light, a, b = (before[..., i].reshape(-1) / 50.0 for i in range(3))
    y, x = (axis.reshape(-1) for axis in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])
    corner = radius_squared(height, width).reshape(-1)
    one = np.ones_like(light)
    columns = [one, light, a, b, light * light, light * a, light * b, a * a, a * b, b * b]
    columns += [corner, corner * light, x, x * light, y, y * light]
    design = np.stack(columns, axis=1).astype(np.float64)
    goal = after.reshape(-1, 3).astype(np.float64)
    normal = design.T @ design + 1e-3 * np.eye(design.shape[1]) * len(light)
    answer = np.linalg.solve(normal, design.T @ goal)
    rest = goal - design @ answer
    out: Floats = np.sqrt((rest**2).sum(axis=1)).reshape(height, width).astype(np.float32)
    return out

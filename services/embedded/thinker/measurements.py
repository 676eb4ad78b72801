"""Measurements on one picture (tone, colour, texture, layout) and on two side by side.

Tone and colour are measured on the thumb in five *zones*: the picture's own pixels in order of lightness (the darkest
twelfth, the shadows, the middle, the highlights, the lightest twelfth). A zone's mean L*, a* and b* show where the black
and white points lie, how steep the tone curve is and how shadows and highlights are tinted, and they stay meaningful
when the picture is mirrored or cropped. Texture is measured on the frame, in units of L*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from services.embedded.cielab import F32
from services.embedded.thinker.pictures import MeasuredPicture, fit, reduce

ZONES = (0.0, 0.08, 0.30, 0.70, 0.92, 1.0)
"""Bounds of the five tone zones as shares of the pixels in order of lightness."""

# Squared distances from the centre (1 in the corners) that bound parts of the frame.
_CORNERS, _CENTRE = 0.55, 0.18
_BLOCK = 16  # side of the blocks in which noise is measured
_FEW = 4  # blocks below which the estimate is not reliable
_ENDS = (6.0, 94.0)  # L* beyond which noise is clipped
_NO_STEP = 0.15  # invisible difference of L* between neighbours
_STRUCTURE = 256  # longest side on which structure is compared
_CELL = 16  # side of the cells in which added noise is measured, in pixels
_SLOW = 3.0  # pixels; coarser than grain, finer than shading
_PLACED = 0.25  # structure from which two pictures show the same thing in the same place
_SAME_SHAPE = 0.02  # aspects closer than 2 % are rounding


# One unit of each figure of `Tone.vector` is about one just noticeable step in a whole picture.
WEIGHTS: F32 = np.array([0.5] * 15 + [1 / 2.0, 1 / 3.0, 1 / 4.0, 1 / 4.0], dtype=np.float32)
WEIGHTS[:15] *= np.repeat(np.array([0.55, 0.9, 1.25, 0.9, 0.55], dtype=np.float32), 3)


@dataclass(frozen=True)
class Tone:
    """Tone and colour of a thumb.

    `zones` is (5, 3): mean (L*, a*, b*) from black to white. `spread` is the mean
    distance of a pixel's (a*, b*) from the picture's mean (a*, b*): how colourful the
    content is, independent of a cast. `corner`, `top` and `left` are differences of mean L*:
    corners less centre, top less bottom, left less right.
    """

    zones: F32 = field(repr=False)
    mean: F32
    contrast: float
    spread: float
    corner: float
    top: float
    left: float

    def vector(self) -> F32:
        """The figures that are compared with a target, in the order of `WEIGHTS`."""
        rest = np.array([self.spread, self.corner, self.top, self.left], dtype=np.float32)
        return np.concatenate([self.zones.reshape(-1), rest])


@dataclass(frozen=True)
class Texture:
    """Fine structure of a frame, in L* units.

    `grain` is the standard deviation of the noise in the flattest quarter of the
    picture; `fine`, `medium` and `coarse` are the mean absolute detail below about 2, 6 and 20 pixels.
    `flat` is the share of pixels without any gradient, `levels` the number of lightness levels in use (of 200).
    """

    grain: float
    fine: float
    medium: float
    coarse: float
    flat: float
    levels: int


def gap(first: Tone, second: Tone) -> float:
    """Weighted distance of two tones; about 1 where a viewer begins to see a difference."""
    off = (first.vector() - second.vector()) * WEIGHTS
    return float(np.sqrt((off**2).mean()))


def tone_of(thumb: F32) -> Tone:
    """Tone and colour of a (h, w, 3) CIELAB thumb."""
    pixels = thumb.reshape(-1, 3)
    vector = tone_vector(thumb)
    return Tone(
        zones=vector[:15].reshape(5, 3),
        mean=pixels.mean(axis=0),
        contrast=float(pixels[:, 0].std()),
        spread=float(vector[15]),
        corner=float(vector[16]),
        top=float(vector[17]),
        left=float(vector[18]),
    )


def tone_vector(thumb: F32) -> F32:
    """The 19 figures of `Tone.vector` alone, for the many thumbs that the solver tries."""
    height, width = thumb.shape[:2]
    pixels = thumb.reshape(-1, 3)
    zone_means, layout = _averages(height, width)
    zones = zone_means @ pixels[np.argsort(pixels[:, 0], kind="stable")]
    off = pixels[:, 1:] - pixels[:, 1:].mean(axis=0)
    spread = np.sqrt((off * off).sum(axis=1)).mean()
    out: F32 = np.concatenate([zones.reshape(-1), spread[None], layout @ np.ascontiguousarray(pixels[:, 0])])
    return out


@lru_cache(maxsize=64)
def _averages(height: int, width: int) -> tuple[F32, F32]:
    """Matrices that average pixels: (5, n) over the zones of pixels in order of lightness, and (3, n) for the corner, top
    and left differences of pixels in place.
    """
    count = height * width
    zones = np.zeros((5, count), dtype=np.float32)
    for index, (low, high) in enumerate(pairwise(ZONES)):
        start = min(count - 1, int(low * count))
        stop = max(start + 1, round(high * count))
        zones[index, start:stop] = 1.0 / (stop - start)
    square = radius_squared(height, width)
    outer, inner = square > _CORNERS, square < _CENTRE
    layout = np.zeros((3, height, width), dtype=np.float32)
    if outer.any() and inner.any():
        layout[0] = outer / outer.sum() - inner / inner.sum()
    rows, columns = max(1, height // 3), max(1, width // 3)
    layout[1, :rows] += 1.0 / (rows * width)
    layout[1, -rows:] -= 1.0 / (rows * width)
    layout[2, :, :columns] += 1.0 / (columns * height)
    layout[2, :, -columns:] -= 1.0 / (columns * height)
    return zones, layout.reshape(3, count)


@lru_cache(maxsize=64)
def radius_squared(height: int, width: int) -> F32:
    """Squared distance from the centre, 0 there and 1 in the very corners, (h, w)."""
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * 2.0 - 1.0
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2.0 - 1.0
    square: F32 = ((y[:, None] ** 2 + x[None, :] ** 2) / 2.0).astype(np.float32)
    # The cache returns the same array to every caller.
    square.setflags(write=False)
    return square


def texture_of(frame: F32) -> Texture:
    """Fine structure of a (h, w, 3) CIELAB frame."""
    light = np.ascontiguousarray(frame[..., 0])
    small = cv2.GaussianBlur(light, (0, 0), 1.2)
    middle = cv2.GaussianBlur(light, (0, 0), 4.0)
    wide = cv2.blur(middle, (41, 41))
    detail = np.abs(light - small)
    down = np.abs(np.diff(light, axis=0))
    return Texture(
        grain=grain_of(light),
        fine=float(detail.mean()),
        medium=float(np.abs(small - middle).mean()),
        coarse=float(np.abs(middle - wide).mean()),
        flat=float((down < _NO_STEP).mean()) if down.size else 1.0,
        levels=_levels(light),
    )


def grain_of(light: F32) -> float:
    """Standard deviation of the noise in an (h, w) lightness plane.

    Immerkaer's mask (CVIU 64, 1996) cancels planes and straight edges; the quarter of
    the 16 x 16 blocks that are flattest hold little but noise. Blocks at the ends of the scale, where noise is clipped,
    are left out.
    """
    if min(light.shape) < _BLOCK + 4:
        return 0.0
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6.0
    noise = cv2.filter2D(light, cv2.CV_32F, mask)
    rows, columns = light.shape[0] // 16, light.shape[1] // 16
    if not rows or not columns:
        return float(np.std(noise))
    shape = (rows, 16, columns, 16)
    energy = (noise[: rows * 16, : columns * 16] ** 2).reshape(shape).mean(axis=(1, 3))
    level = light[: rows * 16, : columns * 16].reshape(shape).mean(axis=(1, 3))
    usable = energy[(level > _ENDS[0]) & (level < _ENDS[1])]
    if usable.size < _FEW:
        usable = energy.reshape(-1)
    return float(np.sqrt(np.percentile(usable, 25)))


def _levels(light: F32) -> int:
    """The number of half-L* steps that hold more than 0.05 % of the pixels."""
    counts, _ = np.histogram(light, bins=200, range=(0.0, 100.0))
    return int((counts > 0.0005 * light.size).sum())


@dataclass(frozen=True)
class Measurement:
    """The measurements of one picture."""

    tone: Tone
    texture: Texture


def measure(picture: MeasuredPicture) -> Measurement:
    """Measure one picture."""
    return Measurement(tone=tone_of(picture.thumb), texture=texture_of(picture.frame))


@dataclass(frozen=True)
class Comparison:
    """A source and a candidate, measured separately and against each other.

    `structure` is how much of the source's lightness detail is found again in place
    (-1..1, independent of tone and contrast). `local_change` is a (h, w) map of how far each spot of the candidate
    lies, in CIELAB, from what one smooth change of tone, colour and light would make of the source.
    `noise` is the standard deviation, in L*, of the fine-grained difference where the source is flat.
    `shape` is the candidate's aspect over the source's.
    """

    source: MeasuredPicture
    candidate: MeasuredPicture
    before: Measurement
    after: Measurement
    after_thumb: F32 = field(repr=False)
    structure: float
    local_change: F32 = field(repr=False)
    noise: float
    shape: float

    @property
    def reshaped(self) -> bool:
        """Whether the candidate has another shape than the source."""
        return abs(float(np.log(self.shape))) > _SAME_SHAPE

    @property
    def in_place(self) -> bool:
        """Whether each spot of the candidate shows the same thing as that spot of the source."""
        return not self.reshaped and abs(self.structure) > _PLACED

    @property
    def change(self) -> float:
        """Mean CIELAB distance between the two thumbs."""
        return distance(self.after_thumb, self.source.thumb)


def distance(first: F32, second: F32) -> float:
    """Mean CIELAB (1976) distance of two (h, w, 3) pictures of one size."""
    return float(np.sqrt(((first - second) ** 2).sum(axis=2)).mean())


def compare(source: MeasuredPicture, candidate: MeasuredPicture) -> Comparison:
    """Compare two pictures of any two sizes."""
    height, width = source.thumb.shape[:2]
    after_thumb = reduce(candidate.thumb, width, height)
    size = fit(source.width, source.height, _STRUCTURE)
    first = reduce(source.frame[..., 0], *size)
    second = reduce(candidate.frame[..., 0], *size)
    # Normalised: a picture with little detail correlates with itself below 1.
    whole = max(0.2, shared_structure(first, first))
    return Comparison(
        source=source,
        candidate=candidate,
        before=measure(source),
        after=measure(candidate),
        after_thumb=after_thumb,
        structure=shared_structure(first, second) / whole,
        local_change=local_change_map(source.thumb, after_thumb),
        noise=added_noise(source.frame[..., 0], candidate.frame[..., 0]),
        shape=candidate.aspect / source.aspect,
    )


def added_noise(before: F32, after: F32) -> float:
    """Standard deviation, in L*, of the noise that the (h, w) plane `after` has in addition to `before`.

    It is estimated from the difference to the source, since film grain is too coarse for an estimate from the candidate
    alone. The slow part of the difference is a change of tone, and only the quarter of the source's cells with the least
    detail counts.
    """
    height, width = before.shape
    if min(height, width) < 2 * _CELL:
        return 0.0
    change = reduce(after, width, height) - before
    change = change - cv2.GaussianBlur(change, (0, 0), _SLOW)
    detail = before - cv2.GaussianBlur(before, (0, 0), _SLOW)
    rows, columns = height // _CELL, width // _CELL

    def mean(plane: F32) -> F32:
        cut = plane[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
        out: F32 = cut.mean(axis=(1, 3)).reshape(-1)
        return out

    rough = mean(detail * detail)
    # Contrast, haze and blur scale existing detail; the rest of the change is new.
    scaled = mean(change * detail) ** 2 / np.maximum(rough, 1e-6)
    new = np.maximum(mean(change * change) - scaled, 0.0)
    return float(np.sqrt(np.median(new[rough <= np.percentile(rough, 25)])))


def shared_structure(first: F32, second: F32) -> float:
    """Mean local correlation of two (h, w) planes, weighted by the detail of the first, -1..1."""
    window = (11, 11)
    mean_1, mean_2 = cv2.blur(first, window), cv2.blur(second, window)
    var_1 = np.maximum(cv2.blur(first * first, window) - mean_1 * mean_1, 0.0)
    var_2 = np.maximum(cv2.blur(second * second, window) - mean_2 * mean_2, 0.0)
    both = cv2.blur(first * second, window) - mean_1 * mean_2
    # The constant in the divisor keeps noise in flat areas from counting as lost detail.
    match = both / np.sqrt((var_1 + 0.5) * (var_2 + 0.5))
    weight = var_1 / (var_1 + 8.0)
    total = float(weight.sum())
    return 1.0 if total < 1e-3 * weight.size else float((match * weight).sum() / total)


def local_change_map(before: F32, after: F32) -> F32:
    """Distance (h, w) of `after` from the best smooth global mapping of `before`.

    The mapping is quadratic in CIELAB and allows a vignette and linear gradients, so what
    remains is local: a new object, another colour for one object, a written word.
    """
    height, width = before.shape[:2]
    light, a, b = (before[..., i].reshape(-1) / 50.0 for i in range(3))
    y, x = (axis.reshape(-1) for axis in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])
    corner = radius_squared(height, width).reshape(-1)
    one = np.ones_like(light)
    columns = [one, light, a, b, light * light, light * a, light * b, a * a, a * b, b * b]
    columns += [corner, corner * light, x, x * light, y, y * light]
    design = np.stack(columns, axis=1).astype(np.float64)
    expected = after.reshape(-1, 3).astype(np.float64)
    normal = design.T @ design + 1e-3 * np.eye(design.shape[1]) * len(light)
    answer = np.linalg.solve(normal, design.T @ expected)
    rest = expected - design @ answer
    out: F32 = np.sqrt((rest**2).sum(axis=1)).reshape(height, width).astype(np.float32)
    return out

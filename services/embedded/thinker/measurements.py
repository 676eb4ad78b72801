"""Measurements on one picture (tone, colour, texture) and on two side by side.

Every measurement is made on a reduced copy, so that a figure means the same at every resolution: the *frame* (long side at most
512 pixels) is for texture, the *thumb* (long side at most 64) for tone and colour. Both are averaged over areas in linear light.

Tone and colour are measured in five *zones*: the thumb's own pixels in order of lightness (the darkest twelfth, the shadows, the
middle, the highlights, the lightest twelfth). A zone's mean L*, a* and b* show where the black and white points lie, how steep
the tone curve is and how shadows and highlights are tinted, and they stay meaningful when the picture is mirrored or cropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise

import cv2
import numpy as np

from services.embedded.cielab import F32, U8, decode, f32, linear_to_lab
from services.embedded.thinker.pictures import fit, flatten, reduce

FRAME = 512
THUMB = 64
_BRIGHT, _DIM = 254, 1  # code values that count as blown out and blocked up
_ZONES = (0.0, 0.08, 0.30, 0.70, 0.92, 1.0)
"""Bounds of the five tone zones as shares of the pixels in order of lightness."""
_CORNERS, _CENTRE = 0.55, 0.18  # squared distances from the centre (1 in the corners) that bound parts of the frame
_BLOCK = 16  # side, in pixels, of the blocks in which noise is measured
_FEW = 4  # blocks below which the estimate is not reliable
_ENDS = (6.0, 94.0)  # L* beyond which noise is clipped
_NO_STEP = 0.15  # invisible difference of L* between neighbours
_STRUCTURE = 256  # longest side on which structure is compared
_SLOW = 3.0  # pixels; coarser than grain, finer than shading
_PLACED = 0.25  # structure from which two pictures show the same thing in the same place
_SAME_SHAPE = 0.02  # aspects closer than 2 % are rounding

# One unit of each figure of `Tone.vector` is about one just noticeable step in a whole picture.
WEIGHTS: F32 = np.array([*np.repeat([0.275, 0.45, 0.625, 0.45, 0.275], 3), 1 / 2, 1 / 3], dtype=np.float32)


@dataclass(frozen=True)
class Tone:
    """Tone and colour of a thumb.

    `vector` holds the 17 figures that are compared with a target, in the order of `WEIGHTS`: the zones, the spread, the corner.
    """

    vector: F32 = field(repr=False)
    mean: F32
    contrast: float

    @property
    def zones(self) -> F32:
        """(5, 3): mean (L*, a*, b*) from black to white."""
        return self.vector[:15].reshape(5, 3)

    @property
    def spread(self) -> float:
        """The mean distance of a pixel's (a*, b*) from the picture's: how colourful it is, independent of a cast."""
        return float(self.vector[15])

    @property
    def corner(self) -> float:
        """The mean L* of the corners less that of the centre."""
        return float(self.vector[16])


@dataclass(frozen=True)
class Texture:
    """Fine structure of a frame, in L* units.

    `grain` is the standard deviation of the noise in the flattest quarter of the picture; `fine`, `medium` and `coarse` are the
    mean absolute detail below about 2, 6 and 20 pixels. `flat` is the share of pixels without any gradient, `levels` the number
    of lightness levels in use (of 200).
    """

    grain: float
    fine: float
    medium: float
    coarse: float
    flat: float
    levels: int


@dataclass(frozen=True)
class MeasuredPicture:
    """One picture, ready to be measured.

    `frame` and `thumb` are (height, width, 3) CIELAB; `bright` and `dim` are the shares (0..1) of the original's pixels with a
    channel at the end of the scale, weighted by how many are (one of three counts a third);
    `burnt` is the share that is white or black to the eye: with two channels at the upper end or all at the lower, and half of
    those with one at the upper.
    """

    width: int
    height: int
    frame: F32 = field(repr=False)
    thumb: F32 = field(repr=False)
    bright: float
    dim: float
    burnt: float

    @cached_property
    def light(self) -> F32:
        """(height, width) of the frame's L*."""
        return np.ascontiguousarray(self.frame[..., 0])

    @cached_property
    def tone(self) -> Tone:
        """Of the thumb."""
        return tone_of(self.thumb)

    @cached_property
    def texture(self) -> Texture:
        """Of the frame."""
        return texture_of(self.light)


def reduce_picture(pixels: U8) -> MeasuredPicture:
    """The frame, thumb and statistics of a picture of (h, w[, channels]) bytes."""
    flat = flatten(pixels)
    height, width = flat.shape[:2]
    frame_width, frame_height = fit(width, height, FRAME)
    small = flat
    if width > 2 * frame_width:
        # Reducing in code values first is much faster and costs little accuracy.
        small = np.asarray(cv2.resize(flat, (2 * frame_width, 2 * frame_height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    linear = reduce(decode(np.ascontiguousarray(small)), frame_width, frame_height)
    ends = flat[:: max(1, height // FRAME), :: max(1, width // FRAME)]
    ordered = np.sort(ends, axis=2)
    return MeasuredPicture(
        width=width,
        height=height,
        frame=linear_to_lab(linear),
        thumb=linear_to_lab(reduce(linear, *fit(frame_width, frame_height, THUMB))),
        bright=float(np.mean(ends >= _BRIGHT)),
        dim=float(np.mean(ends <= _DIM)),
        burnt=float((ordered[..., 1:] >= _BRIGHT).mean() + (ordered[..., 2] <= _DIM).mean()),
    )


def gap(first: Tone, second: Tone) -> float:
    """Weighted distance of two tones; about 1 where a viewer begins to see a difference."""
    off = (first.vector - second.vector) * WEIGHTS
    return float(np.sqrt((off**2).mean()))


def tone_of(thumb: F32) -> Tone:
    """Tone and colour of a (h, w, 3) CIELAB thumb."""
    pixels = thumb.reshape(-1, 3)
    return Tone(tone_vector(thumb), pixels.mean(axis=0), float(pixels[:, 0].std()))


def tone_vector(thumb: F32) -> F32:
    """The figures of `Tone.vector` alone, for the many thumbs that the solver tries."""
    zone_means, corner = _averages(*thumb.shape[:2])
    pixels = thumb.reshape(-1, 3)
    zones = zone_means @ pixels[np.argsort(pixels[:, 0], kind="stable")]
    return np.concatenate([zones.reshape(-1), spread_of(thumb)[None], (corner @ np.ascontiguousarray(pixels[:, 0]))[None]])


def spread_of(thumb: F32) -> F32:
    """`Tone.spread` of a (h, w, 3) CIELAB thumb."""
    off = thumb[..., 1:] - thumb[..., 1:].mean(axis=(0, 1))
    spread: F32 = np.sqrt((off * off).sum(axis=2)).mean()
    return spread


@lru_cache(maxsize=64)
def _averages(height: int, width: int) -> tuple[F32, F32]:
    """What averages pixels: (5, n) over the zones of pixels in order of lightness, (n,) over corners less centre."""
    count = height * width
    zones = np.zeros((5, count), dtype=np.float32)
    for index, (low, high) in enumerate(pairwise(_ZONES)):
        start = min(count - 1, int(low * count))
        stop = max(start + 1, round(high * count))
        zones[index, start:stop] = 1.0 / (stop - start)
    square = radius_squared(height, width)
    outer, inner = square > _CORNERS, square < _CENTRE
    corner = np.zeros((height, width), dtype=np.float32)
    if outer.any() and inner.any():
        corner = (outer / outer.sum() - inner / inner.sum()).astype(np.float32)
    return zones, corner.reshape(count)


@lru_cache(maxsize=64)
def radius_squared(height: int, width: int) -> F32:
    """Squared distance from the centre, 0 there and 1 in the very corners, (h, w)."""
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * 2.0 - 1.0
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2.0 - 1.0
    square: F32 = ((y[:, None] ** 2 + x[None, :] ** 2) / 2.0).astype(np.float32)
    # The cache returns the same array to every caller.
    square.setflags(write=False)
    return square


def texture_of(light: F32) -> Texture:
    """Fine structure of a frame's (h, w) L*."""
    small = cv2.GaussianBlur(light, (0, 0), 1.2)
    middle = cv2.GaussianBlur(light, (0, 0), 4.0)
    down = np.abs(np.diff(light, axis=0))
    counts, _ = np.histogram(light, bins=200, range=(0.0, 100.0))
    return Texture(
        grain=grain_of(light),
        fine=float(np.abs(light - small).mean()),
        medium=float(np.abs(small - middle).mean()),
        coarse=float(np.abs(middle - cv2.blur(middle, (41, 41))).mean()),
        flat=float((down < _NO_STEP).mean()) if down.size else 1.0,
        levels=int((counts > 0.0005 * light.size).sum()),
    )


def _block_means(plane: F32) -> F32:
    """The means of an (h, w) plane over its whole 16 x 16 blocks, in one row."""
    rows, columns = plane.shape[0] // _BLOCK, plane.shape[1] // _BLOCK
    cut = plane[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    means: F32 = cut.mean(axis=(1, 3)).reshape(-1)
    return means


def grain_of(light: F32) -> float:
    """Standard deviation of the noise in an (h, w) lightness plane.

    Immerkaer's mask (CVIU 64, 1996) cancels planes and straight edges; the quarter of the 16 x 16 blocks that are flattest hold
    little but noise. Blocks at the ends of the scale, where noise is clipped, are left out.
    """
    if min(light.shape) < _BLOCK + 4:
        return 0.0
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6.0
    energy = _block_means(f32(cv2.filter2D(light, cv2.CV_32F, mask)) ** 2)
    level = _block_means(light)
    usable = energy[(level > _ENDS[0]) & (level < _ENDS[1])]
    return float(np.sqrt(np.percentile(usable if usable.size >= _FEW else energy, 25)))


@dataclass(frozen=True)
class Comparison:
    """A source and a candidate, of any two sizes, measured against each other."""

    source: MeasuredPicture
    candidate: MeasuredPicture

    @cached_property
    def after_thumb(self) -> F32:
        """The candidate's thumb in the shape of the source's."""
        return reduce(self.candidate.thumb, self.source.thumb.shape[1], self.source.thumb.shape[0])

    @cached_property
    def after_frame(self) -> F32:
        """The candidate's frame in the shape of the source's."""
        return reduce(self.candidate.frame, self.source.frame.shape[1], self.source.frame.shape[0])

    @cached_property
    def structure(self) -> float:
        """How much of the source's lightness detail is found again in place (-1..1, independent of tone and contrast)."""
        return structure_of(self.source, self.candidate, _STRUCTURE)

    @cached_property
    def local_change(self) -> F32:
        """`local_change_map` of the two thumbs."""
        return local_change_map(self.source.thumb, self.after_thumb)

    @cached_property
    def noise(self) -> float:
        """The standard deviation, in L*, of the fine-grained difference where the source is flat."""
        return added_noise(self.source.light, self.candidate.light)

    @property
    def reshaped(self) -> bool:
        """Whether the candidate has another shape than the source."""
        shape = self.candidate.width / self.candidate.height / (self.source.width / self.source.height)
        return abs(float(np.log(shape))) > _SAME_SHAPE

    @property
    def in_place(self) -> bool:
        """Whether each spot of the candidate shows the same thing as that spot of the source."""
        return not self.reshaped and abs(self.structure) > _PLACED


def delta_e(first: F32, second: F32) -> F32:
    """CIELAB (1976) distances (...) of two arrays (..., 3)."""
    distances: F32 = np.sqrt(((first - second) ** 2).sum(axis=-1))
    return distances


def structure_of(source: MeasuredPicture, candidate: MeasuredPicture, side: int) -> float:
    """`Comparison.structure`, measured on copies whose longer side is at most `side` pixels."""
    size = fit(source.width, source.height, side)
    first, second = reduce(source.light, *size), reduce(candidate.light, *size)
    # Normalised: a picture with little detail correlates with itself below 1.
    return _correlation(first, second) / max(0.2, _correlation(first, first))


def added_noise(before: F32, after: F32) -> float:
    """Standard deviation, in L*, of the noise that the (h, w) plane `after` has in addition to `before`.

    It is estimated from the difference to the source, since film grain is too coarse for an estimate from the candidate
    alone. The slow part of the difference is a change of tone, and only the quarter of the source's blocks with the least
    detail counts.
    """
    height, width = before.shape
    if min(height, width) < 2 * _BLOCK:
        return 0.0
    change = reduce(after, width, height) - before
    change = change - cv2.GaussianBlur(change, (0, 0), _SLOW)
    detail = before - cv2.GaussianBlur(before, (0, 0), _SLOW)
    rough = _block_means(detail * detail)
    # Contrast, haze and blur scale existing detail; the rest of the change is new.
    scaled = _block_means(change * detail) ** 2 / np.maximum(rough, 1e-6)
    new = np.maximum(_block_means(change * change) - scaled, 0.0)
    return float(np.sqrt(np.median(new[rough <= np.percentile(rough, 25)])))


def _correlation(first: F32, second: F32) -> float:
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

    What remains is local: a new object, another colour for one object, a written word.
    """
    return delta_e(after, explained(before, after))


def explained(before: F32, after: F32, *known: F32) -> F32:
    """The (h, w, 3) `after` as far as a smooth global mapping explains it, and any share of the `known` changes (h, w, 3).

    The mapping is quadratic in CIELAB and allows a vignette and linear gradients.
    """
    height, width = before.shape[:2]
    light, a, b = (before[..., i].reshape(-1) / 50.0 for i in range(3))
    y, x = (axis.reshape(-1) for axis in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])
    corner = radius_squared(height, width).reshape(-1)
    one = np.ones_like(light)
    columns = [one, light, a, b, light * light, light * a, light * b, a * a, a * b, b * b]
    columns += [corner, corner * light, x, x * light, y, y * light]
    columns += [plane.reshape(-1) / 50.0 for change in known for plane in np.moveaxis(change, 2, 0)]
    design = np.stack(columns, axis=1).astype(np.float64)
    expected = after.reshape(-1, 3).astype(np.float64)
    normal = design.T @ design + 1e-3 * np.eye(design.shape[1]) * len(light)
    answer = np.linalg.solve(normal, design.T @ expected)
    return f32(design @ answer).reshape(after.shape)

"""What an edit measurably did: one number a measure, of the source and the answer in a region.

Lightness, a, b, chroma and hue are CIELAB's, which `benchmarks.colorimetry` computes from the standards. Every measure but those
of geometry compares pictures of the same size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np

from benchmarks.colorimetry import Picture, Pixels, from_pixels, lab, linear
from benchmarks.honesty.pairs import Check, Mask

HUE_TOLERANCE: Final = 40.0
"""Degrees by which a hue may miss the one that was named; the named colours are about 60 degrees apart."""
COLOURED: Final = 4.0
"""Mean chroma below which a hue means nothing: the least tint that is seen."""
VISIBLE: Final = 12.0
"""ΔE above which a pixel counts as drawn over."""
TOUCHED: Final = 2.0
"""ΔE above which a pixel counts as changed by an edit of its region."""
RIM: Final = 0.012
"""Width of the outermost rim, as a share of the shorter side, that a border fills."""
FRAME: Final = 6.0
"""ΔE within which a row of pixels is of the rim's colour."""
INK: Final = 0.1
"""Share of what was drawn that must have a colour, for that to be the colour of the ink: edges are blended, and outlined."""
MATCH: Final = 200
"""Longest side, in pixels, at which geometry is compared."""
_NOISE_SIGMA: Final = 1.4826


class Compared:
    """A source and its answer. `after` is scaled to the source's size; `answer` is as it came."""

    def __init__(self, source: Pixels, answer: Pixels) -> None:
        self.source = source
        self.answer = answer

    @cached_property
    def after(self) -> Pixels:
        """The answer at the source's size."""
        height, width = self.source.shape[:2]
        if self.answer.shape[:2] == (height, width):
            return self.answer
        return np.asarray(cv2.resize(self.answer, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    @cached_property
    def lab_before(self) -> Picture:
        """CIELAB of the source."""
        return lab(from_pixels(self.source))

    @cached_property
    def lab_after(self) -> Picture:
        """CIELAB of the answer at the source's size."""
        return lab(from_pixels(self.after))

    @cached_property
    def delta(self) -> Picture:
        """ΔE (1976) of every pixel."""
        return np.asarray(np.sqrt(((self.lab_after - self.lab_before) ** 2).sum(axis=-1)))

    @cached_property
    def window(self) -> Window:
        """The part of the source that the answer shows."""
        return find_window(self)

    @property
    def identical(self) -> bool:
        """Whether the answer is the source, pixel by pixel."""
        return self.source.shape == self.answer.shape and bool((self.source == self.answer).all())


def chroma(picture: Picture) -> Picture:
    """CIELAB chroma of every pixel."""
    return np.asarray(np.hypot(picture[..., 1], picture[..., 2]))


def fine(lightness: Picture, sigma: float = 1.2) -> Picture:
    """The finest detail: lightness without its blurred self."""
    return np.asarray(lightness - cv2.GaussianBlur(lightness, (0, 0), sigma))


def noise(lightness: Picture) -> float:
    """Deviation of the noise in L, from the quietest quarter of 8-pixel blocks, where detail is least."""
    residue = fine(lightness)
    height, width = (side // 8 * 8 for side in residue.shape)
    if not height or not width:
        return 0.0
    blocks = residue[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 64)
    level = lightness[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 64).mean(axis=1)
    # Noise does not show where a picture is clipped.
    usable = blocks[(level > 3) & (level < 97)]
    if not len(usable):
        return 0.0
    spreads = np.median(np.abs(usable), axis=1) * _NOISE_SIGMA
    return float(np.percentile(spreads, 25))


def _shift(channel: int) -> Callable[[Compared, Mask], float]:
    def measure(compared: Compared, mask: Mask) -> float:
        return float((compared.lab_after[..., channel] - compared.lab_before[..., channel])[mask].mean())

    return measure


def _chroma_shift(compared: Compared, mask: Mask) -> float:
    return float((chroma(compared.lab_after) - chroma(compared.lab_before))[mask].mean())


def _chroma_ratio(compared: Compared, mask: Mask) -> float:
    return float(chroma(compared.lab_after)[mask].mean() / max(chroma(compared.lab_before)[mask].mean(), 0.5))


def _chroma_now(compared: Compared, mask: Mask) -> float:
    return float(chroma(compared.lab_after)[mask].mean())


def _hue(compared: Compared, mask: Mask) -> float:
    """The hue angle of the region's mean colour; NaN, which fulfils no check, where there is no colour."""
    a, b = (float(compared.lab_after[..., channel][mask].mean()) for channel in (1, 2))
    return math.degrees(math.atan2(b, a)) % 360 if math.hypot(a, b) >= COLOURED else math.nan


def _spread(compared: Compared, mask: Mask) -> float:
    """How much the hues vary: deviation of a and b across the direction of their mean. A sepia varies along it, not across."""
    colours = compared.lab_after[mask][:, 1:]
    mean = colours.mean(axis=0)
    across = np.array([-mean[1], mean[0]]) / max(float(np.hypot(*mean)), 1.0)
    return float((colours @ across).std()) if np.hypot(*mean) >= 1.0 else float(np.sqrt(colours.var(axis=0).sum()))


def _stops(compared: Compared, mask: Mask) -> float:
    """By how many stops the median of the linear light changed."""
    before, after = (
        float(np.median(linear(from_pixels(side))[mask].mean(axis=-1))) for side in (compared.source, compared.after)
    )
    return math.log2(max(after, 1e-4) / max(before, 1e-4))


def _contrast(compared: Compared, mask: Mask) -> float:
    return float(compared.lab_after[..., 0][mask].std() / max(compared.lab_before[..., 0][mask].std(), 0.1))


def _percentile(at: float) -> Callable[[Compared, Mask], float]:
    def measure(compared: Compared, mask: Mask) -> float:
        before, after = (np.percentile(side[..., 0][mask], at) for side in (compared.lab_before, compared.lab_after))
        return float(after - before)

    return measure


def _detail(compared: Compared, mask: Mask) -> float:
    """Fine detail relative to the source's."""
    before, after = (np.abs(fine(side[..., 0]))[mask].mean() for side in (compared.lab_before, compared.lab_after))
    return float(after / max(before, 0.02))


def _blur(compared: Compared, mask: Mask) -> float:
    """Fine detail relative to coarse detail, in that of the source: below 1 the region is blurred, at any contrast."""
    ratios = []
    for side in (compared.lab_before, compared.lab_after):
        coarse = cv2.GaussianBlur(side[..., 0], (0, 0), 2.0) - cv2.GaussianBlur(side[..., 0], (0, 0), 6.0)
        ratios.append(np.abs(fine(side[..., 0]))[mask].mean() / max(np.abs(coarse)[mask].mean(), 0.02))
    return float(ratios[1] / max(ratios[0], 0.01))


def _grain(compared: Compared, _: Mask) -> float:
    return noise(compared.lab_after[..., 0]) - noise(compared.lab_before[..., 0])


def _vignette(compared: Compared, _: Mask) -> float:
    """How much darker the corners became than the centre did."""
    change = compared.lab_after[..., 0] - compared.lab_before[..., 0]
    height, width = change.shape
    y, x = np.mgrid[0:height, 0:width]
    u, v = np.abs((x + 0.5) / width * 2 - 1), np.abs((y + 0.5) / height * 2 - 1)
    return float(change[(u > 0.75) & (v > 0.75)].mean() - change[(u < 0.4) & (v < 0.4)].mean())


def _rim_pixels(picture: Pixels) -> Picture:
    """CIELAB of the outermost rim."""
    values = lab(from_pixels(picture))
    wide = max(1, round(min(values.shape[:2]) * RIM))
    inner = np.ones(values.shape[:2], dtype=np.bool_)
    inner[wide:-wide, wide:-wide] = False
    return np.asarray(values[inner])


def _rim(compared: Compared, _: Mask) -> float:
    """1 when the answer has a rim of one colour that the source does not have."""
    rims = [_rim_pixels(side) for side in (compared.source, compared.answer)]
    before, after = (float(np.sqrt(rim.var(axis=0).sum())) for rim in rims)
    other = float(np.linalg.norm(np.median(rims[1], axis=0) - np.median(rims[0], axis=0)))
    return float(after < 5 and (before > 8 or other > VISIBLE))


def _rim_light(compared: Compared, _: Mask) -> float:
    return float(np.median(_rim_pixels(compared.answer)[:, 0]))


def _rim_hue(compared: Compared, _: Mask) -> float:
    """The hue angle of the rim; NaN when it is grey."""
    _, a, b = np.median(_rim_pixels(compared.answer), axis=0)
    return math.degrees(math.atan2(b, a)) % 360 if math.hypot(a, b) >= COLOURED else math.nan


def _rim_width(compared: Compared, _: Mask) -> float:
    """The width of the rim of one colour, the thinnest of its sides, as a share of the shorter side."""
    values = lab(from_pixels(compared.answer))
    plain = np.sqrt(((values - np.median(_rim_pixels(compared.answer), axis=0)) ** 2).sum(axis=-1)) < FRAME
    rows, columns = (plain.mean(axis=axis) > 0.98 for axis in (1, 0))
    sides = (rows, rows[::-1], columns, columns[::-1])
    return float(min(len(side) if side.all() else int(np.argmin(side)) for side in sides) / min(plain.shape))


def _ink_light(compared: Compared, mask: Mask) -> float:
    """How light the lighter part of what was drawn is; NaN when nothing was."""
    drawn = compared.lab_after[mask & (compared.delta > VISIBLE)]
    return float(np.percentile(drawn[:, 0], 80)) if len(drawn) else math.nan


def _ink_hue(compared: Compared, mask: Mask) -> float:
    """The hue angle of what was drawn in colour; NaN when that is little."""
    drawn = compared.lab_after[mask & (compared.delta > VISIBLE)]
    inked = drawn[np.hypot(drawn[:, 1], drawn[:, 2]) >= 3 * COLOURED]
    if len(inked) < max(1.0, INK * len(drawn)):
        return math.nan
    return math.degrees(math.atan2(inked[:, 2].mean(), inked[:, 1].mean())) % 360


def _marked(compared: Compared, mask: Mask) -> float:
    return float((compared.delta > VISIBLE)[mask].mean())


def _reached(compared: Compared, mask: Mask) -> float:
    """The share of a region that the edit reached. A mean can hide that half of a sky was left as it was."""
    smooth = cv2.blur(compared.delta, (5, 5))
    return float((smooth > TOUCHED)[mask].mean())


def _levels(compared: Compared, mask: Mask) -> float:
    """Distinct colours relative to the source's, at five bits a channel."""
    counts = [len(np.unique((side >> 3)[mask], axis=0)) for side in (compared.source, compared.after)]
    return counts[1] / counts[0]


def _delta(compared: Compared, mask: Mask) -> float:
    return float(compared.delta[mask].mean())


def _small_grey(pixels: Pixels, size: tuple[int, int]) -> Picture:
    scaled = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float64)
    return np.asarray(scaled.mean(axis=-1))


TURNS: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    0: lambda pixels: pixels,
    90: lambda pixels: np.rot90(pixels, 3),
    180: lambda pixels: np.rot90(pixels, 2),
    270: lambda pixels: np.rot90(pixels, 1),
    -1: lambda pixels: pixels[:, ::-1],
    -2: lambda pixels: pixels[::-1],
}
"""Degrees clockwise; -1 is mirrored left to right and -2 top to bottom."""


def _turned(compared: Compared, _: Mask) -> float:
    """Which of `TURNS` the answer is; NaN when it is none of them."""
    height, width = compared.answer.shape[:2]
    scale = min(1.0, MATCH / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    answer = _small_grey(compared.answer, size)
    gaps = {}
    for turn, apply in TURNS.items():
        turned = np.ascontiguousarray(apply(compared.source))
        if abs(turned.shape[1] / turned.shape[0] - width / height) < 0.05:
            gaps[turn] = float(np.abs(_small_grey(turned, size) - answer).mean())
    best = min(gaps, key=lambda turn: gaps[turn], default=None)
    return math.nan if best is None or gaps[best] > 10 else float(best)


def _tilt(compared: Compared, _: Mask) -> float:
    """Degrees clockwise by which the answer was turned, within 12, allowing that it was cropped."""
    side = 160
    source, answer = (_small_grey(picture, (side, side)) for picture in (compared.source, compared.after))
    height, width = compared.source.shape[:2]
    edge = slice(side // 4, side - side // 4)
    best = (math.inf, 0.0)
    for zoom in (1.0, 1.04, 1.08, 1.13, 1.2):
        for degrees in np.arange(-12, 12.1, 0.5):
            # The square is stretched from the picture's shape: turn in the picture's own shape.
            cos, sin = math.cos(math.radians(degrees)) / zoom, math.sin(math.radians(degrees)) / zoom
            matrix = np.array([[cos, sin * height / width], [-sin * width / height, cos]])
            centre = np.array([(side - 1) / 2, (side - 1) / 2])
            offset = centre - matrix @ centre
            inverse = np.column_stack([matrix, offset])
            turned = cv2.warpAffine(source, inverse, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            gap = float(np.abs(turned[edge, edge] - answer[edge, edge]).mean())
            best = min(best, (gap, float(degrees)))
    return best[1]


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the source that an answer shows best, in shares of its width and height, and the correlation with it."""

    score: float
    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


def find_window(compared: Compared) -> Window:
    """Where in the source the answer is cropped from, at the source's scale or enlarged up to 3.4 times."""
    height, width = compared.source.shape[:2]
    rows, columns = compared.answer.shape[:2]
    scale = min(1.0, MATCH / max(height, width))
    source = _small_grey(compared.source, (round(width * scale), round(height * scale))).astype(np.float32)
    whole = source.shape
    best = Window(0.0)
    for enlarged in 1.05 ** np.arange(26):
        size = (round(columns * scale / enlarged), round(rows * scale / enlarged))
        if size[0] > whole[1] or size[1] > whole[0] or min(size) < 12:
            continue
        answer = _small_grey(compared.answer, size).astype(np.float32)
        match = cv2.matchTemplate(source, answer, cv2.TM_CCOEFF_NORMED)
        _, score, _, (x, y) = cv2.minMaxLoc(match)
        if score > best.score:
            edges = (x / whole[1], y / whole[0], (x + size[0]) / whole[1], (y + size[1]) / whole[0])
            best = Window(float(score), *edges)
    return best


def _window(compared: Compared, _: Mask) -> float:
    """How well the answer matches a window of the source: 1 for a crop."""
    return compared.window.score


def _kept(compared: Compared, _: Mask) -> float:
    """The share of the source that is in the crop."""
    window = compared.window
    return (window.right - window.left) * (window.bottom - window.top)


def _framed(compared: Compared, mask: Mask) -> float:
    """The share of a region that is in the crop."""
    window = compared.window
    height, width = mask.shape
    rows = slice(round(window.top * height), round(window.bottom * height))
    columns = slice(round(window.left * width), round(window.right * width))
    return float(mask[rows, columns].sum() / max(mask.sum(), 1))


def _width(compared: Compared, _: Mask) -> float:
    return float(compared.answer.shape[1] / compared.source.shape[1])


def _aspect(compared: Compared, _: Mask) -> float:
    return float(compared.answer.shape[1] / compared.answer.shape[0])


MEASURES: Final[dict[str, Callable[[Compared, Mask], float]]] = {
    "L": _shift(0),
    "a": _shift(1),
    "b": _shift(2),
    "C": _chroma_shift,
    "Cratio": _chroma_ratio,
    "chroma": _chroma_now,
    "hue": _hue,
    "spread": _spread,
    "stops": _stops,
    "contrast": _contrast,
    "p10": _percentile(10),
    "p90": _percentile(90),
    "detail": _detail,
    "blur": _blur,
    "grain": _grain,
    "vignette": _vignette,
    "rim": _rim,
    "rimlight": _rim_light,
    "rimhue": _rim_hue,
    "rimwidth": _rim_width,
    "inklight": _ink_light,
    "inkhue": _ink_hue,
    "marked": _marked,
    "reached": _reached,
    "levels": _levels,
    "delta": _delta,
    "turned": _turned,
    "tilt": _tilt,
    "window": _window,
    "width": _width,
    "kept": _kept,
    "framed": _framed,
    "aspect": _aspect,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A check, what was measured, and whether that fulfils it."""

    check: Check
    value: float
    fulfilled: bool

    def __str__(self) -> str:
        return f"{self.check.measure} {self.check.region} {self.value:.2f}, wanted {self.check.relation} {self.check.limit:g}"


def read(check: Check, compared: Compared, mask: Mask) -> Reading:
    """Measure one check."""
    value = MEASURES[check.measure](compared, mask)
    return Reading(check, value, _fulfilled(check, value))


def _fulfilled(check: Check, value: float) -> bool:
    if math.isnan(value):
        return False
    if check.relation == "~":
        return abs((value - check.limit + 180) % 360 - 180) <= HUE_TOLERANCE
    if check.relation == "!":
        return abs(value) >= check.limit
    if check.relation == "=":
        return value == check.limit
    return value < check.limit if check.relation == "<" else value > check.limit

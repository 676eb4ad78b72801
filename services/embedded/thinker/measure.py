"""What can be read off one picture: tone, colour, texture, light and layout.

Tone and colour are read on the thumb in five *zones*: the picture's own pixels in order
of lightness (the darkest twelfth, the shadows, the middle, the highlights, the
lightest twelfth). A zone's mean L*, a* and b* say at once where black and white points sit,
how steep the tone curve is and how shadows and highlights are tinted, and they stay
meaningful when the picture is mirrored or cropped.

Texture is read on the frame, in units of L*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from services.embedded.thinker.pixels import Floats, Picture, to_linear

ZONES = (0.0, 0.08, 0.30, 0.70, 0.92, 1.0)
"""Bounds of the five tone zones as shares of the pixels in order of lightness."""

# Squared distances from the centre (1 in the corners) that bound parts of the frame.
_CORNERS, _CENTRE, _RING, _CORE = 0.55, 0.18, 0.42, 0.12
_BLOCK = 16  # side of the blocks in which noise is measured
_FEW = 4  # blocks that say too little
_ENDS = (6.0, 94.0)  # L* beyond which noise is clipped
_NO_STEP = 0.15  # L* between neighbours that no eye sees


@dataclass(frozen=True)
class Tone:
    """Tone and colour of a thumb.

    `zones` is (5, 3): mean (L*, a*, b*) from black to white. `spread` is the mean
    distance of a pixel's (a*, b*) from the picture's mean (a*, b*): how colourful the
    content is whatever the cast. `corner`, `top` and `left` are differences of mean L*:
    corners less centre, top less bottom, left less right. `haze` is the mean dark channel (0..1, He et al. 2009).
    """

    zones: Floats = field(repr=False)
    mean: Floats
    contrast: float
    spread: float
    chroma: float
    corner: float
    top: float
    left: float
    haze: float

    def vector(self) -> Floats:
        """The figures the tone control works on, in the order of `WEIGHTS`."""
        rest = np.array([self.spread, self.corner, self.top, self.left], dtype=np.float32)
        return np.concatenate([self.zones.reshape(-1), rest])


@dataclass(frozen=True)
class Texture:
    """Fine structure of a frame, in L* units.

    `grain` is the standard deviation of the noise in the flattest quarter of the
    picture; `fine`, `medium` and `coarse` are the mean absolute detail below about 2, 6
    and 20 pixels; `edge` and `centre` are `fine` in the outer ring and the middle.
    `flat` is the share of pixels without any gradient, `levels` the number of lightness
    levels in use (of 200), `chunky` how much of the picture sits on a coarse pixel lattice.
    """

    grain: float
    fine: float
    medium: float
    coarse: float
    edge: float
    centre: float
    flat: float
    levels: int


def tone_of(thumb: Floats) -> Tone:
    """Tone and colour of a (h, w, 3) CIELAB thumb."""
    pixels = thumb.reshape(-1, 3)
    vector = tone_vector(thumb)
    return Tone(
        zones=vector[:15].reshape(5, 3),
        mean=pixels.mean(axis=0),
        contrast=float(pixels[:, 0].std()),
        spread=float(vector[15]),
        chroma=float(np.hypot(pixels[:, 1], pixels[:, 2]).mean()),
        corner=float(vector[16]),
        top=float(vector[17]),
        left=float(vector[18]),
        haze=_dark_channel(thumb),
    )


def tone_vector(thumb: Floats) -> Floats:
    """The 19 figures of `Tone.vector` alone, for the many thumbs that the control tries."""
    height, width = thumb.shape[:2]
    pixels = thumb.reshape(-1, 3)
    zone_means, layout = _averages(height, width)
    zones = zone_means @ pixels[np.argsort(pixels[:, 0], kind="stable")]
    off = pixels[:, 1:] - pixels[:, 1:].mean(axis=0)
    spread = np.sqrt((off * off).sum(axis=1)).mean()
    out: Floats = np.concatenate([zones.reshape(-1), spread[None], layout @ np.ascontiguousarray(pixels[:, 0])])
    return out


@lru_cache(maxsize=64)
def _averages(height: int, width: int) -> tuple[Floats, Floats]:
    """Averages over the zones (5, n) of pixels in order of lightness, and the corner, top and left
    differences (3, n) of pixels in place, as matrices.
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
def radius_squared(height: int, width: int) -> Floats:
    """Squared distance from the centre, 0 there and 1 in the very corners, (h, w)."""
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * 2.0 - 1.0
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2.0 - 1.0
    square: Floats = ((y[:, None] ** 2 + x[None, :] ** 2) / 2.0).astype(np.float32)
    # Shared by the cache: nobody may write to it.
    square.setflags(write=False)
    return square


def _dark_channel(thumb: Floats) -> float:
    """Mean over the picture of the darkest colour value around each pixel, 0..1."""
    least = to_linear(thumb).min(axis=2)
    dark = cv2.erode(least, np.ones((5, 5), dtype=np.uint8))
    return float(np.mean(np.asarray(dark) ** (1 / 2.2)))


def texture_of(frame: Floats) -> Texture:
    """Fine structure of a (h, w, 3) CIELAB frame."""
    light = np.ascontiguousarray(frame[..., 0])
    small = cv2.GaussianBlur(light, (0, 0), 1.2)
    middle = cv2.GaussianBlur(light, (0, 0), 4.0)
    wide = cv2.blur(middle, (41, 41))
    detail = np.abs(light - small)
    square = radius_squared(*light.shape)
    ring, inner = square > _RING, square < _CORE
    down = np.abs(np.diff(light, axis=0))
    return Texture(
        grain=grain_of(light),
        fine=float(detail.mean()),
        medium=float(np.abs(small - middle).mean()),
        coarse=float(np.abs(middle - wide).mean()),
        edge=float(detail[ring].mean()) if ring.any() else float(detail.mean()),
        centre=float(detail[inner].mean()) if inner.any() else float(detail.mean()),
        flat=float((down < _NO_STEP).mean()) if down.size else 1.0,
        levels=_levels(light),
    )


def grain_of(light: Floats) -> float:
    """Standard deviation of the noise in an (h, w) lightness plane.

    Immerkaer's mask (CVIU 64, 1996) cancels planes and straight edges; the quarter of
    the 16 x 16 blocks that are flattest are noise and little else. Blocks at the ends
    of the scale, where noise is clipped away, do not count.
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


def _levels(light: Floats) -> int:
    """How many half-L* steps hold a noticeable share of the pixels."""
    counts, _ = np.histogram(light, bins=200, range=(0.0, 100.0))
    return int((counts > 0.0005 * light.size).sum())


@dataclass(frozen=True)
class Reading:
    """Everything measured on one picture alone."""

    tone: Tone
    texture: Texture


def read(picture: Picture) -> Reading:
    """Measure one picture."""
    return Reading(tone=tone_of(picture.thumb), texture=texture_of(picture.frame))

"""Masks of the regions that an instruction names, each shown to be right by a check of its own, or refused.

A side of the frame and a range of tones are right by definition. A range of hues must be told clearly from its neighbours, a
coloured thing must be one connected part, and a sky must be blue, smooth, at the top, bounded by edges, and found by a second
method as well.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from services.embedded.cielab import F32, U8, colour_to_lab, f32, rgb_to_lab
from services.embedded.filters import each_strip, gaussian, guided, resized, shrunk, smoothstep
from services.embedded.instructions.colour_names import Colour
from services.embedded.instructions.operations import Area, Region, Term

_GREY_CHROMA = 12.0  # a named colour below this chroma is matched by lightness, not by hue
# The ranges of CIELAB hue angles that plain colour names cover; they are uneven, blue is the widest.
_NAMED_HUES = {
    "red": (4, 41),
    "orange": (44, 80),
    "gold": (72, 100),
    "yellow": (84, 114),
    "green": (112, 176),
    "teal": (176, 224),
    "cyan": (180, 232),
    "blue": (226, 312),
    "purple": (306, 338),
    "violet": (304, 338),
    "magenta": (324, 354),
    "pink": (338, 380),
}
_HALF_RANGE = 15.0  # degrees to each side of any other colour's own hue
_SOFT, _SOFT_WARM = 11.0, 7.0  # degrees over which a range fades out; red and orange are close
_WARM = (-30.0, 100.0)  # hue angles of skin, wood and brick, which nobody means by "the reds"
_WORK_SIDE = 256  # longer side of the copy on which regions are checked
_FEWEST = 0.004  # share of the picture below which a region counts as absent
_UNCLEAR = 0.5  # share of a hue's mask that may be half in it
_ONE_PART = 0.72  # share of a mask that its largest part must hold, for a thing
_SKY_SHARES = (0.04, 0.9)
_SKY_TOP = 0.35  # share of the top edge that a sky touches
_SKY_BLUE = -7.0  # b* below which a pixel may be blue sky
_SKY_LIGHT = 30.0
_SKY_CALM = 14.0  # Sobel of L*
_EDGE_RATIO = 2.0  # gradient at the sky's outline against that inside
_AGREE = 0.85  # intersection over union of the two methods
_SEED = 7


class UnclearRegionError(ValueError):
    """The region is not in the picture, or cannot be told from the rest; the message says which."""


class Regions:
    """The masks of one picture (H, W, 3 sRGB code values), found once each."""

    def __init__(self, source: U8) -> None:
        self._source = source
        self._found: dict[Region, F32] = {}

    def mask(self, region: Region) -> F32 | None:
        """The mask (H, W), 0 to 1, of a region; None for the whole picture.

        Raises:
            UnclearRegionError: a check of the region failed.
        """
        if not region.terms:
            return None
        if region not in self._found:
            mask = np.maximum.reduce([self._term(term) for term in region.terms])
            self._found[region] = outside(mask) if region.inverted else mask
        return self._found[region]

    def _term(self, term: Term) -> F32:
        if term.area is Area.HUE and term.colour is not None:
            return self._hue(term.colour, term.thing)
        if term.area is Area.SKY:
            return sky(self._source)
        if term.area in (Area.SHADOWS, Area.MIDTONES, Area.HIGHLIGHTS):
            return self._of_lab(lambda lab: tone_range(lab[..., 0], term.area))
        return side(self._source.shape[0], self._source.shape[1], term.area)

    def _of_lab(self, measure: Callable[[F32], F32]) -> F32:
        """A mask made from CIELAB in strips, without noise of single pixels."""
        calm = cv2.GaussianBlur(self._source, (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE).reshape(self._source.shape)
        mask = np.empty(calm.shape[:2], dtype=np.float32)

        def fill(rows: slice) -> None:
            mask[rows] = measure(rgb_to_lab(calm[rows].astype(np.uint8)))

        each_strip(mask.shape[0], mask.shape[1], fill)
        return mask

    def _hue(self, colour: Colour, thing: str) -> F32:
        mask = self._of_lab(lambda lab: hue_range(lab, colour))
        small = shrunk(mask, _WORK_SIDE)
        named = f"the {colour} {thing}" if thing else f"the range of {colour}"
        if float(small.mean()) < _FEWEST:
            raise UnclearRegionError(f"{named} was not found in the picture")
        unclear = float((small * ((small > 0.1) & (small < 0.75))).sum() / max(1e-6, float(small.sum())))  # noqa: PLR2004
        if unclear > _UNCLEAR:
            raise UnclearRegionError(f"{named} cannot be told from the colours next to it in this picture")
        return self._one_part(mask, small, named) if thing else mask

    def _one_part(self, mask: F32, small: F32, named: str) -> F32:
        """The mask of a coloured thing: that of its largest part, if nearly all of the colour is in it."""
        joined = cv2.morphologyEx((small > 0.5).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))  # noqa: PLR2004
        count, parts = cv2.connectedComponents(joined)
        weights = np.bincount(parts.ravel(), weights=small.ravel(), minlength=max(2, count))
        weights[0] = 0
        if weights.max() < _ONE_PART * float(small.sum()):
            message = (
                f"{named} is not one connected part, so it cannot be told apart by its colour; name all of that colour instead"
            )
            raise UnclearRegionError(message)
        largest = (parts == int(weights.argmax())).astype(np.uint8)
        near = cv2.dilate(largest, np.ones((7, 7), np.uint8)).astype(np.float32)
        return mask * resized(near, (mask.shape[1], mask.shape[0]))


def outside(mask: F32) -> F32:
    """What a region leaves to the rest of the picture: nothing at all where it is likelier in the region than not."""
    return 1 - smoothstep(0.1, 0.5, mask)


def hue_range(lab: F32, colour: Colour) -> F32:
    """How much each pixel (H, W) of CIELAB has the hue that a colour's name covers, 0 to 1; of greys, the lightness."""
    lightness, green_red, blue_yellow = colour_to_lab(colour.rgb)
    chroma, angle = cv2.cartToPolar(lab[..., 1].copy(), lab[..., 2].copy(), angleInDegrees=True)
    own_chroma = float(np.hypot(green_red, blue_yellow))
    if own_chroma < _GREY_CHROMA:
        near = 1 - smoothstep(14, 30, np.abs(lab[..., 0] - np.float32(lightness)))
        return near * (1 - smoothstep(8, 16, f32(chroma)))
    own = float(np.degrees(np.arctan2(blue_yellow, green_red)))
    low, high = _NAMED_HUES.get(colour.name, (own - _HALF_RANGE, own + _HALF_RANGE))
    middle = (low + high) / 2
    away = np.abs((angle.reshape(chroma.shape) - middle + 180) % 360 - 180) - (high - low) / 2
    warm = _WARM[0] <= (middle + 180) % 360 - 180 <= _WARM[1]
    # A pale colour's own name covers it: pink is less vivid than skin may be.
    quiet, vivid = (30, 46) if warm else (11, 25)
    pale = min(1.0, 0.8 * own_chroma / vivid)
    return (1 - smoothstep(0, _SOFT_WARM if warm else _SOFT, f32(away))) * smoothstep(pale * quiet, pale * vivid, f32(chroma))


def tone_range(lightness: F32, area: Area) -> F32:
    """How much each pixel (H, W) of L* belongs to the shadows, midtones or highlights, 0 to 1."""
    if area is Area.SHADOWS:
        return 1 - smoothstep(22, 58, lightness)
    if area is Area.HIGHLIGHTS:
        return smoothstep(48, 82, lightness)
    return smoothstep(10, 40, lightness) * (1 - smoothstep(60, 90, lightness))


def side(height: int, width: int, area: Area) -> F32:
    """A soft mask (H, W) of one side of the frame, its centre or its edges, 0 to 1."""
    down = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    across = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    if area in (Area.CENTRE, Area.EDGES):
        distance = np.sqrt((2 * down - 1) ** 2 / 2 + (2 * across - 1) ** 2 / 2)
        edges = smoothstep(0.2, 0.9, f32(distance))
        return edges if area is Area.EDGES else 1 - edges
    ramp = {Area.TOP: down, Area.BOTTOM: 1 - down, Area.LEFT: across, Area.RIGHT: 1 - across}[area]
    return np.ascontiguousarray(np.broadcast_to(1 - smoothstep(0.05, 0.65, f32(ramp)), (height, width)))


def sky(source: U8) -> F32:
    """How much each pixel (H, W) belongs to a blue sky at the top, with the picture's own edges, 0 to 1.

    Raises:
        UnclearRegionError: no such sky, or one that the checks do not confirm.
    """
    height, width = source.shape[:2]
    small = shrunk(source, _WORK_SIDE)
    shrink = width / small.shape[1]
    lab = rgb_to_lab(small)
    found, busy = _sky_candidate(lab)
    share = float(found.mean())
    if not _SKY_SHARES[0] < share < _SKY_SHARES[1] or found[: max(1, len(found) // 40)].any(axis=0).mean() < _SKY_TOP:
        raise UnclearRegionError("no blue sky was found at the top of the picture")
    if not _bounded(found, busy) or _agreement(small, found) < _AGREE:
        raise UnclearRegionError("the sky cannot be told from the rest of the picture with certainty")
    plane = resized(gaussian(f32(found), 1.0), (width, height))
    grey = f32(cv2.cvtColor(source, cv2.COLOR_RGB2GRAY)) / np.float32(255)
    radius = max(2.0, 4 * shrink)
    fitted = guided(grey, plane, radius, 1e-3, step=max(1, int(radius // 4)))
    return smoothstep(0.12, 0.88, np.clip(fitted, 0, 1))


def _sky_candidate(lab: F32) -> tuple[NDArray[np.bool_], F32]:
    """Where a small picture is blue, smooth and connected to the top edge; and its gradient."""
    lightness = np.ascontiguousarray(lab[..., 0])
    across = cv2.Sobel(lightness, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REPLICATE)
    down = cv2.Sobel(lightness, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REPLICATE)
    busy = gaussian(f32(np.hypot(across, down)), 1.0)
    blue = (lab[..., 2] < _SKY_BLUE) & (np.abs(lab[..., 1]) < -1.2 * lab[..., 2]) & (lab[..., 0] > _SKY_LIGHT)
    likely = cv2.morphologyEx((blue & (busy < _SKY_CALM)).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts = cv2.connectedComponents(likely, connectivity=4)
    top = parts[: max(1, len(parts) // 50)]
    at_top = [part for part in np.unique(top) if part]
    grown = cv2.dilate(np.isin(parts, at_top).astype(np.uint8), np.ones((3, 3), np.uint8))
    return (grown > 0) & blue, busy


def _bounded(found: NDArray[np.bool_], busy: F32) -> bool:
    """Whether edges of the picture bound the region (a sky that fills the frame to the bottom has none)."""
    inner = cv2.erode(found.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1) > 0
    outer = cv2.dilate(found.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    rim = outer & ~inner
    return bool(inner.any() and rim.any() and busy[rim].mean() > _EDGE_RATIO * max(0.3, float(busy[inner].mean())))


def _agreement(small: U8, found: NDArray[np.bool_]) -> float:
    """Intersection over union with what grab-cut finds from the region's certain inside."""
    labels = np.full(found.shape, cv2.GC_PR_BGD, dtype=np.uint8)
    labels[found] = cv2.GC_PR_FGD
    labels[cv2.erode(found.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1) > 0] = cv2.GC_FGD
    labels[cv2.dilate(found.astype(np.uint8), np.ones((31, 31), np.uint8)) == 0] = cv2.GC_BGD
    if not ((labels == cv2.GC_FGD).any() and (labels == cv2.GC_BGD).any()):
        return 0.0
    cv2.setRNGSeed(_SEED)  # OpenCV's generator is per thread; seeding it makes the result deterministic
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(small), labels, (0, 0, 1, 1), *models, 3, cv2.GC_INIT_WITH_MASK)
    second = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return float((found & second).sum() / max(1, int((found | second).sum())))

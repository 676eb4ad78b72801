"""Masks of the regions that an instruction names. Subject and sky are segmented without weights.

The subject is found by saliency with a centre prior and grab-cut on a small copy, with edges from the full picture.
"""

from __future__ import annotations

from functools import cached_property
from typing import cast

import cv2
import numpy as np

from services.embedded.editor.colour_names import Colour
from services.embedded.editor.colour_spaces import F32, U8, colour_to_lab, f32, rgb_to_lab
from services.embedded.editor.filters import gaussian, guided, smoothstep
from services.embedded.editor.picture import lab_of
from services.embedded.editor.plan import Area, Region, Term

_GREY_CHROMA = 12.0  # a named colour below this chroma is matched by lightness, not by hue
# The ranges of CIELAB hue angles that plain colour names cover; they are uneven, blue is the widest.
_NAMED_HUES = {
    "red": (8, 44),
    "orange": (46, 82),
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
_SOFT = 11.0  # degrees over which a range fades out
_NOTHING = 1e-4  # a mask with a smaller mean counts as empty
_WORK_SIDE = 256  # longer side of the copy on which regions are found
_ROUNDS = 4
_SMALLEST = 12  # pixels on a side below which nothing is segmented
_SEED = 7
_FEWEST, _MOST = 0.01, 0.9  # shares of the picture between which a region is plausible
# The sky in CIELAB: bluish and neither purple nor night, or pale; and smooth (Sobel of L*).
_BLUE_BELOW, _NOT_PURPLE, _NOT_NIGHT = -5, 25, 25
_PALE_ABOVE, _PALE_CHROMA = 72, 22
_CALM = 22
_TOP_SHARE = 0.05  # share of the top edge that a part must touch


class Masks:
    """The masks of one picture, computed on its source and cached for one edit."""

    def __init__(self, source: U8) -> None:
        self._source = source
        self._found: dict[Region, F32] = {}

    def region(self, region: Region) -> F32 | None:
        """The mask (H, W), 0 to 1, of a region; None for the whole picture."""
        if not region.terms:
            return None
        if region not in self._found:
            mask = np.zeros(self._source.shape[:2], dtype=np.float32)
            for term in region.terms:
                mask = np.maximum(mask, self._term(term))
            self._found[region] = 1 - mask if region.inverted else mask
        return self._found[region]

    def is_empty(self, region: Region) -> bool:
        """Whether the region names something that is not in the picture ("the sky" of an indoor shot)."""
        mask = self.region(Region(region.terms))
        return mask is not None and float(mask.mean()) < _NOTHING

    def _term(self, term: Term) -> F32:
        if term.area is Area.HUE and term.colour is not None:
            return self._hue(term.colour)
        if term.area is Area.SUBJECT:
            return self._subject
        if term.area is Area.BACKGROUND:
            return 1 - self._subject
        if term.area is Area.SKY:
            return sky_matte(self._source)
        if term.area in (Area.SHADOWS, Area.MIDTONES, Area.HIGHLIGHTS):
            return self._tones(term.area)
        return self._part(term.area)

    @cached_property
    def _subject(self) -> F32:
        return subject_matte(self._source)

    @cached_property
    def _lab(self) -> F32:
        return lab_of(self._source)

    def _hue(self, colour: Colour) -> F32:
        lightness, green_red, blue_yellow = colour_to_lab(colour.rgb)
        lab = gaussian(self._lab, 0.8)
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        if np.hypot(green_red, blue_yellow) < _GREY_CHROMA:
            near = 1 - smoothstep(14, 30, np.abs(lab[..., 0] - np.float32(lightness)))
            return near * (1 - smoothstep(10, 22, chroma))
        own = float(np.degrees(np.arctan2(blue_yellow, green_red)))
        low, high = _NAMED_HUES.get(colour.name, (own - _HALF_RANGE, own + _HALF_RANGE))
        angle = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) - (low + high) / 2
        away = np.abs((angle + 180) % 360 - 180).astype(np.float32) - np.float32((high - low) / 2)
        return (1 - smoothstep(0, _SOFT, away)) * smoothstep(10, 24, chroma)

    def _tones(self, area: Area) -> F32:
        lightness = self._lab[..., 0]
        if area is Area.SHADOWS:
            return 1 - smoothstep(22, 58, lightness)
        if area is Area.HIGHLIGHTS:
            return smoothstep(48, 82, lightness)
        return smoothstep(10, 40, lightness) * (1 - smoothstep(60, 90, lightness))

    def _part(self, area: Area) -> F32:
        height, width = self._source.shape[:2]
        down = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
        across = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
        if area in (Area.CENTRE, Area.EDGES):
            distance = np.sqrt((2 * down - 1) ** 2 / 2 + (2 * across - 1) ** 2 / 2)
            edges = smoothstep(0.2, 0.9, distance)
            return edges if area is Area.EDGES else 1 - edges
        ramp = {Area.TOP: down, Area.BOTTOM: 1 - down, Area.LEFT: across, Area.RIGHT: 1 - across}[area]
        return np.ascontiguousarray(np.broadcast_to(1 - smoothstep(0.05, 0.65, ramp), (height, width)))


def subject_matte(source: U8) -> F32:
    """How much each pixel (H, W) belongs to the main subject, 0 to 1, with soft edges along the picture's own.

    Pictures too small or too thin to segment give the centre. Deterministic for the same pixels.
    """
    small, lab = _small(source)
    height, width = small.shape[:2]
    prior = _centre_prior(height, width)
    if min(height, width) < _SMALLEST:
        return _enlarge(prior, source)
    score = _saliency(lab) * (0.25 + 0.75 * prior) + 0.45 * prior
    score /= max(1e-6, float(score.max()))
    matte = _largest_parts(_cut(small, score), prior)
    share = float(matte.mean())
    if not _FEWEST < share < _MOST:
        matte = smoothstep(0.35, 0.6, prior)
    return _enlarge(matte, source)


def sky_matte(source: U8) -> F32:
    """How much each pixel (H, W) belongs to the sky: the smooth, bluish or bright area at the top edge."""
    small, lab = _small(source)
    lightness = np.ascontiguousarray(lab[..., 0])
    across = cv2.Sobel(lightness, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REPLICATE)
    down = cv2.Sobel(lightness, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REPLICATE)
    busy = gaussian(np.hypot(across, down).astype(np.float32), 1.5)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    blue = (lab[..., 2] < _BLUE_BELOW) & (lab[..., 1] < _NOT_PURPLE) & (lightness > _NOT_NIGHT)
    pale = (lightness > _PALE_ABOVE) & (chroma < _PALE_CHROMA)
    likely = ((blue | pale) & (busy < _CALM)).astype(np.uint8)
    likely = cast(U8, cv2.morphologyEx(likely, cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8)))
    _, parts = cv2.connectedComponents(likely, connectivity=4)
    top_rows = parts[: max(1, len(small) // 50)]
    at_top = [part for part in np.unique(top_rows) if part and (top_rows == part).any(axis=0).mean() > _TOP_SHARE]
    sky = np.isin(parts, at_top).astype(np.float32)
    if sky.mean() < _FEWEST:
        return np.zeros(source.shape[:2], dtype=np.float32)
    return _enlarge(sky, source)


def _small(source: U8) -> tuple[U8, F32]:
    height, width = source.shape[:2]
    shrink = max(1.0, max(height, width) / _WORK_SIDE)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    small = source if shrink == 1 else cast(U8, cv2.resize(source, size, interpolation=cv2.INTER_AREA))
    return small, rgb_to_lab(small)


def _centre_prior(height: int, width: int) -> F32:
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] if height > 1 else np.zeros((1, 1), dtype=np.float32)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :] if width > 1 else np.zeros((1, 1), dtype=np.float32)
    return cast(F32, np.exp(-1.4 * (down * down + across * across)).astype(np.float32))


def _saliency(lab: F32) -> F32:
    """How unlike the border a pixel is, in colour and lightness: its distance to the nearest of the border's colours."""
    height, width = lab.shape[:2]
    rim = max(2, round(0.06 * min(height, width)))
    # The lower edge is left out: subjects often stand on it.
    border = np.concatenate([lab[:rim].reshape(-1, 3), lab[:, :rim].reshape(-1, 3), lab[:, -rim:].reshape(-1, 3)])
    palette = _palette(border, 6)
    pixels = gaussian(lab, 1.5).reshape(-1, 3)
    nearest = np.full(len(pixels), np.inf, dtype=np.float32)
    for colour in palette:
        difference = pixels - colour
        difference[:, 0] *= 0.7
        nearest = np.minimum(nearest, np.sqrt((difference * difference).sum(axis=1)))
    salient = np.clip(nearest / 45, 0, 1).reshape(height, width)
    return gaussian(f32(salient), 0.02 * max(height, width))


def _palette(pixels: F32, count: int) -> F32:
    cv2.setRNGSeed(_SEED)  # OpenCV's generator is per thread; seeding it before each use makes the result deterministic
    count = min(count, len(pixels))
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 12, 0.5)
    start = np.zeros((len(pixels), 1), dtype=np.int32)
    _, _, centres = cv2.kmeans(np.ascontiguousarray(pixels), count, start, criteria, 1, cv2.KMEANS_PP_CENTERS)
    return cast(F32, centres)


def _cut(small: U8, score: F32) -> F32:
    """Grab-cut, initialised with four levels of the score."""
    likely, certain = np.quantile(score, 0.6), np.quantile(score, 0.82)
    labels = np.full(score.shape, cv2.GC_PR_BGD, dtype=np.uint8)
    labels[score > likely] = cv2.GC_PR_FGD
    labels[score > certain] = cv2.GC_FGD
    labels[score < np.quantile(score, 0.22)] = cv2.GC_BGD
    rim = max(1, round(0.015 * min(score.shape)))
    labels[:rim], labels[:, :rim], labels[:, -rim:] = cv2.GC_BGD, cv2.GC_BGD, cv2.GC_BGD
    if not ((labels == cv2.GC_FGD).any() and (labels == cv2.GC_BGD).any()):
        return f32(score > likely)
    cv2.setRNGSeed(_SEED)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(small), labels, (0, 0, 1, 1), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return f32((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _largest_parts(matte: F32, prior: F32) -> F32:
    """The parts with at least a fifth of the weight of the main one (weighted by the prior), without gaps and holes."""
    side = max(3, round(0.07 * max(matte.shape)) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    padded = np.pad(matte.astype(np.uint8), side, mode="edge")
    binary = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[side:-side, side:-side]
    binary = cv2.morphologyEx(binary, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    outlines, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    binary = cv2.drawContours(np.zeros_like(binary), outlines, -1, 1, cv2.FILLED)
    count, parts = cv2.connectedComponents(binary)
    weights = np.bincount(parts.ravel(), weights=prior.ravel(), minlength=count)
    weights[0] = 0
    if weights.max() <= 0:
        return matte
    selected = np.flatnonzero(weights >= 0.2 * weights.max())
    return np.isin(parts, selected).astype(np.float32)


def _enlarge(matte: F32, source: U8) -> F32:
    """The small matte at full size, its edges aligned with those of the picture by a guided filter."""
    height, width = source.shape[:2]
    grey = (source @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32) / 255).astype(np.float32)
    wide = cast(F32, cv2.resize(gaussian(matte, 1.0), (width, height), interpolation=cv2.INTER_LINEAR))
    shrink = max(height, width) / max(matte.shape)
    radius = max(2.0, 4 * shrink)
    fitted = guided(grey, wide, radius, 1e-3, step=max(1, int(radius // 4)))
    return smoothstep(0.12, 0.88, np.clip(fitted, 0, 1))

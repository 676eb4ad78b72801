"""From the words of a region to a mask on the picture."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from services.embedded.editor.colorimetry import F32, U8, colour_to_lab
from services.embedded.editor.filters import gaussian, smoothstep
from services.embedded.editor.palette import Colour
from services.embedded.editor.picture import lab_of
from services.embedded.editor.plan import Area, Region, Term
from services.embedded.editor.segmentation import sky_matte, subject_matte

_GREY_CHROMA = 12.0  # a named colour below this chroma is matched by lightness, not by hue
# What people call by a plain name, as CIELAB hue angles: names cover uneven ranges, blue the widest.
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
_NOTHING = 1e-4  # a mask whose mean is below this points at nothing in the picture


class Masks:
    """Masks of one picture, found on its source and kept for the length of one edit."""

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

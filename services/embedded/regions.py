"""Masks of the regions that an instruction names: sides of the frame, ranges of tones and ranges of hues.

All are right by definition, as in the panels of photo editors; a range of hues must also be in the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

from services.embedded.cielab import F32, U8, colour_to_lab, f32, rgb_to_lab
from services.embedded.filters import smoothstep
from services.embedded.instructions.colour_names import Colour
from services.embedded.instructions.operations import TONES, Area, Region, Term
from services.embedded.strips import each_strip

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
_SOFT, _SOFT_WARM = 11.0, 7.0  # degrees over which a range fades out; red and orange are close
_WARM = (-30.0, 100.0)  # hue angles of skin, wood and brick, which nobody means by "the reds"
FEWEST = 0.004  # share of the picture below which a range of hues counts as absent


class UnclearRegionError(ValueError):
    """What should change is not in the picture, or not measured with certainty; the message says which."""


class Regions:
    """The masks of one picture (H, W, 3 sRGB code values), found once each."""

    def __init__(self, source: U8) -> None:
        self._source = source
        self._found: dict[Region, F32] = {}

    def mask(self, region: Region) -> F32 | None:
        """The mask (H, W), 0 to 1, of a region; None for the whole picture.

        Raises:
            UnclearRegionError: a colour is not in the picture.
        """
        if not region.terms:
            return None
        if region not in self._found:
            self._found[region] = _joined([self._term(term) for term in region.terms], region)
        return self._found[region]

    def _term(self, term: Term) -> F32:
        """The mask of one area; of tones and hues without noise of single pixels, and in strips."""
        height, width = self._source.shape[:2]
        if term.area is not Area.HUE and term.area not in TONES.values():
            return side(height, width, term.area)
        calm = cv2.GaussianBlur(self._source, (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE).reshape(self._source.shape)
        mask = np.empty((height, width), dtype=np.float32)

        def fill(rows: slice) -> None:
            mask[rows] = _term_in(rgb_to_lab(calm[rows].astype(np.uint8)), term)

        each_strip(height, width, fill)
        if term.area is Area.HUE and float(mask.mean()) < FEWEST:
            raise UnclearRegionError(f"{term.colour} was not found in the picture")
        return mask


def mask_in(lab: F32, region: Region) -> F32 | None:
    """The mask (H, W), 0 to 1, of a region of a picture in CIELAB (H, W, 3); None for the whole picture."""
    return _joined([_term_in(lab, term) for term in region.terms], region) if region.terms else None


def _joined(masks: list[F32], region: Region) -> F32:
    mask: F32 = np.maximum.reduce(masks)
    # Nothing at all is left to the rest of the picture where it is likelier in the region than not.
    return 1 - smoothstep(0.1, 0.5, mask) if region.inverted else mask


def _term_in(lab: F32, term: Term) -> F32:
    if term.colour is not None:
        return hue_range(lab, term.colour)
    if term.area in TONES.values():
        return tone_range(lab[..., 0], term.area)
    return side(lab.shape[0], lab.shape[1], term.area)


def hue_range(lab: F32, colour: Colour) -> F32:
    """How much each pixel (H, W) of CIELAB has the hue that a colour's name covers, 0 to 1."""
    chroma, angle = cv2.cartToPolar(lab[..., 1].copy(), lab[..., 2].copy(), angleInDegrees=True)
    low, high = _NAMED_HUES[colour.name]
    middle = (low + high) / 2
    away = np.abs((angle.reshape(chroma.shape) - middle + 180) % 360 - 180) - (high - low) / 2
    warm = _WARM[0] <= (middle + 180) % 360 - 180 <= _WARM[1]
    # A pale colour's own name covers it: pink is less vivid than skin may be.
    quiet, vivid = (30, 46) if warm else (11, 25)
    pale = min(1.0, 0.8 * float(np.hypot(*colour_to_lab(colour.rgb)[1:])) / vivid)
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

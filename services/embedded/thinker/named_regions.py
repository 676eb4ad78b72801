"""Named regions of a picture (top, sky, background, reds), as soft masks on the thumb."""

from __future__ import annotations

import numpy as np

from services.embedded.thinker.measurements import radius_squared
from services.embedded.thinker.pixels import Floats

# Squared distances from the centre, 1 in the corners.
_MIDDLE, _AROUND = 0.2, 0.42
_HUES = {"reds": 35.0, "oranges": 65.0, "yellows": 100.0, "greens": 140.0, "blues": 285.0, "purples": 320.0}


def hue_range(degrees: float) -> str:
    """The named range of hues nearest to an angle of the (a*, b*) plane."""
    return min(_HUES, key=lambda name: abs((_HUES[name] - degrees + 180.0) % 360.0 - 180.0))


def region_mask(name: str, thumb: Floats) -> Floats | None:
    """A (h, w) mask 0..1 of a named region of a (h, w, 3) CIELAB thumb, or None for an unknown name.

    The subject is taken to be in the middle and the background around it, as objects are not recognised.
    """
    height, width = thumb.shape[:2]
    if name in _HUES:
        hue = np.degrees(np.arctan2(thumb[..., 2], thumb[..., 1]))
        off = np.abs((hue - _HUES[name] + 180.0) % 360.0 - 180.0)
        colourful = np.clip(np.hypot(thumb[..., 1], thumb[..., 2]) / 15.0 - 0.3, 0.0, 1.0)
        return np.asarray(np.clip(1.8 - off / 25.0, 0.0, 1.0) * colourful, dtype=np.float32)
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    square = radius_squared(height, width)
    masks = {
        "top": 1.0 - down,
        "sky": 1.0 - down,
        "bottom": down,
        "left": 1.0 - across,
        "right": across,
    }
    if name in masks:
        return np.asarray(np.clip(masks[name] * 2.5 - 1.25, 0.0, 1.0), dtype=np.float32)
    if name in {"centre", "middle", "subject", "face"}:
        return (square < _MIDDLE).astype(np.float32)
    if name in {"background", "corners", "corner"}:
        return (square > _AROUND).astype(np.float32)
    return None

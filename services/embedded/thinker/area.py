"""The part of a picture that a mask lets an edit change, found in the picture that shows it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from services.embedded.cielab import U8
from services.embedded.thinker.pictures import flatten

_VEIL = 0.7  # as services.imaging.masks.overlay
_EVIDENT = 8.0  # levels by which a pixel as it is differs from a faded one, for it to tell which of them is shown


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in shares (0 to 1) of a picture's sides."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def of(self, pixels: U8) -> U8:
        """That part of a picture; at least one pixel."""
        height, width = pixels.shape[:2]
        left, top = min(int(self.left * width), width - 1), min(int(self.top * height), height - 1)
        right, bottom = max(left + 1, round(self.right * width)), max(top + 1, round(self.bottom * height))
        return np.ascontiguousarray(pixels[top:bottom, left:right])


def opened(source: U8, area: U8) -> Box:
    """The smallest rectangle around what may change; the whole picture where none is found.

    Args:
        area: the source with all that must stay grey and pale (`services.imaging.masks.overlay`), of any size.
    """
    shown = flatten(area).astype(np.float32)
    size = (shown.shape[1], shown.shape[0])
    plain = cv2.resize(flatten(source), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = plain @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    faded = (grey * (1 - _VEIL) + 255 * _VEIL)[..., None]
    kept = np.abs(shown - plain).max(axis=2) < np.abs(shown - faded).max(axis=2)
    evident = np.abs(plain - faded).max(axis=2) > _EVIDENT
    # Without single pixels, which scaling makes.
    found = cv2.morphologyEx((kept & evident).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8))
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    if not rows.size or not columns.size:
        return Box()
    return Box(columns[0] / size[0], rows[0] / size[1], (columns[-1] + 1) / size[0], (rows[-1] + 1) / size[1])

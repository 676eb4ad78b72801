"""The photographs of the benchmark, with crops and hand-drawn masks.

All are in scikit-image's wheel, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import cv2
import numpy as np

from benchmarks import outlines
from benchmarks.colorimetry import Picture, Pixels

FEATHER = 1.6


@dataclass(frozen=True)
class Photo:
    """One source picture.

    Attributes:
        name: its name in `benchmarks.cases`.
        pixels: eight-bit sRGB.
        subject: 0…1, the main person, animal or object, outlined by hand.
        accent: 0…1, the object that an instruction names ("the cup", "her suit"), outlined by hand.
    """

    name: str
    pixels: Pixels
    subject: Picture
    accent: Picture


Recipe = Callable[[Photo], Picture]
"""A function from a photograph to its target picture."""

# name: (file, crop as left, top, right, bottom or None for the whole frame)
FRAMES: dict[str, tuple[str, tuple[int, int, int, int] | None]] = {
    "astronaut": ("astronaut.png", None),
    "astronaut-face": ("astronaut.png", (70, 0, 360, 300)),
    "astronaut-shuttle": ("astronaut.png", (230, 0, 512, 360)),
    "cat": ("chelsea.png", None),
    "cat-eyes": ("chelsea.png", (90, 40, 400, 285)),
    "coffee": ("coffee.png", None),
    "coffee-cup": ("coffee.png", (130, 0, 490, 330)),
    "rocket": ("rocket.jpg", None),
    "rocket-pad": ("rocket.jpg", (60, 200, 600, 427)),
    "motorcycle": ("motorcycle_left.png", None),
    "motorcycle-front": ("motorcycle_left.png", (300, 60, 741, 480)),
    "garage": ("motorcycle_left.png", (0, 0, 620, 330)),
}


def names() -> list[str]:
    """The names of all photographs."""
    return list(FRAMES)


@cache
def photo(name: str) -> Photo:
    """One photograph by name, cropped, with its masks cropped alike."""
    file, crop = FRAMES[name]
    pixels = _read(file)
    left, top, right, bottom = crop or (0, 0, pixels.shape[1], pixels.shape[0])
    window = (slice(top, bottom), slice(left, right))
    subject = _drawn(outlines.SUBJECTS[file], pixels.shape[:2])
    accent = _drawn(outlines.ACCENTS[file], pixels.shape[:2])
    return Photo(name, pixels[window].copy(), subject[window].copy(), accent[window].copy())


def _read(file: str) -> Pixels:
    encoded = np.frombuffer((files("skimage.data") / file).read_bytes(), dtype=np.uint8)
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise FileNotFoundError(f"scikit-image's {file} cannot be decoded")
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)


def _drawn(shapes: tuple[outlines.Shape, ...], size: tuple[int, ...]) -> Picture:
    """The shapes, filled, with feathered edges."""
    plane = np.zeros((size[0], size[1]), dtype=np.float32)
    for shape in shapes:
        if isinstance(shape, outlines.Ellipse):
            cv2.ellipse(plane, shape.centre, shape.axes, shape.angle, 0, 360, (1.0,), -1)
        else:
            cv2.fillPoly(plane, [np.array(shape, dtype=np.int32)], (1.0,))
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), FEATHER), dtype=np.float64)

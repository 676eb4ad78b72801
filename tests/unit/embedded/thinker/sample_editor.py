"""A small photo editor for tests: sliders on sRGB values, stronger and weaker than the thinker's model expects.

It shares no code with the embedded editor or the thinker's slider model, so that a loop converges by measuring, not by
knowing the editor.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float64]

COLOURS = {
    "teal": (0, 128, 128),
    "orange": (255, 165, 0),
    "blue": (0, 0, 255),
    "sky blue": (135, 206, 235),
    "gold": (255, 215, 0),
}


def photograph(seed: int = 1, height: int = 96, width: int = 128) -> Image:
    """A synthetic scene with sky, ground, a coloured subject and texture; (h, w, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    scene = np.stack([120 + 60 * x - 40 * y, 130 + 50 * (1 - y), 150 + 70 * (1 - y) - 60 * x], axis=2)
    subject = ((x - 0.5) / 0.22) ** 2 + ((y - 0.6) / 0.3) ** 2 < 1
    scene[subject] = (170, 70, 60)
    scene[y > 0.85] = (40, 52, 34)
    blobs = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 2)
    scene += 160 * blobs[..., None] / blobs.std() * 0.12
    return np.asarray(np.clip(scene, 0, 255), dtype=np.uint8)


def _light(p: float, shape: Callable[[Plane], Plane]) -> Callable[[Plane], Plane]:
    return lambda rgb: rgb + 60 * p * shape(rgb.mean(axis=2, keepdims=True) / 255)


def _tinted(rgb: Plane, p: float, colour: str, weight: Plane) -> Plane:
    towards = np.array(COLOURS.get(colour, (128, 128, 128)), dtype=float)
    return np.asarray(rgb + p * 0.45 * weight * (towards - towards.mean()), dtype=float)


def _vignette(rgb: Plane, p: float) -> Plane:
    height, width = rgb.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(rgb * (1 - 0.75 * p * np.clip((x * x + y * y) / 2, 0, 1))[..., None], dtype=float)


def _soft(rgb: Plane, radius: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), radius), dtype=float)


def _saturate(rgb: Plane, p: float) -> Plane:
    grey = (rgb @ np.array([0.3, 0.59, 0.11]))[..., None]
    return np.asarray(grey + (rgb - grey) * (1 + 0.9 * p), dtype=float)


def edit(image: Image, instruction: str, gains: dict[str, float] | None = None, unresponsive: tuple[str, ...] = ()) -> Image:
    """Apply the named sliders. `gains` makes single sliders stronger, `unresponsive` phrases are ignored."""
    rgb = image.astype(float)
    plain = instruction.lower().replace("black and white", "monochrome")
    for clause in re.split(r", | and ", plain):
        if any(phrase in clause for phrase in unresponsive):
            continue
        amount = re.search(r"(\d+(?:\.\d+)?)%", clause)
        p = float(amount.group(1)) / 100 if amount else 1.0
        for name, gain in (gains or {}).items():
            p *= gain if name in clause else 1.0
        if re.match(r"(decrease|reduce|lower|deepen|darken)|.*\b(cooler|greener|towards green)", clause):
            p = -p
        rgb = np.clip(_apply(rgb, clause, p), 0, 255)
    return (rgb + 0.5).astype(np.uint8)


def _apply(rgb: Plane, clause: str, p: float) -> Plane:
    tint = re.match(r"tint the (shadows|highlights) (.+) by", clause)
    level = rgb.mean(axis=2, keepdims=True) / 255
    if tint:
        return _tinted(rgb, p, tint.group(2), (1 - level) ** 2 if tint.group(1) == "shadows" else level**2)
    rules: dict[str, Callable[[Plane], Plane]] = {
        "exposure": lambda v: 255 * (v / 255) ** (2 ** (-1.3 * p)),
        "brighten": lambda v: 255 * (v / 255) ** (2 ** (-1.3 * p)),
        "midtones": lambda v: 255 * (v / 255) ** (2 ** (-0.9 * p)),
        "contrast": lambda v: 128 + (v - 128) * (1 + 0.8 * p),
        "blacks": _light(1.3 * p, lambda t: (1 - t) ** 3),
        "shadows": _light(1.5 * p, lambda t: 4 * t * np.clip(1 - 1.6 * t, 0, 1) ** 2),
        "highlights": _light(0.9 * p, lambda t: np.clip(2 * t - 1, 0, 1)),
        "whites": _light(0.9 * p, lambda t: t**4),
        "warm": lambda v: v * np.array([1 + 0.3 * p, 1 + 0.04 * p, 1 - 0.45 * p]),
        "temperature": lambda v: v * np.array([1 + 0.3 * p, 1 + 0.04 * p, 1 - 0.45 * p]),
        "cooler": lambda v: v * np.array([1 + 0.3 * p, 1 + 0.04 * p, 1 - 0.45 * p]),
        "tint": lambda v: v * np.array([1 + 0.12 * p, 1 - 0.2 * p, 1 + 0.12 * p]),
        "saturation": lambda v: _saturate(v, p),
        "monochrome": lambda v: _saturate(v, -1 / 0.9),
        "vignette": lambda v: _vignette(v, p),
        "haze": lambda v: v * (1 - 0.6 * p) + 215 * 0.6 * p,
        "glow": lambda v: 255 - (255 - v) * (255 - 0.5 * p * _soft(v, 4)) / 255,
        "sepia": lambda v: v * (1 - p) + p * np.clip(v.mean(axis=2, keepdims=True) * np.array([1.12, 0.98, 0.76]), 0, 255),
        "grain": lambda v: v + np.random.default_rng(7).normal(0, 30 * p, (*v.shape[:2], 1)),
        "blur": lambda v: _soft(v, max(0.1, 6 * p)),
        "flip horizontally": lambda v: v[:, ::-1].copy(),
    }
    for name, rule in rules.items():
        if name in clause:
            return np.asarray(rule(rgb), dtype=float)
    return rgb

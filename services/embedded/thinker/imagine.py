"""The picture the wish describes, imagined on the thumb of the source.

The thinker compares a candidate with this imagined thumb, never with a formula alone:
what a warm cast does to lightness or a lifted black to colourfulness is then counted
once and the same way in the target and in the measurement.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from services.embedded.thinker.looks import HueMove, Look, Pair
from services.embedded.thinker.measure import radius_squared
from services.embedded.thinker.pixels import Floats, showable, to_lab, to_linear

_HAZE_LAB = (82.0, -1.0, -2.0)


def imagine(thumb: Floats, look: Look) -> Floats:
    """The (h, w, 3) CIELAB thumb of the source in that look, as sRGB can show it."""
    lab = thumb.copy()
    for move in look.hues:
        lab = turn_hues(lab, move)
    lab[..., 0] = _tone_curve(lab[..., 0], look)
    lab[..., 1:] *= look.chroma * (1.0 - look.mono)
    lab[..., 1:] += _casts(lab[..., 0], look)
    if look.haze > 0:
        haze = np.array(_HAZE_LAB, dtype=np.float32) + np.array([0.0, *look.cast], dtype=np.float32)
        lab = veil(lab, look.haze, haze)
    if look.glow > 0:
        lab = bloom(lab, look.glow)
    height, width = lab.shape[:2]
    if look.vignette > 0:
        fall = np.clip(radius_squared(height, width) * 1.35 - 0.2, 0.0, 1.0)
        lab *= (1.0 - look.vignette * fall)[..., None]
    if look.top:
        lab[..., 0] += look.top * np.linspace(1.0, -0.2, height, dtype=np.float32).clip(0)[:, None]
    return showable(lab)


def _tone_curve(light: Floats, look: Look) -> Floats:
    """The (h, w) plane of L* after light, contrast and the end points."""
    middle = float(np.clip(50.0 + look.light, 8.0, 92.0))
    gamma = math.log(middle / 100.0) / math.log(0.5)
    curve = 100.0 * np.clip(light / 100.0, 0.0, 1.0) ** gamma
    pivot = float(np.clip(curve.mean(), 30.0, 65.0))
    curve = steepen(curve, pivot, look.contrast)
    black, white = look.black, 100.0 + look.white
    out: Floats = (black + curve * (white - black) / 100.0).astype(np.float32)
    return np.asarray(np.clip(out, 0.0, 100.0), dtype=np.float32)


def steepen(light: Floats, pivot: float, slope: float) -> Floats:
    """An S curve of that slope at the pivot which keeps 0 and 100; a line where slope < 1."""
    away = light - pivot
    if slope <= 1.0:
        return np.asarray(pivot + away * slope, dtype=np.float32)
    room = np.where(away > 0, 100.0 - pivot, pivot)
    share = np.abs(away) / room
    return np.asarray(pivot + away * slope / (1.0 + (slope - 1.0) * share * share), dtype=np.float32)


def _casts(light: Floats, look: Look) -> Floats:
    """(h, w, 2) of a*, b* to add at each lightness."""
    level = np.clip(light / 100.0, 0.0, 1.0)
    # A von Kries shift of one channel moves a*, b* in proportion to L* + 16.
    parts: list[tuple[Pair, Floats]] = [
        (look.cast, (light + 16.0) / 66.0),
        (look.shadows, (1.0 - level) ** 2 * np.clip(level * 6.0, 0.3, 1.0)),
        (look.highlights, level**2),
    ]
    out = np.zeros((*light.shape, 2), dtype=np.float32)
    for pair, weight in parts:
        out += weight[..., None] * np.array(pair, dtype=np.float32)
    return out


def turn_hues(lab: Floats, move: HueMove) -> Floats:
    """Turn the hues around `move.centre` (about 45 degrees to each side)."""
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    off = np.abs((hue - move.centre + 180.0) % 360.0 - 180.0)
    share = np.clip(1.6 - off / 35.0, 0.0, 1.0)
    angle = np.radians(move.turn * share)
    factor = 1.0 + (move.chroma - 1.0) * share
    a, b = lab[..., 1] * factor, lab[..., 2] * factor
    out = lab.copy()
    out[..., 1] = a * np.cos(angle) - b * np.sin(angle)
    out[..., 2] = a * np.sin(angle) + b * np.cos(angle)
    out[..., 0] += move.light * share
    return out


def veil(lab: Floats, share: float, colour: Floats) -> Floats:
    """Mix with a veil of light of that CIELAB colour, in display values as haze looks."""
    return (lab * (1.0 - share) + colour * share).astype(np.float32)


def bloom(lab: Floats, share: float) -> Floats:
    """Screen the picture with a blurred copy of itself."""
    linear = to_linear(lab)
    radius = max(0.6, 0.03 * max(lab.shape[:2]))
    blurred = cv2.GaussianBlur(linear, (0, 0), radius)
    screened = 1.0 - (1.0 - linear) * (1.0 - share * np.asarray(blurred))
    return to_lab(screened.astype(np.float32))

"""The target picture: the source's thumb in the look that the instruction asks for.

A candidate is compared with this thumb rather than with the look's numbers. The effect of a warm cast on lightness, or of
a lifted black on colourfulness, is then counted once, and in the same way in the target and in the measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from services.embedded.thinker.intent import Intent
from services.embedded.thinker.looks import HueMove, Look, Pair, fitted
from services.embedded.thinker.measurements import Tone, radius_squared, tone_of
from services.embedded.thinker.pixels import Floats, Picture, showable, to_lab, to_linear
from services.embedded.thinker.slider_model import apply_sliders, steepen

_HAZE_LAB = (82.0, -1.0, -2.0)
# One unit of each figure of `Tone.vector` is about one just noticeable step in a whole picture.
_L, _AB = 1 / 2.0, 1 / 2.0
WEIGHTS: Floats = np.array([_L, _AB, _AB] * 5 + [1 / 2.0, 1 / 3.0, 1 / 4.0, 1 / 4.0], dtype=np.float32)
_ZONE_SHARES = np.array([0.55, 0.9, 1.25, 0.9, 0.55], dtype=np.float32)
WEIGHTS[:15] *= np.repeat(_ZONE_SHARES, 3)


def in_look(thumb: Floats, look: Look) -> Floats:
    """The (h, w, 3) CIELAB thumb of the source in a look, clipped to sRGB."""
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
    """The picture mixed with a CIELAB colour, in display values as haze looks."""
    return (lab * (1.0 - share) + colour * share).astype(np.float32)


def bloom(lab: Floats, share: float) -> Floats:
    """The picture screened with a blurred copy of itself."""
    linear = to_linear(lab)
    radius = max(0.6, 0.03 * max(lab.shape[:2]))
    blurred = cv2.GaussianBlur(linear, (0, 0), radius)
    screened = 1.0 - (1.0 - linear) * (1.0 - share * np.asarray(blurred))
    return to_lab(screened.astype(np.float32))


@dataclass(frozen=True)
class Target:
    """The target for one source.

    `look` is the look fitted to the source, `thumb` the target picture, `tone` its figures, and `start` those of the
    source.
    """

    look: Look
    thumb: Floats = field(repr=False)
    start: Tone
    tone: Tone

    @property
    def reach(self) -> float:
        """The weighted distance from the source to the target."""
        return gap(self.start, self.tone)


def gap(first: Tone, second: Tone) -> float:
    """Weighted distance of two tones; about 1 where a viewer begins to see a difference."""
    off = (first.vector() - second.vector()) * WEIGHTS
    return float(np.sqrt((off**2).mean()))


def target_for(intent: Intent, source: Picture, start: Tone) -> Target:
    """The target for a source whose tone is `start`."""
    look = fitted(intent.look, start) if intent.look is not None else Look()
    thumb = apply_sliders(source.thumb, intent.fixed) if intent.fixed else source.thumb
    if intent.look is not None:
        thumb = in_look(thumb, look)
    return Target(look=look, thumb=thumb, start=start, tone=tone_of(thumb))

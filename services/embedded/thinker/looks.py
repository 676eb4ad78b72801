"""The looks that the thinker knows, as differences from an ordinary, well exposed daylight photograph in CIELAB.

They describe typical pictures of the look at moderate strength, and are `fitted` to the source, so that an effect that the
source already has is not added a second time. A candidate is compared with the source's thumb `in_look`, not with the numbers:
the effect of a warm cast on lightness is then counted once, and in the same way in the target and in the measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from services.embedded.cielab import F32, colourless, f32, lab_to_linear, linear_to_lab
from services.embedded.instructions.colour_names import COLOURS
from services.embedded.instructions.operations import NamedLook
from services.embedded.instructions.table import TABLE
from services.embedded.thinker.measurements import Tone, radius_squared
from services.embedded.thinker.pictures import showable

Pair = tuple[float, float]
_HAZE_LAB = (82.0, -1.0, -2.0)
_NEUTRAL = np.array([1.0, 4.0])  # mean (a*, b*) of an ordinary daylight photograph


@dataclass(frozen=True)
class Look:
    """Differences from an ordinary photograph.

    `light` is the change of L* in the midtones, `contrast` the slope of the tone curve there, `black` and `white` the change of
    L* at the ends. `cast`, `shadows` and `highlights` are (a*, b*) added everywhere (at L* 50, growing with lightness), in the
    dark and in the bright half. `chroma` multiplies colourfulness, before the casts (0 leaves no colour but theirs).
    `vignette` is the loss of lightness in the corners (share), `haze` and `glow` are shares, `grain` is the standard deviation of
    the noise in L*. `key` is the usual mean L* of such pictures, or 0 for any.
    """

    light: float = 0.0
    contrast: float = 1.0
    black: float = 0.0
    white: float = 0.0
    cast: Pair = (0.0, 0.0)
    shadows: Pair = (0.0, 0.0)
    highlights: Pair = (0.0, 0.0)
    chroma: float = 1.0
    vignette: float = 0.0
    haze: float = 0.0
    glow: float = 0.0
    grain: float = 0.0
    clarity: float = 0.0
    key: float = 0.0


LOOKS: dict[str, Look] = {name: Look(**entry["figures"]) for name, entry in TABLE["looks"].items()}
_COLOUR_WORDS = frozenset({*COLOURS, "golden", "sepia"})
_FACTORS = frozenset({"contrast", "chroma"})


def joined(looks: Iterable[tuple[Look, float]]) -> Look:
    """Several looks at once, each `strength` times as strong as described.

    Factors multiply, casts add, and of two differences in one direction the larger counts: candlelight at night is no darker
    than night.
    """
    out = Look()
    for look, strength in looks:
        values: dict[str, Any] = {}
        for name, value in vars(look).items():
            before = getattr(out, name)
            if name in _FACTORS:
                values[name] = before * value**strength
            elif name == "key":
                values[name] = (before + value) / 2 if before and value else before or value
            elif isinstance(before, tuple):
                values[name] = (before[0] + value[0] * strength, before[1] + value[1] * strength)
            else:
                one, other = before, value * strength
                values[name] = max(one, other, key=abs) if one * other > 0 else one + other
        out = Look(**values)
    return out


def look_of(named: NamedLook, *, grey: bool) -> Look:
    """A named look; for a black-and-white picture without its colours, unless its words name a colour."""
    look = LOOKS[named.name]
    if grey and not _COLOUR_WORDS & set(f"{named.name} {named.words}".lower().replace("-", " ").split()):
        return replace(look, cast=(0.0, 0.0), shadows=(0.0, 0.0), highlights=(0.0, 0.0))
    return look


def fitted(look: Look, source: Tone) -> Look:
    """The look as this source needs it: a warm picture needs less warmth, a dark one less dark."""
    light = look.light
    if look.key and light:
        # Half by the look's own difference, half towards the usual lightness of such pictures, never backwards.
        wanted = (look.key - float(source.mean[0])) * np.sign(light)
        wanted = float(np.clip(wanted, 0.25 * abs(light), 1.4 * abs(light))) * np.sign(light)
        light = float(0.5 * light + 0.5 * wanted)
    cast = np.array(look.cast)
    size = float(np.hypot(*cast))
    if size > 0:
        already = float((source.mean[1:] - _NEUTRAL) @ cast) / size
        cast = cast * float(np.clip(1.0 - 0.3 * already / size, 0.6, 1.2))
    chroma = look.chroma
    if chroma > 1.0:
        # Strong colours can hardly be raised further.
        chroma = 1.0 + (chroma - 1.0) * float(np.clip(1.6 - source.spread / 20.0, 0.45, 1.15))
    return replace(look, light=light, cast=(float(cast[0]), float(cast[1])), chroma=chroma)


def in_look(thumb: F32, look: Look) -> F32:
    """The (h, w, 3) CIELAB thumb of the source in a look, clipped to sRGB."""
    lab = thumb.copy()
    lab[..., 0] = _tone_curve(lab[..., 0], look)
    lab[..., 1:] *= look.chroma
    lab[..., 1:] += _casts(lab[..., 0], look)
    if look.haze > 0:
        haze = f32([_HAZE_LAB[0], 0, 0] if colourless(thumb) else _HAZE_LAB) + f32([0.0, *look.cast])
        lab = f32(lab * (1.0 - look.haze) + haze * look.haze)
    if look.glow > 0:
        lab = _bloom(lab, look.glow)
    height, width = lab.shape[:2]
    if look.vignette > 0:
        fall = np.clip(radius_squared(height, width) * 1.35 - 0.2, 0.0, 1.0)
        lab *= (1.0 - look.vignette * fall)[..., None]
    return showable(lab)


def _tone_curve(light: F32, look: Look) -> F32:
    """The (h, w) plane of L* after light, contrast and the end points."""
    middle = float(np.clip(50.0 + look.light, 8.0, 92.0))
    curve = 100.0 * np.clip(light / 100.0, 0.0, 1.0) ** (math.log(middle / 100.0) / math.log(0.5))
    pivot = float(np.clip(curve.mean(), 30.0, 65.0))
    away = curve - pivot
    if look.contrast <= 1.0:
        curve = pivot + away * look.contrast
    else:
        # An S curve that keeps 0 and 100.
        share = np.abs(away) / np.where(away > 0, 100.0 - pivot, pivot)
        curve = pivot + away * look.contrast / (1.0 + (look.contrast - 1.0) * share * share)
    return f32(np.clip(look.black + curve * (100.0 + look.white - look.black) / 100.0, 0.0, 100.0))


def _casts(light: F32, look: Look) -> F32:
    """(h, w, 2) of a*, b* to add at each lightness."""
    level = np.clip(light / 100.0, 0.0, 1.0)
    # A von Kries shift of one channel moves a*, b* in proportion to L* + 16.
    parts: list[tuple[Pair, F32]] = [
        (look.cast, (light + 16.0) / 66.0),
        (look.shadows, (1.0 - level) ** 2 * np.clip(level * 6.0, 0.3, 1.0)),
        (look.highlights, level**2),
    ]
    out = np.zeros((*light.shape, 2), dtype=np.float32)
    for pair, weight in parts:
        out += weight[..., None] * f32(pair)
    return out


def _bloom(lab: F32, share: float) -> F32:
    """The picture screened with a blurred copy of itself."""
    linear = np.clip(lab_to_linear(lab), 0, 1)
    blurred = cv2.GaussianBlur(linear, (0, 0), max(0.6, 0.03 * max(lab.shape[:2])))
    return linear_to_lab(f32(1.0 - (1.0 - linear) * (1.0 - share * np.asarray(blurred))))

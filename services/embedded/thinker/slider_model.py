"""A forward model of a photo editor's sliders on the thumb, in CIELAB.

It tells the solver which amounts should reach the target picture, and how the sliders couple (warmth moves
colourfulness, exposure moves chroma). The figures were fitted to what the embedded editor, as a black box, does to grey
ramps and colour patches. A particular editor responds more or less strongly, so every operation has a gain, 1 by
default, which `solver.estimate_gains` estimates from the candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import cv2
import numpy as np

from services.embedded.thinker.measurements import radius_squared
from services.embedded.thinker.operations import MONOCHROME, Key, colour_lab
from services.embedded.thinker.pixels import Floats, into_gamut, lightness, luminance, to_lab, to_linear

Response = Callable[[Floats, float, Key], Floats]
"""(thumb, amount / 100, key) -> thumb; thumbs are (h, w, 3) CIELAB."""

_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
_STOPS = 2.1  # exposure at 100 %
_EVEN = np.linspace(0.0, 100.0, 21)  # L* of the knots below
_LIFTED_SHADOWS = np.array([0, 6.7, 13.9, 15.6, 15.6, 14.6, 12.6, 10.3, 7.7, 5.2, 2.7, 1, 0.1, *([0] * 8)]) * 2
_DEEPENED_SHADOWS = np.array([0, 0.7, 3, 5.2, 6.8, 8, 8.3, 7.9, 6.8, 5.1, 2.8, 1, 0.1, *([0] * 8)]) * 2
_LESS_HAZE = np.array(
    [0, 2.1, 4.1, 5.2, 5.9, 6.7, 7.3, 8, 8.5, 9, 9.4, 9.7, 9.9, 9.9, 9.7, 9.1, 8.4, 7.2, 5.5, 3.1, 0]
) * 2  # fmt: skip
_SEPIA_SHAPE = np.array([0, 6.3, 8.1, 9.6, 10.7, 11.5, 12.2, 12.7, 13, 13.3, 13.3]) / 13.3
_SHADOW_TINT = np.array([0, 4.6, 6.5, 8.27, 8.27, 8.1, 7.2, 5.85, 4.15, 2.5, 1, 0.15, *([0] * 9)]) * 5
_HIGHLIGHT_TINT = np.array([*([0] * 10), 0.1, 1, 2.5, 4.3, 6.1, 7.6, 8.45, 8.55, 6.9, 4.65, 0]) * 5


def _smooth(low: float, high: float, value: Floats) -> Floats:
    share = np.clip((value - low) / (high - low), 0.0, 1.0)
    out: Floats = (share * share * (3.0 - 2.0 * share)).astype(np.float32)
    return out


def _relit(lab: Floats, light: Floats, follow: float = 1.0) -> Floats:
    """The picture at a new lightness, with the chroma that a change of light would give it."""
    ratio = (light + 16.0) / (lab[..., 0] + 16.0)
    out = lab * (ratio if follow == 1.0 else ratio**follow)[..., None]
    out[..., 0] = light
    return out.astype(np.float32)


def _toned(lab: Floats, shift: Floats) -> Floats:
    """The picture after a change of its tone curve; chroma follows with an exponent of 0.8."""
    return _relit(lab, np.clip(lab[..., 0] + shift, 0.0, 100.0), 0.8)


def _stopped(lab: Floats, stops: Floats | float) -> Floats:
    """The picture exposed by a number of stops, with a shoulder at white."""
    y = luminance(lab[..., 0])
    gain = np.exp2(np.asarray(stops, dtype=np.float32))
    lit = np.where(gain > 1.0, 1.0 - (1.0 - np.clip(y, 0.0, 1.0)) ** np.maximum(gain, 1.0), y * gain)
    return _relit(lab, lightness(lit.astype(np.float32)))


def _exposure(lab: Floats, amount: float, key: Key) -> Floats:
    weight = side_mask(*lab.shape[:2], key[1])
    return _stopped(lab, _STOPS * amount if weight is None else _STOPS * amount * weight)


def steepen(light: Floats, pivot: float, slope: float) -> Floats:
    """An S curve of that slope at the pivot which keeps 0 and 100; a line where slope < 1."""
    away = light - pivot
    if slope <= 1.0:
        return np.asarray(pivot + away * slope, dtype=np.float32)
    headroom = np.where(away > 0, 100.0 - pivot, pivot)
    share = np.abs(away) / headroom
    return np.asarray(pivot + away * slope / (1.0 + (slope - 1.0) * share * share), dtype=np.float32)


def _contrast(lab: Floats, amount: float, _: Key) -> Floats:
    pivot = float(np.clip(lab[..., 0].mean(), 35.0, 65.0))
    slope = 1.0 + amount if amount > 0 else 1.0 + 0.75 * amount
    return _toned(lab, steepen(lab[..., 0], pivot, slope) - lab[..., 0])


def _highlights(lab: Floats, amount: float, _: Key) -> Floats:
    level = lab[..., 0] / 100.0
    shift = 41.2 * amount * _smooth(0.4, 0.95, level)
    return _toned(lab, shift * 1.71 * (1.0 - level) if amount > 0 else shift)


def _whites(lab: Floats, amount: float, _: Key) -> Floats:
    shift = 30.0 * amount * (lab[..., 0] / 100.0) ** 3
    return _toned(lab, np.minimum(shift, 0.85 * (100.0 - lab[..., 0])))


def _blacks(lab: Floats, amount: float, _: Key) -> Floats:
    deep = (1.0 - lab[..., 0] / 100.0) ** 2
    if amount < 0:
        return _toned(lab, 23.4 * amount * deep)
    out = lab.copy()
    out[..., 0] += 34.0 * amount * deep
    return out


def _shadows(lab: Floats, amount: float, _: Key) -> Floats:
    knots = _LIFTED_SHADOWS if amount > 0 else _DEEPENED_SHADOWS
    return _toned(lab, (amount * np.interp(lab[..., 0], _EVEN, knots)).astype(np.float32))


def _midtones(lab: Floats, amount: float, _: Key) -> Floats:
    level = np.clip(lab[..., 0] / 100.0, 0.0, 1.0)
    return _toned(lab, 100.0 * level ** (2.0 ** (-1.08 * amount)) - lab[..., 0])


def _warmth(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    weight = (lab[..., 0] + 16.0) / 66.0
    out[..., 1] += amount * ((4.6 if amount > 0 else 1.4) * weight + 0.16 * lab[..., 2])
    out[..., 2] += amount * 25.0 * weight * np.clip(1.0 - 0.006 * lab[..., 2], 0.5, 1.5)
    return out


def _tint(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    weight = amount * (lab[..., 0] + 16.0) / 66.0
    out[..., 1] += 19.6 * weight
    out[..., 2] -= 4.4 * weight
    return out


def _saturation(lab: Floats, amount: float, _: Key) -> Floats:
    if amount > 0:
        # Away from grey in linear light, where yellows and greens gain most.
        linear = to_linear(lab)
        grey = (linear @ _LUMA)[..., None]
        out = to_lab(np.clip(grey + (linear - grey) * (1.0 + 1.2 * amount), 0.0, 1.0).astype(np.float32))
        out[..., 0] = lab[..., 0]
        return out
    out = lab.copy()
    out[..., 1:] *= max(0.0, 1.0 + 0.85 * amount)
    return out


def _vibrance(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    skin = 1.0 - 0.4 * np.exp(-(((hue - 60.0) / 30.0) ** 2))
    out[..., 1:] *= (1.0 + 1.34 * amount * skin * np.clip(1.0 - chroma / 75.0, 0.0, 1.0))[..., None]
    return out


def _zone_tint(knots: np.ndarray) -> Response:
    def response(lab: Floats, amount: float, key: Key) -> Floats:
        colour = colour_lab(key[2])
        if colour is None:
            return lab
        towards = colour[1:] / max(1.0, float(np.hypot(*colour[1:])))
        out = lab.copy()
        out[..., 1:] += amount * np.interp(lab[..., 0], _EVEN, knots)[..., None] * towards
        return out

    return response


def _overlay(lab: Floats, amount: float, key: Key) -> Floats:
    colour = colour_lab(key[2])
    if colour is None:
        return lab
    level = lab[..., :1] / 100.0
    tinted = colour[1:] * np.clip(np.minimum(level, 1.0 - level) / 0.25, 0.0, 1.0)
    out = lab.copy()
    out[..., 1:] += min(1.0, 0.96 * amount) * (tinted - lab[..., 1:])
    return out


def _sepia(lab: Floats, amount: float, _: Key) -> Floats:
    shape = np.interp(50.0 - np.abs(lab[..., 0] - 50.0), _EVEN[:11], _SEPIA_SHAPE)
    out = lab.copy()
    out[..., 1:] += min(1.0, amount) * (shape[..., None] * np.array([9.2, 26.6]) - lab[..., 1:])
    return out


def _monochrome(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    out[..., 1:] *= 1.0 - min(1.0, abs(amount))
    return out


def _vignette(lab: Floats, amount: float, _: Key) -> Floats:
    fall = _smooth(0.25, 1.0, np.sqrt(radius_squared(*lab.shape[:2])))
    return _stopped(lab, -3.4 * amount * fall)


def _haze(lab: Floats, amount: float, _: Key) -> Floats:
    if amount < 0:
        return _relit(
            lab, np.clip(lab[..., 0] + amount * np.interp(lab[..., 0], _EVEN, _LESS_HAZE), 0.0, 100.0).astype(np.float32)
        )
    linear = to_linear(lab)
    # A bright picture has a bright haze.
    air = 0.25 + 0.4 * float(luminance(np.percentile(lab[..., 0], [95]))[0])
    return to_lab((linear + min(1.0, 0.93 * amount) * (air - linear)).astype(np.float32))


def _glow(lab: Floats, amount: float, _: Key) -> Floats:
    linear = to_linear(lab)
    bright = linear * _smooth(0.3, 0.8, lab[..., 0] / 100.0)[..., None]
    blurred = cv2.GaussianBlur(bright, (0, 0), max(0.5, 0.02 * max(lab.shape[:2])))
    screened = 1.0 - (1.0 - linear) * (1.0 - min(1.0, 1.15 * max(0.0, amount)) * np.asarray(blurred))
    return to_lab(screened.astype(np.float32))


@lru_cache(maxsize=64)
def side_mask(height: int, width: int, region: str) -> Floats | None:
    """A soft (h, w) mask of one side of the frame; None for the whole."""
    down = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / height * np.ones((1, width), dtype=np.float32)
    across = (np.arange(width, dtype=np.float32) + 0.5)[None, :] / width * np.ones((height, 1), dtype=np.float32)
    sides = {"top": down, "bottom": 1.0 - down, "left": across, "right": 1.0 - across}
    side = sides.get(region)
    return None if side is None else _smooth(0.36, 0.95, (1.0 - side).astype(np.float32))


_RESPONSES: dict[str, Response] = {
    # In the order in which raw developers apply them.
    "exposure": _exposure,
    "contrast": _contrast,
    "highlights": _highlights,
    "shadows": _shadows,
    "whites": _whites,
    "blacks": _blacks,
    "midtones": _midtones,
    "warmth": _warmth,
    "tint": _tint,
    "saturation": _saturation,
    "vibrance": _vibrance,
    MONOCHROME: _monochrome,
    "sepia": _sepia,
    "overlay": _overlay,
    "tint shadows": _zone_tint(_SHADOW_TINT),
    "tint highlights": _zone_tint(_HIGHLIGHT_TINT),
    "haze": _haze,
    "glow": _glow,
    "vignette": _vignette,
}

MODELLED = frozenset(_RESPONSES)
"""Names of the operations whose effect on the thumb is modelled."""

SIDES = frozenset({"top", "bottom", "left", "right"})


def modelled(key: Key) -> bool:
    """Whether the model predicts this operation's effect on the thumb."""
    return key[0] in MODELLED and (not key[1] or (key[0] == "exposure" and key[1] in SIDES))


def apply_sliders(thumb: Floats, amounts: Mapping[Key, float], gains: Mapping[Key, float] | None = None) -> Floats:
    """The (h, w, 3) CIELAB thumb after operations of these percentages.

    `gains` scales the response of single operations. Operations that are not modelled are skipped.
    """
    lab = thumb
    for name, response in _RESPONSES.items():
        for key, percent in amounts.items():
            if key[0] == name and percent and modelled(key):
                gain = 1.0 if gains is None else gains.get(key, 1.0)
                lab = response(lab, percent / 100.0 * gain, key)
    return into_gamut(lab)

"""What an operation usually does to a picture: the expected responses.

A forward model of a photo editor's sliders on the thumb. It tells the controller which
amounts should reach the imagined picture, and how the sliders couple (warmth moves lightness,
contrast moves colourfulness). A particular editor answers stronger or weaker: every
operation has a gain, 1 by expectation, that `refine` estimates from the candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from services.thinker.rules.imagine import bloom, steepen, veil
from services.thinker.rules.measure import radius_squared
from services.thinker.rules.operations import MONOCHROME, Key, colour_lab
from services.thinker.rules.pixels import Floats, showable, to_lab, to_linear

Response = Callable[[Floats, float, Key], Floats]
"""(thumb, amount / 100, key) -> thumb; thumbs are (h, w, 3) CIELAB."""


def _exposure(lab: Floats, amount: float, key: Key) -> Floats:
    weight = _where(*lab.shape[:2], key[1])
    stops = 1.5 * amount
    linear = to_linear(lab)
    gained = 1.0 - (1.0 - linear) ** (2.0**stops) if stops > 0 else linear * 2.0**stops
    changed = to_lab(gained.astype(np.float32))
    return changed if weight is None else (lab + (changed - lab) * weight[..., None]).astype(np.float32)


def _contrast(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    out[..., 0] = steepen(lab[..., 0], 50.0, 1.0 + 0.9 * amount if amount > 0 else 1.0 + 0.6 * amount)
    return out


def _lift(shape: Callable[[Floats], Floats], size: float) -> Response:
    """L* is raised by `size` at full amount where `shape` of lightness (0..1) is 1."""

    def response(lab: Floats, amount: float, _: Key) -> Floats:
        out = lab.copy()
        level = np.clip(lab[..., 0] / 100.0, 0.0, 1.0)
        out[..., 0] = lab[..., 0] + size * amount * shape(level)
        return out

    return response


def _shift(a: float, b: float) -> Response:
    def response(lab: Floats, amount: float, _: Key) -> Floats:
        out = lab.copy()
        weight = amount * (lab[..., 0] + 16.0) / 66.0
        out[..., 1] += a * weight
        out[..., 2] += b * weight
        return out

    return response


def _saturation(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    out[..., 1:] *= max(0.0, 1.0 + amount)
    return out


def _vibrance(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    out[..., 1:] *= (1.0 + amount * np.clip(1.0 - chroma / 80.0, 0.0, 1.0))[..., None]
    return out


def _tint(bright: bool, size: float) -> Response:
    def response(lab: Floats, amount: float, key: Key) -> Floats:
        colour = colour_lab(key[2])
        if colour is None:
            return lab
        level = np.clip(lab[..., 0] / 100.0, 0.0, 1.0)
        weight = level**2 if bright else (1.0 - level) ** 2
        towards = colour[1:] / max(1.0, float(np.hypot(*colour[1:])))
        out = lab.copy()
        out[..., 1:] += size * amount * weight[..., None] * towards
        return out

    return response


def _overlay(lab: Floats, amount: float, key: Key) -> Floats:
    colour = colour_lab(key[2])
    if colour is None:
        return lab
    out = lab.copy()
    out[..., 1:] += 0.5 * amount * (colour[1:] - lab[..., 1:])
    return out


def _sepia(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    goal = np.array([5.0, 19.0], dtype=np.float32) * ((lab[..., :1] + 16.0) / 66.0)
    out[..., 1:] += amount * (goal - lab[..., 1:])
    return out


def _monochrome(lab: Floats, amount: float, _: Key) -> Floats:
    out = lab.copy()
    out[..., 1:] *= 1.0 - abs(amount)
    return out


def _vignette(lab: Floats, amount: float, _: Key) -> Floats:
    fall = np.clip(radius_squared(*lab.shape[:2]) * 1.3 - 0.2, 0.0, 1.0)
    return (lab * (1.0 - 0.8 * amount * fall)[..., None]).astype(np.float32)


def _haze(lab: Floats, amount: float, _: Key) -> Floats:
    return veil(lab, 0.7 * amount, np.array([85.0, 0.0, -1.0], dtype=np.float32))


def _glow(lab: Floats, amount: float, _: Key) -> Floats:
    return bloom(lab, max(0.0, 0.7 * amount))


@lru_cache(maxsize=64)
def _where(height: int, width: int, region: str) -> Floats | None:
    """A soft (h, w) mask of a part of the frame; None for the whole."""
    down = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None] * np.ones((1, width), dtype=np.float32)
    across = np.linspace(0.0, 1.0, width, dtype=np.float32)[None, :] * np.ones((height, 1), dtype=np.float32)
    masks = {"top": 1.0 - down, "bottom": down, "left": 1.0 - across, "right": across}
    mask = masks.get(region)
    return None if mask is None else np.clip(mask * 1.6 - 0.4, 0.0, 1.0).astype(np.float32)


_ORDER: dict[str, Response] = {
    # In the order in which a developing pipeline applies them.
    "exposure": _exposure,
    "contrast": _contrast,
    "highlights": _lift(lambda t: np.clip(t * 2.0 - 0.8, 0.0, 1.0) * np.clip(4.0 - 3.6 * t, 0.0, 1.0), 22.0),
    "shadows": _lift(lambda t: 4.6 * t * np.clip(1.0 - 1.4 * t, 0.0, 1.0) ** 2 * 1.5, 22.0),
    "whites": _lift(lambda t: t**4, 22.0),
    "blacks": _lift(lambda t: (1.0 - t) ** 3, 28.0),
    "midtones": _lift(lambda t: 4.0 * t * (1.0 - t), 22.0),
    "warmth": _shift(5.0, 32.0),
    "tint": _shift(30.0, -8.0),
    "saturation": _saturation,
    "vibrance": _vibrance,
    MONOCHROME: _monochrome,
    "sepia": _sepia,
    "overlay": _overlay,
    "tint shadows": _tint(False, 45.0),
    "tint highlights": _tint(True, 45.0),
    "haze": _haze,
    "glow": _glow,
    "vignette": _vignette,
}

MODELLED = frozenset(_ORDER)
"""Names of the operations whose effect on the thumb is modelled."""


def modelled(key: Key) -> bool:
    """Whether this operation's effect on the thumb is expected well enough to control it."""
    return key[0] in MODELLED and (not key[1] or (key[0] == "exposure" and key[1] in {"top", "bottom", "left", "right"}))


def respond(thumb: Floats, amounts: Mapping[Key, float], gains: Mapping[Key, float] | None = None) -> Floats:
    """The (h, w, 3) CIELAB thumb after operations of these percentages.

    `gains` scales the response of single operations. Operations that are not modelled
    are left out.
    """
    lab = thumb
    for name, response in _ORDER.items():
        for key, percent in amounts.items():
            if key[0] == name and percent and modelled(key):
                gain = 1.0 if gains is None else gains.get(key, 1.0)
                lab = response(lab, percent / 100.0 * gain, key)
                lab[..., 0] = np.clip(lab[..., 0], 0.0, 100.0)
    return showable(lab)

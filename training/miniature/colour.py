"""CIELAB, the distance between pictures, and changes of light. No code is shared with the editor that is measured."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Pixels = NDArray[np.uint8]

_DARK_CODE, _DARK_LIGHT = 0.04045, 0.0031308  # below these, sRGB is linear (IEC 61966-2-1)


def lab(pixels: Pixels) -> F64:
    """CIELAB (D65) of eight-bit sRGB (H, W, 3)."""
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float64)


def pixels_of(values: F64) -> Pixels:
    """Eight-bit sRGB of CIELAB, clipped to the gamut."""
    return eight_bits(np.asarray(cv2.cvtColor(values.astype(np.float32), cv2.COLOR_LAB2RGB), dtype=np.float64))


def eight_bits(picture: F64) -> Pixels:
    """Eight-bit code values of 0…1."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def distance(first: Pixels, second: Pixels) -> float:
    """Mean CIE 1976 colour difference over all pixels."""
    return float(np.sqrt(((lab(first) - lab(second)) ** 2).sum(axis=-1)).mean())


def light_of(pixels: Pixels) -> F64:
    """Linear light, 0…1."""
    code = pixels / 255.0
    return np.where(code <= _DARK_CODE, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def shown(light: F64) -> Pixels:
    """Eight-bit sRGB of linear light, clipped."""
    light = np.clip(light, 0, 1)
    return eight_bits(np.where(light <= _DARK_LIGHT, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055))


def exposed(pixels: Pixels, stops: float | F64) -> Pixels:
    """The light multiplied by 2**stops; what gets brighter rolls off below white, so that it can be taken back."""
    gain = np.asarray(2.0**stops)
    light = light_of(pixels)
    rolled = gain * light / np.sqrt(1 + np.maximum(gain**2 - 1, 0) * light**2)
    return shown(rolled)


def tinted(pixels: Pixels, green_red: float, blue_yellow: float) -> Pixels:
    """The scene under another illuminant: middle grey moves by (a*, b*), and lightness is kept as far as the gamut allows."""
    white = light_of(pixels_of(np.array([[[60.0, green_red, blue_yellow]]])))[0, 0]
    gains = white / float(white @ (0.2126, 0.7152, 0.0722))
    values = lab(shown(light_of(pixels) * gains))
    values[..., 0] = lab(pixels)[..., 0]
    return pixels_of(values)

"""Conversions between sRGB code values, linear light and CIELAB (D65), in float32, accurate to well below one code value."""

from __future__ import annotations

from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

_RGB_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = _RGB_TO_XYZ.sum(axis=1)
# Both matrices are for XYZ divided by the white point, as CIELAB needs it.
_TO_XYZ = (_RGB_TO_XYZ / _WHITE[:, None]).astype(np.float32)
_FROM_XYZ = np.linalg.inv(_RGB_TO_XYZ / _WHITE[:, None]).astype(np.float32)
# Cube roots (or the linear toe) of those to L*, a*, b*, and back; the last column is added.
_ROOT_TO_LAB = np.array([[0, 116, 0, -16], [500, -500, 0, 0], [0, 200, -200, 0]], dtype=np.float32)
_LAB_TO_ROOT = np.array([[1, 0.232, 0, 16], [1, 0, 0, 16], [1, 0, -0.58, 16]], dtype=np.float32) / np.float32(116)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_LUMINANCE = _TO_XYZ[1]
_TOE = np.float32(216 / 24389)  # below this share of white, CIELAB is linear
_SLOPE = np.float32(24389 / 27 / 116)
_DARK_CODE, _DARK_LIGHT = 0.04045, 0.0031308  # below these, sRGB is linear
_ROUNDING = 1e-5  # of linear light: tolerance for colours outside sRGB
_DITHER = 128
_NO_CHROMA = 3.0
_KNEE = np.float32(0.7)  # share of the widest chroma up to which it grows in proportion


def f32(array: ArrayLike) -> F32:
    """``array`` in single precision."""
    return np.asarray(array, dtype=np.float32)


@cache
def _decode_table() -> F32:
    code = np.arange(256) / 255
    return f32(np.where(code <= _DARK_CODE, code / 12.92, ((code + 0.055) / 1.055) ** 2.4))


@lru_cache(maxsize=4)
def _dither_rows(width: int) -> F32:
    """Dither: rectangular noise of just under half a code value, one tile high and as wide as the picture.

    Whole code values round to themselves, and gradients do not band.
    """
    noise = np.random.default_rng(20251208).random((_DITHER, _DITHER, 3))
    return np.ascontiguousarray((noise[:, np.arange(width) % _DITHER] - 0.5) * 0.98, dtype=np.float32)


def decode(rgb: U8) -> F32:
    """Linear light, 0 to 1, of sRGB code values (H, W, 3)."""
    return f32(cv2.LUT(rgb, _decode_table())).reshape(rgb.shape)


def linear_to_lab(light: F32) -> F32:
    """CIELAB (L 0 to 100) of linear light (H, W, 3); negative light counts as none."""
    xyz = np.maximum(_transform(light, _TO_XYZ), 0)
    root = cv2.pow(xyz, 1 / 3).reshape(xyz.shape)  # six times as fast as np.cbrt
    np.copyto(root, _SLOPE * xyz + np.float32(16 / 116), where=xyz <= _TOE)
    return _transform(f32(root), _ROOT_TO_LAB)


def lab_to_linear(lab: F32) -> F32:
    """Linear light of CIELAB; colours outside sRGB give values outside 0 to 1."""
    root = _transform(lab, _LAB_TO_ROOT)
    xyz = root * root * root
    np.copyto(xyz, (root - np.float32(16 / 116)) / _SLOPE, where=root <= np.float32(6 / 29))
    return _transform(xyz, _FROM_XYZ)


def rgb_to_lab(rgb: U8) -> F32:
    """CIELAB of sRGB code values (H, W, 3)."""
    return linear_to_lab(decode(rgb))


def lab_to_rgb(lab: F32, first_row: int = 0) -> U8:
    """SRGB code values of CIELAB, colours outside sRGB moved inside at constant luminance, rounded with dither.

    ``first_row`` keeps the dither in step when a picture is converted in strips.
    """
    return encode(into_gamut(lab_to_linear(lab)), first_row)


def encode(light: F32, first_row: int = 0) -> U8:
    """SRGB code values of linear light in 0 to 1, rounded with dither."""
    light = np.clip(light, 0, 1)
    codes = f32(cv2.pow(light, 1 / 2.4)).reshape(light.shape) * np.float32(255 * 1.055)
    codes -= np.float32(255 * 0.055)
    np.copyto(codes, light * np.float32(255 * 12.92), where=light <= _DARK_LIGHT)
    codes += _dither_rows(codes.shape[1])[np.arange(first_row, first_row + len(codes)) % _DITHER]
    return np.clip(np.rint(codes, out=codes), 0, 255, out=codes).astype(np.uint8)


def channel_extremes(light: F32) -> tuple[F32, F32]:
    """The largest and the smallest channel of each pixel, (H, W); much faster than reducing over the last axis."""
    red, green, blue = light[..., 0], light[..., 1], light[..., 2]
    return np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)


def into_gamut(light: F32) -> F32:
    """Linear light with colours outside sRGB mixed with the grey of their luminance until they fit."""
    top, bottom = channel_extremes(light)
    if top.max() <= 1 + _ROUNDING and bottom.min() >= -_ROUNDING:
        return light
    grey = np.clip(light @ _LUMINANCE, 0, 1)
    # The share of the distance from grey that fits, 1 for colours inside sRGB.
    above = (1 - grey) / np.maximum(top - grey, 1 - grey + np.float32(1e-9))
    below = grey / np.maximum(grey - bottom, grey + np.float32(1e-9))
    keep = np.minimum(above, below)[..., None]
    return f32(grey[..., None] + (light - grey[..., None]) * keep)


@cache
def _widest() -> F32:
    """The largest chroma that sRGB has at each L* (0 to 100, a row) and hue angle (0 to 360 degrees, a column)."""
    lightness, angle = np.mgrid[0:101, 0:361].astype(np.float32)
    inside, outside = np.zeros_like(lightness), np.full_like(lightness, 150)
    for _ in range(12):
        chroma = (inside + outside) / 2
        lab = np.dstack([lightness, *cv2.polarToCart(chroma, angle, angleInDegrees=True)])
        top, bottom = channel_extremes(lab_to_linear(f32(lab)))
        fits = (top <= 1 + _ROUNDING) & (bottom >= -_ROUNDING)
        inside, outside = np.where(fits, chroma, inside), np.where(fits, outside, chroma)
    return f32(inside)


def more_vivid(lab: F32, factor: F32 | float) -> F32:
    """CIELAB (H, W, 3) with its chroma multiplied by ``factor`` (1 or more, scalar or (H, W)), rolled off towards what sRGB has.

    Hue and lightness stay, and no channel is cut off that was not: an orange does not turn yellow.
    """
    chroma, angle = cv2.cartToPolar(lab[..., 1].copy(), lab[..., 2].copy(), angleInDegrees=True)
    chroma, angle = chroma.reshape(lab.shape[:2]), angle.reshape(lab.shape[:2])
    widest = cv2.remap(_widest(), angle, lab[..., 0].copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = chroma / np.maximum(np.maximum(widest, chroma), np.float32(1e-3))
    wanted = factor * share
    rolled = _KNEE + (1 - _KNEE) * np.tanh((wanted - _KNEE) / (1 - _KNEE))
    wanted = np.maximum(share, np.where(wanted > _KNEE, rolled, wanted))
    after = lab.copy()
    after[..., 1:] *= (wanted / np.maximum(share, np.float32(1e-6)))[..., None]
    return f32(after)


def lightness_to_luminance(lightness: F32) -> F32:
    """Luminance (0 to 1) of L* (0 to 100)."""
    root = (lightness + np.float32(16)) / np.float32(116)
    luminance = root * root * root
    np.copyto(luminance, lightness / np.float32(24389 / 27), where=root <= np.float32(6 / 29))
    return f32(luminance)


def luminance_to_lightness(luminance: F32) -> F32:
    """L* (0 to 100) of luminance (0 to 1)."""
    lightness = f32(cv2.pow(luminance, 1 / 3)).reshape(luminance.shape) * np.float32(116) - np.float32(16)
    np.copyto(lightness, luminance * np.float32(24389 / 27), where=luminance <= _TOE)
    return lightness


def colourless(lab: F32) -> bool:
    """Whether a picture (H, W, 3) is black and white."""
    return float(np.percentile(np.hypot(lab[..., 1], lab[..., 2]), 99)) < _NO_CHROMA


def colour_to_lab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """CIELAB of one sRGB colour."""
    lightness, green_red, blue_yellow = rgb_to_lab(np.array([[rgb]], dtype=np.uint8))[0, 0]
    return float(lightness), float(green_red), float(blue_yellow)


def painted(lightness: F32, rgb: tuple[int, int, int]) -> F32:
    """Lab of a surface of one colour under the light that gives it ``lightness`` (H, W).

    Below its own luminance the colour is shaded (its light scaled), above it is mixed with white. This keeps the perceived
    hue, while constant a*, b* would turn a dark blue purple.
    """
    own = decode(np.array([[rgb]], dtype=np.uint8))[0, 0]
    luminance = lightness_to_luminance(lightness)[..., None]
    level = max(1e-4, float(own @ _LUMINANCE))
    shaded = own * np.minimum(1, luminance / level)
    washed = np.clip((luminance - level) / max(1e-4, 1 - level), 0, 1)
    return linear_to_lab(f32(shaded + (1 - shaded) * washed))


def white_shift(green_red: float, blue_yellow: float) -> F32:
    """The 3 x 3 matrix on linear light that turns white to Lab(100, a, b) as a change of illuminant would (Bradford)."""
    target = np.array([1 + green_red / 500, 1.0, 1 - blue_yellow / 200]) ** 3
    cones = (_BRADFORD @ (target * _WHITE)) / (_BRADFORD @ _WHITE)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    to_xyz = _TO_XYZ * _WHITE[:, None]
    return f32(np.linalg.inv(to_xyz) @ adapted @ to_xyz)


def _transform(pixels: F32, matrix: F32) -> F32:
    return f32(cv2.transform(np.ascontiguousarray(pixels), matrix)).reshape(pixels.shape)

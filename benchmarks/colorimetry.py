"""CIE colorimetry: sRGB, linear light, CIELAB, the Planckian locus and colour differences.

Written from the standards (IEC 61966-2-1, CIE 15, Bradford as in ICC v4), so that the measure of the stack shares no code
with it. Pictures are float64 arrays of height by width by 3; sRGB and linear light run 0…1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000

Picture = NDArray[np.float64]
Pixels = NDArray[np.uint8]

D65 = np.array([0.95047, 1.0, 1.08883])
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_EPSILON = 216 / 24389
_KAPPA = 24389 / 27


def from_pixels(pixels: Pixels) -> Picture:
    """Eight-bit sRGB as floats."""
    return pixels.astype(np.float64) / 255.0


def to_pixels(picture: Picture) -> Pixels:
    """Float sRGB, clipped, as eight bits."""
    return np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def linear(picture: Picture) -> Picture:
    """Undo the sRGB transfer curve."""
    low = picture / 12.92
    high = ((np.maximum(picture, 0.0) + 0.055) / 1.055) ** 2.4
    return np.where(picture <= 0.04045, low, high)


def display(light: Picture) -> Picture:
    """Apply the sRGB transfer curve to linear light, clipped to the gamut."""
    light = np.clip(light, 0.0, 1.0)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def luminance(light: Picture) -> Picture:
    """CIE Y of linear light, as a plane."""
    return cast(Picture, light @ RGB_TO_XYZ[1])


def lab(picture: Picture) -> Picture:
    """CIELAB (D65) of an sRGB picture."""
    xyz = linear(picture) @ RGB_TO_XYZ.T / D65
    f = np.where(xyz > _EPSILON, np.cbrt(xyz), (_KAPPA * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def from_lab(values: Picture) -> Picture:
    """The sRGB picture of CIELAB values, clipped to the gamut."""
    y = (values[..., 0] + 16) / 116
    f = np.stack([y + values[..., 1] / 500, y, y - values[..., 2] / 200], axis=-1)
    xyz = np.where(f**3 > _EPSILON, f**3, (116 * f - 16) / _KAPPA) * D65
    return display(xyz @ XYZ_TO_RGB.T)


def planckian_white(kelvin: float) -> Picture:
    """XYZ (Y = 1) of a black body, by the cubic fit of Kim et al. (1667 K to 25 000 K)."""
    t = 1e3 / kelvin
    if kelvin <= 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    if kelvin <= 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin <= 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return np.array([x / y, 1.0, (1 - x - y) / y])


def illuminant_matrix(balanced_for: float, kelvin: float) -> Picture:
    """Linear sRGB matrix of a camera balanced for one black body that sees the light of another."""
    ratio = (BRADFORD @ planckian_white(kelvin)) / (BRADFORD @ planckian_white(balanced_for))
    xyz = np.linalg.inv(BRADFORD) @ np.diag(ratio) @ BRADFORD
    matrix = XYZ_TO_RGB @ xyz @ RGB_TO_XYZ
    return cast(Picture, matrix / (RGB_TO_XYZ[1] @ matrix @ np.ones(3)))


def difference(first: Pixels, second: Pixels) -> float:
    """Mean CIE 1976 colour difference over all pixels."""
    gap = lab(from_pixels(first)) - lab(from_pixels(second))
    return float(np.sqrt((gap**2).sum(axis=-1)).mean())


def difference_2000(first: Pixels, second: Pixels) -> float:
    """Mean CIEDE2000 colour difference over all pixels."""
    measure = cast(Callable[..., Picture], deltaE_ciede2000)
    return float(np.mean(measure(lab(from_pixels(first)), lab(from_pixels(second)))))

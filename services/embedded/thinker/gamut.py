"""What sRGB can show of a CIELAB colour, keeping its lightness and hue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.embedded.thinker.pixels import Floats

_WHITE = np.array([0.950456, 1.0, 1.088754], dtype=np.float32)
_TO_RGB = np.array(
    # IEC 61966-2-1, D65
    [[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]],
    dtype=np.float32,
)
_SLACK = 0.003
_LINE_L, _LINE_Y = 8.0, 0.008856  # below these CIELAB is a line


def into_gamut(lab: Floats) -> Floats:
    """The (h, w, 3) picture with the chroma of unshowable pixels reduced until they can be shown."""
    flat = lab.reshape(-1, 3)
    outside = np.logical_not(_shown(flat))
    if not outside.any():
        return lab
    wild = flat[outside]
    low, high = np.zeros(len(wild), dtype=np.float32), np.ones(len(wild), dtype=np.float32)
    tried = wild.copy()
    for _ in range(4):
        middle = (low + high) / 2
        tried[:, 1:] = wild[:, 1:] * middle[:, None]
        shown = _shown(tried)
        low, high = np.where(shown, middle, low), np.where(shown, high, middle)
    tried[:, 1:] = wild[:, 1:] * ((low + high) / 2)[:, None]
    out = flat.copy()
    out[outside] = tried
    return out.reshape(lab.shape)


def _shown(flat: Floats) -> npt.NDArray[np.bool_]:
    """Which of (n, 3) CIELAB colours lie within sRGB."""
    y = (flat[:, 0] + 16.0) / 116.0
    curves = np.stack([y + flat[:, 1] / 500.0, y, y - flat[:, 2] / 200.0], axis=1)
    # Below 6/29 CIELAB continues as a line.
    xyz = np.where(curves > 6 / 29, curves**3, (curves - 4 / 29) * 0.128419) * _WHITE
    rgb = xyz @ _TO_RGB.T
    inside = (rgb > -_SLACK) & (rgb < 1 + _SLACK)
    return np.asarray(inside.all(axis=1), dtype=np.bool_)


def luminance(light: Floats) -> Floats:
    """Relative luminance 0..1 of L*."""
    y = (light + 16.0) / 116.0
    return np.where(light > _LINE_L, y**3, light / 903.3).astype(np.float32)


def lightness(y: Floats) -> Floats:
    """L* of relative luminance."""
    return np.where(y > _LINE_Y, 116.0 * np.cbrt(y) - 16.0, 903.3 * y).astype(np.float32)

"""Filters of the operations: Gaussian blur of any width, the edge-preserving guided filter, and smoothstep."""

from __future__ import annotations

from typing import TypeVar, cast

import cv2
import numpy as np

from services.embedded.cielab import F32, U8, f32

_DIRECT = 6.0  # largest sigma at full size; wider Gaussians run on a smaller copy
_NOTHING = 0.01  # a sigma without a visible effect
_NARROW = 0.6
_EDGE = cv2.BORDER_REPLICATE
_Plane = TypeVar("_Plane", F32, U8)


def gaussian(plane: F32, sigma: float) -> F32:
    """``plane`` (H, W) or (H, W, C) blurred by ``sigma`` pixels; wide blurs cost no more than narrow ones."""
    if sigma < _NOTHING:
        return plane.copy()
    if sigma < _NARROW:
        # A sampled Gaussian this narrow is one tap; three taps of the right variance respond smoothly to sigma.
        side = sigma * sigma / 2
        taps = np.array([side, 1 - 2 * side, side], dtype=np.float32)
        return f32(cv2.sepFilter2D(plane, -1, taps, taps, borderType=_EDGE)).reshape(plane.shape)
    height, width = plane.shape[:2]
    factor = 1
    while sigma / factor > _DIRECT:
        factor *= 2
    small = resized(plane, (max(1, width // factor), max(1, height // factor)))
    blurred = cv2.GaussianBlur(small, (0, 0), sigmaX=sigma / factor, sigmaY=sigma / factor, borderType=_EDGE)
    return resized(f32(blurred), (width, height)).reshape(plane.shape)


def resized(plane: F32, size: tuple[int, int]) -> F32:
    """``plane`` at another size (width, height): areas averaged where it is smaller, interpolated where it is larger."""
    if size == (plane.shape[1], plane.shape[0]):
        return plane
    smaller = size[0] * size[1] < plane.shape[0] * plane.shape[1]
    return cast(F32, cv2.resize(plane, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def shrunk(plane: _Plane, side: int) -> _Plane:
    """``plane`` (H, W) or (H, W, C) with its longer side at most ``side``."""
    shrink = max(1.0, max(plane.shape[:2]) / side)
    size = (max(1, round(plane.shape[1] / shrink)), max(1, round(plane.shape[0] / shrink)))
    return cast(_Plane, cv2.resize(plane, size, interpolation=cv2.INTER_AREA))


def guided(guide: F32, plane: F32, radius: float, epsilon: float, step: int = 1) -> F32:
    """Guided filter (He et al.): ``plane`` smoothed over ``radius`` pixels but keeping the edges of ``guide``, both (H, W).

    ``epsilon`` is the variance, in the guide's units squared, up to which detail is smoothed away. ``step`` computes the
    coefficients on a copy smaller by that factor, which is much faster for wide radii and hardly different.
    """
    height, width = guide.shape
    size = (max(1, width // step), max(1, height // step))
    small_guide = resized(guide, size)
    small_plane = small_guide if plane is guide else resized(plane, size)
    reach = max(1, round(radius / step))
    mean_guide, mean_plane = _box(small_guide, reach), _box(small_plane, reach)
    covariance = _box(small_guide * small_plane, reach) - mean_guide * mean_plane
    variance = _box(small_guide * small_guide, reach) - mean_guide * mean_guide
    slope: F32 = f32(covariance / (np.maximum(variance, 0) + max(epsilon, 1e-6)))
    offset: F32 = f32(mean_plane - slope * mean_guide)
    slope, offset = (resized(_box(coefficient, reach), (width, height)) for coefficient in (slope, offset))
    return f32(slope * guide + offset)


def base_layer(lightness: F32, share: float, epsilon: float) -> F32:
    """The large forms of a picture without its fine detail: a guided filter over ``share`` of the mean side."""
    height, width = lightness.shape
    radius = max(2.0, share * float(np.sqrt(height * width)))
    return guided(lightness, lightness, radius, epsilon, step=max(1, int(radius // 4)))


def _box(plane: F32, reach: int) -> F32:
    side = 2 * reach + 1
    return cast(F32, cv2.blur(plane, (side, side), borderType=_EDGE))


def smoothstep(low: float, high: float, value: F32) -> F32:
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return cast(F32, share * share * (3 - 2 * share))

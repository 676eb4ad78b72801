"""Filters of the operations: Gaussian blur of any width, the edge-preserving guided filter, and smoothstep."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from services.embedded.cielab import F32, f32

_DIRECT = 6.0  # largest sigma at full size; wider Gaussians run on a smaller copy
_NOTHING = 0.01  # a sigma without a visible effect
_NARROW = 0.6
_EDGE = cv2.BORDER_REPLICATE


def gaussian(plane: F32, sigma: float) -> F32:
    """``plane`` (H, W) or (H, W, C) blurred by ``sigma`` pixels; wide blurs cost no more than narrow ones."""
    if sigma < _NOTHING:
        return plane.copy()
    height, width = plane.shape[:2]
    factor = 1
    while sigma / factor > _DIRECT:
        factor *= 2
    if factor == 1:
        return _blur(plane, sigma)
    small = cv2.resize(plane, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    blurred = _blur(_like(small, plane), sigma / factor)
    return _like(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), plane)


def _blur(plane: F32, sigma: float) -> F32:
    if sigma < _NARROW:
        # A sampled Gaussian this narrow is one tap; three taps of the right variance respond smoothly to sigma.
        side = sigma * sigma / 2
        taps = np.array([side, 1 - 2 * side, side], dtype=np.float32)
        return _like(cv2.sepFilter2D(plane, -1, taps, taps, borderType=_EDGE), plane)
    return _like(cv2.GaussianBlur(plane, (0, 0), sigmaX=sigma, sigmaY=sigma, borderType=_EDGE), plane)


def _like(result: object, plane: F32) -> F32:
    """The result with as many axes as ``plane``: OpenCV drops a channel axis of length 1."""
    array = cast(F32, result)
    return array[..., None] if array.ndim < plane.ndim else array


def guided(guide: F32, plane: F32, radius: float, epsilon: float, step: int = 1) -> F32:
    """Guided filter (He et al.): ``plane`` smoothed over ``radius`` pixels but keeping the edges of ``guide``, both (H, W).

    ``epsilon`` is the variance, in the guide's units squared, up to which detail is smoothed away. ``step`` computes the
    coefficients on a copy smaller by that factor, which is much faster for wide radii and hardly different.
    """
    height, width = guide.shape
    size = (max(1, width // step), max(1, height // step))
    small_guide = _shrink(guide, size)
    small_plane = small_guide if plane is guide else _shrink(plane, size)
    reach = max(1, round(radius / step))
    mean_guide, mean_plane = _box(small_guide, reach), _box(small_plane, reach)
    covariance = _box(small_guide * small_plane, reach) - mean_guide * mean_plane
    variance = _box(small_guide * small_guide, reach) - mean_guide * mean_guide
    slope: F32 = f32(covariance / (np.maximum(variance, 0) + max(epsilon, 1e-6)))
    offset: F32 = f32(mean_plane - slope * mean_guide)
    slope, offset = _box(slope, reach), _box(offset, reach)
    if size != (width, height):
        slope = cast(F32, cv2.resize(slope, (width, height), interpolation=cv2.INTER_LINEAR))
        offset = cast(F32, cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR))
    return f32(slope * guide + offset)


def base_layer(lightness: F32, share: float, epsilon: float) -> F32:
    """The large forms of a picture without its fine detail: a guided filter over ``share`` of the mean side."""
    height, width = lightness.shape
    radius = max(2.0, share * float(np.sqrt(height * width)))
    return guided(lightness, lightness, radius, epsilon, step=max(1, int(radius // 4)))


def _shrink(plane: F32, size: tuple[int, int]) -> F32:
    if size == (plane.shape[1], plane.shape[0]):
        return plane
    return cast(F32, cv2.resize(plane, size, interpolation=cv2.INTER_AREA))


def _box(plane: F32, reach: int) -> F32:
    side = 2 * reach + 1
    return cast(F32, cv2.blur(plane, (side, side), borderType=_EDGE))


def smoothstep(low: float, high: float, value: F32) -> F32:
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return cast(F32, share * share * (3 - 2 * share))

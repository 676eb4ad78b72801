"""Pictures as they are measured: flattened, reduced, clipped to what can be shown."""

from __future__ import annotations

import cv2
import numpy as np

from services.embedded.cielab import F32, U8, f32, lab_to_linear, linear_to_lab

_PLANE, _RGB = 2, 3


def flatten(pixels: U8) -> U8:
    """Any (h, w), (h, w, 1), (h, w, 2), (h, w, 3) or (h, w, 4) bytes as (h, w, 3) RGB.

    Transparent pixels are composed over white. Raises ValueError for an array that is not a picture.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ValueError(f"not a picture: {pixels.dtype} {pixels.shape}")
    layers = pixels[..., None] if pixels.ndim == _PLANE else pixels
    depth = layers.shape[2]
    if depth not in (1, 2, 3, 4):
        raise ValueError(f"not a picture: {depth} channels")
    colour = layers[..., :3] if depth >= _RGB else np.repeat(layers[..., :1], 3, axis=2)
    if depth in (1, 3):
        return np.ascontiguousarray(colour)
    alpha = layers[..., -1:].astype(np.float32) / 255.0
    flat: U8 = (colour * alpha + 255.0 * (1.0 - alpha) + 0.5).astype(np.uint8)
    return flat


def fit(width: int, height: int, longest: int) -> tuple[int, int]:
    """The (width, height) of the same shape whose long side is at most `longest`."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def reduce(values: F32, width: int, height: int) -> F32:
    """Resize an (h, w[, channels]) array, averaging over areas."""
    if values.shape[1] == width and values.shape[0] == height:
        return values
    grows = width > values.shape[1] or height > values.shape[0]
    return f32(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR if grows else cv2.INTER_AREA))


def showable(lab: F32) -> F32:
    """The CIELAB picture clipped to what sRGB can show."""
    return linear_to_lab(np.clip(lab_to_linear(lab), 0, 1))

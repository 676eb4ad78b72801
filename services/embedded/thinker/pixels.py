"""Pictures as they are measured: reduced, flattened, in CIELAB; and conversions between CIELAB and linear light.

Every measurement is made on a reduced copy, so that a figure means the same at every resolution: the *frame* (long side
at most 512 pixels) is for texture, the *thumb* (long side at most 64) for tone and colour. Both are averaged over areas
in linear light.

CIELAB is D65 with L* in 0..100 and a*, b* in about -110..110, all float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

FRAME = 512
THUMB = 64
_LINE = 0.04045  # code value below which sRGB is linear (IEC 61966-2-1)
_PLANE, _RGB = 2, 3
_BRIGHT, _DIM = 254, 1  # bytes that count as blown out and blocked up
_WHITE = np.array([0.950456, 1.0, 1.088754], dtype=np.float32)
_TO_RGB = np.array(
    # IEC 61966-2-1, D65
    [[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]],
    dtype=np.float32,
)
_SLACK = 0.003
_LINE_L, _LINE_Y = 8.0, 0.008856  # below these CIELAB is linear


def _linear_table() -> Floats:
    """The sRGB decoding curve of IEC 61966-2-1 for each of the 256 byte values."""
    code = np.arange(256, dtype=np.float64) / 255.0
    linear = np.where(code <= _LINE, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


TO_LINEAR = _linear_table()
"""Linear light of every byte value, (256,)."""


@dataclass(frozen=True)
class Picture:
    """One picture, ready to be measured.

    `frame` and `thumb` are (height, width, 3) CIELAB; `bright` and `dim` are the shares
    (0..1) of the original's pixels that sit at the very ends of the scale.
    """

    width: int
    height: int
    frame: Floats = field(repr=False)
    thumb: Floats = field(repr=False)
    bright: float
    dim: float

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height


def flatten(pixels: Bytes) -> Bytes:
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
    flat: Bytes = (colour * alpha + 255.0 * (1.0 - alpha) + 0.5).astype(np.uint8)
    return flat


def reduce_picture(pixels: Bytes) -> Picture:
    """The frame, thumb and statistics of a picture of (h, w[, channels]) bytes."""
    flat = flatten(pixels)
    height, width = flat.shape[:2]
    frame_width, frame_height = fit(width, height, FRAME)
    small = flat
    if width > 2 * frame_width:
        # Reducing in code values first is much faster and costs little accuracy.
        small = cv2.resize(flat, (2 * frame_width, 2 * frame_height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    linear = reduce(TO_LINEAR[small], frame_width, frame_height)
    ends = flat[:: max(1, height // FRAME), :: max(1, width // FRAME)]
    # Channel by channel: a reduction over an axis of three is ten times as slow.
    red, green, blue = ends[..., 0], ends[..., 1], ends[..., 2]
    return Picture(
        width=width,
        height=height,
        frame=to_lab(linear),
        thumb=to_lab(reduce(linear, *fit(frame_width, frame_height, THUMB))),
        bright=float(np.mean(np.minimum(np.minimum(red, green), blue) >= _BRIGHT)),
        dim=float(np.mean(np.maximum(np.maximum(red, green), blue) <= _DIM)),
    )


def fit(width: int, height: int, longest: int) -> tuple[int, int]:
    """The (width, height) of the same shape whose long side is at most `longest`."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def reduce(values: Floats, width: int, height: int) -> Floats:
    """Resize an (h, w[, channels]) array, averaging over areas."""
    if values.shape[1] == width and values.shape[0] == height:
        return values
    grows = width > values.shape[1] or height > values.shape[0]
    method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return cv2.resize(values, (width, height), interpolation=method).astype(np.float32)


def to_lab(linear: Floats) -> Floats:
    """CIELAB of (h, w, 3) linear-light RGB in 0..1."""
    return cv2.cvtColor(linear, cv2.COLOR_LRGB2Lab).astype(np.float32)


def to_linear(lab: Floats) -> Floats:
    """Linear-light RGB of (h, w, 3) CIELAB, clipped to what a screen can show."""
    linear = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2LRGB)
    return np.clip(linear, 0.0, 1.0).astype(np.float32)


def showable(lab: Floats) -> Floats:
    """The CIELAB picture clipped to sRGB."""
    return to_lab(to_linear(lab))


def into_gamut(lab: Floats) -> Floats:
    """The (h, w, 3) picture with the chroma of pixels outside sRGB reduced until they fit; lightness and hue stay."""
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
    # Below 6/29 CIELAB is linear.
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

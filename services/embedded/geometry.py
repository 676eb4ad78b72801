"""Geometry: flip, rotate, straighten, crop. Works on Pillow images, so that alpha and mask can take the same steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.embedded.instructions.operations import Area, Kind, Operation

_QUARTERS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
_LOOK_AT = 640  # longer side of the copy on which a tilt is measured
_SHORTEST = 0.08  # of the longer side: the shortest line that counts
_STEEPEST = 12.0  # degrees beyond which a line is not meant to be level or upright
_TOGETHER = 0.8  # degrees within which lines agree
_MAJORITY = 0.45  # share of all length that must agree
_ENOUGH = 0.82  # of the longer side: the length of all lines that agree, each thing counted once
_STRIPE = 0.06  # of the longer side, within which lines side by side are one thing
_LEVEL = 0.4  # degrees that nobody sees


class NotTiltedError(ValueError):
    """No tilt is measured; the message says why."""


def reshape(image: Image.Image, operations: Sequence[Operation]) -> Image.Image:
    """Apply the geometric operations among ``operations`` in their order; others are skipped.

    Raises:
        NotTiltedError: it is to be straightened, and no tilt is measured.
    """
    for operation in operations:
        if operation.kind is Kind.FLIP_HORIZONTAL:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        elif operation.kind is Kind.FLIP_VERTICAL:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        elif operation.kind is Kind.ROTATE:
            image = _rotate(image, operation.degrees or 0.0)
        elif operation.kind is Kind.STRAIGHTEN:
            image = _rotate(image, -level_error(image))
        elif operation.kind is Kind.CROP:
            image = _crop(image, operation)
    return image


def level_error(image: Image.Image) -> float:
    """Degrees, clockwise, by which the picture's level and upright lines are turned.

    Raises:
        NotTiltedError: there are too few lines, they do not agree, or they are level already.
    """
    tilt = tilt_of(image)
    if tilt is None:
        raise NotTiltedError("no tilt was measured: the picture has too few straight lines that agree; give the degrees")
    if abs(tilt) < _LEVEL:
        raise NotTiltedError("the lines of the picture are level already; give the degrees to turn it anyway")
    return tilt


def tilt_of(image: Image.Image) -> float | None:
    """Degrees, clockwise, by which most lines differ from level or upright; None where they do not agree."""
    scale = min(1.0, _LOOK_AT / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.LANCZOS))
    found = cv2.createLineSegmentDetector().detect(cv2.GaussianBlur(grey, (0, 0), 1.0))[0]
    if found is None:
        return None
    ends = np.asarray(found, dtype=np.float64).reshape(-1, 4)
    across, down = ends[:, 2] - ends[:, 0], ends[:, 3] - ends[:, 1]
    length = np.hypot(across, down)
    off = (np.degrees(np.arctan2(down, across)) + 45) % 90 - 45
    near = (np.abs(off) < _STEEPEST) & (length > _SHORTEST * max(size))
    # Long lines count more than in proportion: a horizon against bricks.
    off, weight = off[near], length[near] ** 1.5
    if not weight.size:
        return None
    together = [float(weight[np.abs(off - middle) < _TOGETHER].sum()) for middle in off]
    best = int(np.argmax(together))
    if together[best] < _MAJORITY * weight.sum():
        return None
    group = np.abs(off - off[best]) < _TOGETHER
    if _apart(ends[near][group], length[near][group], _STRIPE * max(size)) < _ENOUGH * max(size):
        return None
    return float((off[group] * weight[group]).sum() / weight[group].sum())


def _apart(ends: NDArray[np.float64], length: NDArray[np.float64], stripe: float) -> float:
    """The length of the lines (n, 4) without those along a longer one: both sides of a pole, the stripes of a flag."""
    kept: list[int] = []
    for index in np.argsort(-length):
        middle = (ends[index, :2] + ends[index, 2:]) / 2
        for other in kept:
            along = (ends[other, 2:] - ends[other, :2]) / length[other]
            off = middle - ends[other, :2]
            if abs(along[0] * off[1] - along[1] * off[0]) < stripe and -stripe < off @ along < length[other] + stripe:
                break
        else:
            kept.append(int(index))
    return float(length[kept].sum())


def _rotate(image: Image.Image, degrees: float) -> Image.Image:
    """Rotate clockwise. Quarter turns are exact; other angles are cropped to the largest rectangle without empty corners."""
    degrees %= 360
    if degrees == 0:
        return image
    if degrees in _QUARTERS:
        return image.transpose(_QUARTERS[int(degrees)])
    width, height = _inner_size(image.width, image.height, math.radians(degrees))
    turned = image.rotate(-degrees, resample=Image.Resampling.BICUBIC, expand=True)
    left, top = (turned.width - width) // 2, (turned.height - height) // 2
    return turned.crop((left, top, left + width, top + height))


def _inner_size(width: int, height: int, angle: float) -> tuple[int, int]:
    """The largest upright rectangle inside a ``width`` x ``height`` one turned by ``angle`` (radians)."""
    sine, cosine = abs(math.sin(angle)), abs(math.cos(angle))
    long_side, short_side = max(width, height), min(width, height)
    if short_side <= 2 * sine * cosine * long_side or math.isclose(sine, cosine):
        half = 0.5 * short_side
        inner = (half / sine, half / cosine) if width >= height else (half / cosine, half / sine)
    else:
        double = cosine * cosine - sine * sine
        inner = ((width * cosine - height * sine) / double, (height * cosine - width * sine) / double)
    return max(1, min(width * 2, int(inner[0]))), max(1, min(height * 2, int(inner[1])))


def _crop(image: Image.Image, operation: Operation) -> Image.Image:
    width, height = image.size
    if operation.ratio is not None:
        wide = min(width, max(1, round(height * operation.ratio)))
        tall = min(height, max(1, round(width / operation.ratio)))
        left, top = (width - wide) // 2, (height - tall) // 2
        return image.crop((left, top, left + wide, top + tall))
    # Half from each side, or all from those that are named.
    named = [side for side in operation.positions if side is not Area.CENTRE]
    across, down = round(width * operation.amount), round(height * operation.amount)
    left, right = _removed(across, Area.LEFT, Area.RIGHT, named)
    top, bottom = _removed(down, Area.TOP, Area.BOTTOM, named)
    left, top = min(left, width - 1), min(top, height - 1)
    return image.crop((left, top, max(left + 1, width - right), max(top + 1, height - bottom)))


def _removed(size: int, start: Area, end: Area, named: Sequence[Area]) -> tuple[int, int]:
    if not named:
        return size // 2, size - size // 2
    return size * (start in named), size * (end in named)

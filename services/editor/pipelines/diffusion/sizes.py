"""The size at which a model works, for the size of a source or a request."""

from __future__ import annotations

import math

from services.imaging.shapes import nearly

Size = tuple[int, int]
"""(width, height)"""


def working_size(shape: Size, pixels: int, multiple: int) -> Size:
    """The size in the shape of ``shape``, at most ``pixels`` in all, with sides that ``multiple`` divides (at least one each)."""
    width, height = shape
    scale = min(1.0, math.sqrt(pixels / (width * height)))
    width, height = _whole(width * scale, multiple), _whole(height * scale, multiple)
    # Both sides may have been rounded up: shorten the longer one, which changes the shape least.
    while width * height > pixels and max(width, height) > multiple:
        width, height = (width - multiple, height) if width >= height else (width, height - multiple)
    return width, height


def _whole(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)


def filling_size(shape: Size, pixels: int, multiple: int) -> Size:
    """The size in the shape of ``shape`` with about ``pixels`` in all, smaller sources scaled up."""
    width, height = shape
    scale = math.sqrt(pixels / (width * height))
    # If the short side cannot be shorter, limit the long one.
    longest = pixels // multiple
    return _whole(min(width * scale, longest), multiple), _whole(min(height * scale, longest), multiple)


def closest_shape(shape: Size, sizes: tuple[Size, ...]) -> Size:
    """The size among ``sizes`` whose width / height is closest to ``shape``'s."""
    aspect = shape[0] / shape[1]
    return min(sizes, key=lambda size: (abs(aspect - size[0] / size[1]), size))


def unstretched(made: Size, shape: Size) -> Size:
    """The size of a picture in the shape of ``shape``: as it was made if that is nearly its shape, else of about its area.

    Kontext's training shapes are up to a factor of 2 from a source's. Of one that is far more elongated the area is smaller: no
    side is longer than the longest of both sizes, or 600 x 2 would become 17779 x 59, which WebP does not hold.
    """
    if nearly(made, shape):
        return made
    scale = math.sqrt(made[0] * made[1] / (shape[0] * shape[1]))
    scale = min(scale, max(*made, *shape) / max(shape))
    return _whole(shape[0] * scale, 1), _whole(shape[1] * scale, 1)

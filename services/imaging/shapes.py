"""Pictures in another shape: cropped or padded, never stretched."""

from __future__ import annotations

from typing import Final, Literal

from PIL import Image

Fit = Literal["cover", "contain"]
"""How a picture comes to another shape: ``cover`` crops what stands over, ``contain`` pads what is missing."""
Size = tuple[int, int]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels of the picture; what lies outside of it is padding."""

_SAME: Final = 0.04
"""Editors round sizes to multiples of 8 to 64. They scale the source to that size, and its inverse is no distortion."""


def frame(size: Size, shape: Size, fit: Fit) -> Box:
    """The part of a picture of that size that has another shape, in its middle: the largest within it, or the smallest around it.

    Args:
        size: of the picture.
        shape: whose aspect ratio is wanted.
        fit: crop, or pad.
    """
    width, height = size
    wide = width * shape[1] > height * shape[0]
    if wide == (fit == "cover"):
        framed = max(1, round(height * shape[0] / shape[1])), height
    else:
        framed = width, max(1, round(width * shape[1] / shape[0]))
    left, top = (width - framed[0]) // 2, (height - framed[1]) // 2
    return left, top, left + framed[0], top + framed[1]


def is_framed(size: Size, shape: Size, fit: Fit) -> bool:
    """Whether a picture of that size has the shape already, as nearly as pixels allow."""
    return frame(size, shape, fit) == (0, 0, *size)


def nearly(size: Size, shape: Size) -> bool:
    """Whether two sizes have the same aspect ratio but for an editor's rounding."""
    return abs((size[0] * shape[1]) / (size[1] * shape[0]) - 1) <= _SAME


def enlarges(size: Size, wanted: Size) -> bool:
    """Whether a picture of that size becomes one of the wanted size by being scaled up, and by nothing else."""
    return size[0] * size[1] < wanted[0] * wanted[1] and nearly(size, wanted)


def framed(image: Image.Image, shape: Size, fit: Fit, *, is_mask: bool = False) -> Image.Image:
    """The picture in another shape. Padding is transparent, or white where the picture has no alpha; that of a mask says that the
    edit may not act there.
    """
    left, top, right, bottom = frame(image.size, shape, fit)
    if (left, top, right, bottom) == (0, 0, *image.size):
        return image
    if fit == "cover":
        return image.crop((left, top, right, bottom))
    ground = Image.new(image.mode, (right - left, bottom - top), _padding(image.mode, is_mask=is_mask))
    ground.paste(image, (-left, -top))
    return ground


def scaled(image: Image.Image, size: Size) -> Image.Image:
    """The picture at that size; one of another shape is cropped first."""
    if not nearly(image.size, size):
        image = framed(image, size, "cover")
    return image.resize(size, Image.Resampling.LANCZOS)


def _padding(mode: str, *, is_mask: bool) -> tuple[int, ...]:
    colour = (0,) if is_mask else (255,)
    opaque = (255,) if is_mask else (0,)
    bands = Image.getmodebands(mode)
    return colour * (bands - 1) + opaque if mode.endswith("A") else colour * bands

"""Masks: where an edit may act, and what it changed elsewhere. Pure functions of decoded pictures.

A mask is a picture of the source's size with transparency, as OpenAI's API has it: where it is transparent, also in part, the
edit may act. Everything else is *outside*, and should stay as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops, ImageEnhance, ImageFilter

from services.errors import ApiError

WORKING_PIXELS: Final = 1_048_576
"""Larger pictures are compared, and shown, scaled down to this area."""
TILE: Final = 8
"""Side in pixels of the squares whose means are compared: a JPEG's block, whose mean its compression keeps."""
MARGIN: Final = 8
"""Pixels around the opening that are not compared: a change in the opening spreads so far by compression and by scaling."""
THRESHOLD: Final = 12
"""Levels of 255 by which a square's mean must differ, in one of its colours, to count as changed. Of photographs that were
encoded again (JPEG from quality 50, WebP from 60, 4:2:0) or scaled to another size and back it differs by 9 at most
(`tests/unit/imaging/test_masks.py`)."""
GRID: Final = 1000
"""Side of a mask of boxes; it is scaled to the picture's size."""
_OPAQUE: Final = 255
_VEIL: Final = 0.7


@dataclass(frozen=True, slots=True)
class Outside:
    """What an edit changed outside its mask.

    Attributes:
        changed: share (0 to 1) of the outside in squares of `TILE` pixels whose mean changed by more than `THRESHOLD`.
        difference: mean absolute difference of those means, over all the outside and the three colours, in levels of 255.
    """

    changed: float
    difference: float


def check(mask: Image.Image, size: tuple[int, int], *, param: str = "mask") -> None:
    """Check that a mask fits a source of this size, and opens something.

    Raises:
        ApiError: ``invalid_image``, with the fix.
    """
    if mask.size != size:
        message = f"{param} is {mask.width}x{mask.height}, the image {size[0]}x{size[1]}; send both in one size"
        raise ApiError("invalid_image", message, param=param)
    if mask.mode != "RGBA":
        message = f"{param} has no transparency; send a PNG in which the pixels to edit are transparent"
        raise ApiError("invalid_image", message, param=param)
    if mask.getchannel("A").getextrema()[0] == _OPAQUE:
        message = f"{param} is opaque everywhere, so that nothing may change; make the pixels to edit transparent"
        raise ApiError("invalid_image", message, param=param)


def opening(mask: Image.Image) -> Image.Image:
    """Where the edit may act, in mode L: 255 where the mask is not opaque, else 0.

    Sessions of version 0.1 may have a mask without transparency, which says nothing: all of it is open.
    """
    if "A" not in mask.getbands():
        return Image.new("L", mask.size, _OPAQUE)
    return mask.getchannel("A").point([_OPAQUE] * _OPAQUE + [0])


def of_boxes(boxes: Iterable[tuple[int, int, int, int]]) -> Image.Image:
    """A mask that is open in these boxes (left, top, right, bottom on a grid of 0 to `GRID`), for pictures of any size."""
    mask = Image.new("RGBA", (GRID, GRID), (0, 0, 0, _OPAQUE))
    for box in boxes:
        mask.paste((0, 0, 0, 0), box)
    return mask


def overlay(source: Image.Image, mask: Image.Image) -> Image.Image:
    """The source as a picture of what may change: that part as it is, the rest grey and faded."""
    ground = _on_white(source)
    faded = Image.blend(ImageEnhance.Color(ground).enhance(0), Image.new("RGB", ground.size, "white"), _VEIL)
    return Image.composite(ground, faded, _scaled(opening(mask), ground.size))


def outside(source: Image.Image, mask: Image.Image, candidate: Image.Image) -> Outside | None:
    """What the candidate changed outside the mask; None where the mask leaves nothing outside.

    The candidate is scaled to the source's size. The pictures are laid on white, so that a lost transparency is no change.
    """
    before, after = _on_white(source), _on_white(candidate)
    if after.size != before.size:
        after = after.resize(before.size, Image.Resampling.LANCZOS)
    # A box blur of 0 and 255 is above 0 wherever the opening is within its radius.
    free = _scaled(opening(mask), before.size).filter(ImageFilter.BoxBlur(MARGIN)).point(_ANY)
    # In the opening both are the source.
    after.paste(before, mask=free)
    weights = ImageChops.invert(free).reduce(TILE)
    difference = ImageChops.difference(before.reduce(TILE), after.reduce(TILE))
    red, green, blue = difference.split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    total = _sum(weights)
    if not total:
        return None
    above = largest.point([0] * (THRESHOLD + 1) + [_OPAQUE] * (_OPAQUE - THRESHOLD))
    changed = _sum(ImageChops.darker(weights, above)) / total
    # `before` and `after` are equal in the opening, so the sums are over the outside alone.
    mean = sum(map(_sum, (red, green, blue))) / 3 / (total / _OPAQUE)
    return Outside(round(changed, 4), round(min(mean, float(_OPAQUE)), 2))


_ANY: Final = [0] + [_OPAQUE] * _OPAQUE


def _scaled(opening: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The opening in another size: everything that touches it belongs to it."""
    return opening if opening.size == size else opening.resize(size, Image.Resampling.BOX).point(_ANY)


def _sum(image: Image.Image) -> int:
    return sum(level * count for level, count in enumerate(image.histogram()))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image.getchannel("A"))
    return ground

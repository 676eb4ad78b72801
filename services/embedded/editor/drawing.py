"""Text and border, drawn last, on code values, over everything else."""

from __future__ import annotations

from typing import cast

from PIL import Image, ImageDraw, ImageFont

from services.embedded.cielab import colour_to_lab
from services.embedded.instructions.operations import Area, Operation

_MARGIN = 0.04  # of the shorter side
_MIN_SIZE = 6.0  # points; smaller letters are not legible
_OUTLINE = 0.05  # of the letters' size
_LIGHT = 50  # L* above which an outline is black


def draw_text(layer: Image.Image, operation: Operation) -> None:
    """Draw ``operation.text`` on ``layer`` (RGBA), its letters ``amount`` of the picture's height, shrunk to fit the width.

    An outline, black or white, keeps them legible where the picture has their colour.
    """
    text = operation.text or ""
    width, height = layer.size
    margin = _MARGIN * min(width, height)
    font = _fit(text, max(_MIN_SIZE, operation.amount * height), max(1.0, width - 2 * margin))
    draw = ImageDraw.Draw(layer)
    outline = max(1, round(_OUTLINE * getattr(font, "size", _MIN_SIZE)))
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, stroke_width=outline)
    x = _offset(operation.positions, Area.LEFT, Area.RIGHT, width, right - left, margin)
    y = _offset(operation.positions, Area.TOP, Area.BOTTOM, height, bottom - top, margin)
    colour = operation.colour.rgb if operation.colour is not None else (255, 255, 255)
    around = (0, 0, 0, 255) if colour_to_lab(colour)[0] > _LIGHT else (255, 255, 255, 255)
    draw.multiline_text(
        (x - left, y - top), text, font=font, fill=(*colour, 255), align="center", stroke_width=outline, stroke_fill=around
    )


def _fit(text: str, size: float, available: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    font = ImageFont.load_default(size=size)
    length = _length(font, text)
    if length > available:
        font = ImageFont.load_default(size=max(_MIN_SIZE, size * available / length))
    return font


def _length(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> float:
    return max((float(font.getlength(line)) for line in text.splitlines()), default=0.0)


def _offset(positions: tuple[Area, ...], start: Area, end: Area, available: float, size: float, margin: float) -> float:
    if start in positions:
        return margin
    if end in positions:
        return available - size - margin
    centred_by_default = start is Area.LEFT or Area.CENTRE in positions or positions
    return (available - size) / 2 if centred_by_default else available - size - margin


def draw_border(layer: Image.Image, operation: Operation) -> None:
    """Draw a border inside the edge of ``layer`` (RGBA), ``amount`` of the shorter side wide; the size stays."""
    width, height = layer.size
    thickness = round(operation.amount * min(width, height))
    if thickness < 1:
        return
    colour = (*(operation.colour.rgb if operation.colour is not None else (255, 255, 255)), 255)
    draw = ImageDraw.Draw(layer)
    for box in (
        (0, 0, width, thickness),
        (0, height - thickness, width, height),
        (0, 0, thickness, height),
        (width - thickness, 0, width, height),
    ):
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=cast(tuple[int, ...], colour))

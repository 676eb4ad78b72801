"""Carry out one operation on the working picture: the table from operations to the code that does them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from services.embedded.editor import light, objects, style, texture, tint, tone
from services.embedded.editor.colorimetry import F32
from services.embedded.editor.masks import Masks
from services.embedded.editor.palette import Colour
from services.embedded.editor.picture import Picture
from services.embedded.editor.plan import Area, Kind, Operation, Region, Term

_BACKGROUND = Region((Term(Area.BACKGROUND),))

Simple = Callable[[Picture, float, F32 | None], None]
Coloured = Callable[[Picture, float, F32 | None, Colour], None]
Random = Callable[[Picture, float, F32 | None, np.random.Generator], None]
Counted = Callable[[Picture, float, F32 | None, int | None], None]

SIMPLE: dict[Kind, Simple] = {
    Kind.EXPOSURE: tone.expose,
    Kind.CONTRAST: tone.contrast,
    Kind.HIGHLIGHTS: tone.highlights,
    Kind.SHADOWS: tone.shadows,
    Kind.WHITES: tone.whites,
    Kind.BLACKS: tone.blacks,
    Kind.MIDTONES: tone.midtones,
    Kind.MATTE: tone.matte,
    Kind.WARMTH: tint.warmth,
    Kind.TINT: tint.tint,
    Kind.SATURATION: tint.saturation,
    Kind.VIBRANCE: tint.vibrance,
    Kind.HUE: tint.hue,
    Kind.MONOCHROME: tint.monochrome,
    Kind.SEPIA: tint.sepia,
    Kind.INVERT: tint.invert,
    Kind.DENOISE: texture.denoise,
    Kind.CLARITY: texture.clarity,
    Kind.SHARPEN: texture.sharpen,
    Kind.BLUR: texture.blur,
    Kind.HAZE: light.haze,
    Kind.GLOW: light.glow,
    Kind.VIGNETTE: light.vignette,
    Kind.WHITE_VIGNETTE: light.white_vignette,
    Kind.SKETCH: style.sketch,
    Kind.EMBOSS: style.emboss,
}
COLOURED: dict[Kind, Coloured] = {Kind.OVERLAY: tint.overlay, Kind.SPLIT_TONE: tint.split_tone}
RANDOM: dict[Kind, Random] = {Kind.GRAIN: texture.grain, Kind.LIGHT_LEAK: light.light_leak}
COUNTED: dict[Kind, Counted] = {Kind.POSTERIZE: style.posterize, Kind.PIXELATE: style.pixelate}


def carry_out(picture: Picture, operation: Operation, amount: float, masks: Masks, random: np.random.Generator) -> bool:
    """Do one operation at ``amount``; False when its region is nowhere in the picture, and nothing was done."""
    if operation.region.terms and masks.is_empty(operation.region):
        return False
    mask = masks.region(operation.region)
    kind, colour = operation.kind, operation.colour
    if kind in SIMPLE:
        SIMPLE[kind](picture, amount, mask)
    elif kind in COLOURED and colour is not None:
        COLOURED[kind](picture, amount, mask, colour)
    elif kind in RANDOM:
        RANDOM[kind](picture, amount, mask, random)
    elif kind in COUNTED:
        COUNTED[kind](picture, amount, mask, operation.count)
    elif kind is Kind.SELECTIVE_COLOUR:
        tint.monochrome(picture, amount, None if mask is None else 1 - mask)
    elif kind is Kind.RECOLOUR and colour is not None and mask is not None:
        objects.recolour(picture, amount, mask, colour)
    elif kind is Kind.REPLACE_BACKGROUND and colour is not None:
        return _replace_background(picture, operation, amount, masks)
    else:
        return False
    return True


def _replace_background(picture: Picture, operation: Operation, amount: float, masks: Masks) -> bool:
    mask = masks.region(_BACKGROUND)
    if mask is None or operation.colour is None:
        return False
    objects.replace_background(picture, amount, mask, operation.colour, operation.second_colour)
    return True

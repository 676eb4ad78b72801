"""One operation carried out on a picture: what its name and amount mean, for the editor and for the thinker's expectation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from services.embedded.cielab import F32
from services.embedded.instructions.colour_names import Colour
from services.embedded.instructions.operations import Kind, Operation
from services.embedded.retouching import colour, effects, tone
from services.embedded.retouching.picture import Picture

# The functions that carry out each kind of operation, by the arguments they take.
_PLAIN: dict[Kind, Callable[[Picture, float, F32 | None], None]] = {
    Kind.EXPOSURE: tone.expose,
    Kind.CONTRAST: tone.contrast,
    Kind.HIGHLIGHTS: tone.highlights,
    Kind.SHADOWS: tone.shadows,
    Kind.WHITES: tone.whites,
    Kind.BLACKS: tone.blacks,
    Kind.MIDTONES: tone.midtones,
    Kind.WHITE_BALANCE: colour.white_balance,
    Kind.WARMTH: colour.warmth,
    Kind.TINT: colour.tint,
    Kind.SATURATION: colour.saturation,
    Kind.VIBRANCE: colour.vibrance,
    Kind.HUE: colour.hue,
    Kind.MONOCHROME: colour.monochrome,
    Kind.SEPIA: colour.sepia,
    Kind.INVERT: colour.invert,
    Kind.DENOISE: effects.denoise,
    Kind.CLARITY: effects.clarity,
    Kind.SHARPEN: effects.sharpen,
    Kind.BLUR: effects.blur,
    Kind.HAZE: effects.haze,
    Kind.GLOW: effects.glow,
    Kind.VIGNETTE: effects.vignette,
}
_COLOURED: dict[Kind, Callable[[Picture, float, F32 | None, Colour], None]] = {
    Kind.OVERLAY: colour.overlay,
    Kind.SPLIT_TONE: colour.split_tone,
    Kind.RECOLOUR: colour.recolour,
}


def retouch(picture: Picture, operation: Operation, amount: float, mask: F32 | None, random: np.random.Generator) -> None:
    """Change the picture by an operation on light, colour or texture; ``random`` is for the pattern of its grain."""
    kind = operation.kind
    if kind in _PLAIN:
        _PLAIN[kind](picture, amount, mask)
    elif kind in _COLOURED and operation.colour is not None:
        _COLOURED[kind](picture, amount, mask, operation.colour)
    elif kind is Kind.GRAIN:
        effects.grain(picture, amount, mask, random)

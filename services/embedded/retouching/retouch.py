"""One operation carried out on a picture: what its name and amount mean, for the editor and for the thinker's expectation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from services.embedded.cielab import F32
from services.embedded.instructions.colour_names import Colour
from services.embedded.instructions.operations import Kind, Operation
from services.embedded.retouching import colour, effects, tone
from services.embedded.retouching.picture import Picture

_PLAIN: dict[Kind, Callable[[Picture, float, F32 | None], None]] = {
    Kind(function.__name__): function
    for function in (
        *(tone.exposure, tone.contrast, tone.highlights, tone.shadows, tone.whites, tone.blacks, tone.midtones),
        *(colour.white_balance, colour.warmth, colour.tint, colour.saturation, colour.vibrance, colour.hue),
        *(colour.monochrome, colour.sepia, colour.invert),
        *(effects.denoise, effects.clarity, effects.sharpen, effects.blur, effects.haze, effects.glow, effects.vignette),
    )
}
_COLOURED: dict[Kind, Callable[[Picture, float, F32 | None, Colour], None]] = {
    Kind(function.__name__): function for function in (colour.overlay, colour.split_tone)
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

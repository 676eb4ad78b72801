"""Operations on an object or its surroundings: a new colour for a thing, another background."""

from __future__ import annotations

import numpy as np

from services.embedded.editor.colorimetry import F32, colour_to_lab, decode, f32, linear_to_lab, painted
from services.embedded.editor.palette import Colour
from services.embedded.editor.picture import Picture

_NEUTRAL = 10.0  # chroma below which a colour counts as black, grey or white
_INSIDE = 0.5


def recolour(picture: Picture, amount: float, mask: F32, colour: Colour) -> None:
    """Give what the mask covers another colour, keeping its shading.

    Hue becomes the target's; chroma keeps its variation about the target's; lightness moves as a whole so that its middle
    comes near the target's. White, grey and black have no hue: for them chroma goes and lightness moves all the way.
    """
    target = colour_to_lab(colour.rgb)
    neutral = float(np.hypot(target[1], target[2])) < _NEUTRAL
    covered = picture.lab[mask > _INSIDE]
    if len(covered) == 0:
        covered = picture.lab.reshape(-1, 3)
    middle = float(np.median(covered[:, 0]))
    own_chroma = max(6.0, float(np.median(np.hypot(covered[:, 1], covered[:, 2]))))
    lift = (1.0 if neutral else 0.6) * (target[0] - middle)

    def retouch(lab: F32, _: slice) -> F32:
        # Shading is kept by moving middle tones most: black stays dark and highlights stay light.
        room = np.clip(np.minimum(lab[..., 0] / max(middle, 8.0), (100 - lab[..., 0]) / max(100 - middle, 8.0)), 0, 1)
        lightness = np.clip(lab[..., 0] + lift * room**0.7, 0, 100).astype(np.float32)
        after = painted(lightness, colour.rgb)
        if not neutral:
            variation = np.clip(np.hypot(lab[..., 1], lab[..., 2]) / own_chroma, 0.55, 1)
            after[..., 1:] *= variation[..., None]
        return lab + np.float32(amount) * (after - lab)

    picture.point(mask, retouch)


def replace_background(picture: Picture, amount: float, mask: F32, colour: Colour, second: Colour | None) -> None:
    """Put a colour, or a gradient from top to bottom, where the mask is; mixed in linear light, so edges do not darken."""
    top = decode(np.array([[colour.rgb]], dtype=np.uint8))[0, 0]
    bottom = top if second is None else decode(np.array([[second.rgb]], dtype=np.uint8))[0, 0]
    share = ((np.arange(picture.height, dtype=np.float32) + 0.5) / picture.height)[:, None]
    # The ramp runs in CIELAB, where equal steps look equal.
    ends = linear_to_lab(f32([[top, bottom]]))[0]
    ramp = f32(ends[0] * (1 - share) + ends[1] * share)

    def retouch(lab: F32, rows: slice) -> F32:
        return lab + np.float32(amount) * (ramp[rows][:, None, :] - lab)

    picture.point(mask, retouch)

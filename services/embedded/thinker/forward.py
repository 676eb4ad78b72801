"""What operations are expected to do to a thumb: the editor's manual, applied in CIELAB on 64 pixels or less.

An editor responds more or less strongly than its manual says, so every operation has a gain, 1 unless `solver.estimate_gains` has
measured another on a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from services.embedded.cielab import F32
from services.embedded.instructions.operations import DRAWN, GEOMETRY, TONES, WHOLE, Area, Kind, Operation, Region
from services.embedded.regions import outside, side, tone_range
from services.embedded.retouching.picture import Picture
from services.embedded.retouching.retouch import retouch
from services.embedded.thinker.pictures import showable

_TEXTURE = frozenset({Kind.GRAIN, Kind.DENOISE, Kind.SHARPEN, Kind.BLUR, Kind.CLARITY})
MODELLED = frozenset(Kind) - _TEXTURE - frozenset(GEOMETRY) - frozenset(DRAWN)
"""Operations whose effect shows on a thumb."""
Key = tuple[Kind, Region, str]
_NO_PATTERN = np.random.default_rng(0)  # never drawn from: grain is not modelled


def applied(
    thumb: F32, operations: Sequence[Operation], masks: Mapping[Region, F32], gains: Mapping[Key, float] | None = None
) -> F32:
    """The (h, w, 3) CIELAB thumb after the modelled operations among these; ``masks`` has those of their regions."""
    picture = Picture.of_lab(thumb)
    for operation in operations:
        mask = mask_of(operation.region, thumb, masks)
        if operation.kind in MODELLED and (operation.region == WHOLE or mask is not None):
            gain = 1.0 if gains is None else gains.get(operation.key, 1.0)
            amount = float(np.clip(operation.amount * gain, -1.0, 1.5))
            retouch(picture, replace(operation, amount=amount), amount, mask, _NO_PATTERN)
    return showable(picture.lab)


def mask_of(region: Region, thumb: F32, masks: Mapping[Region, F32]) -> F32 | None:
    """The mask (h, w) of a region: the given one, or that of tones and sides, which a thumb shows as well; else None."""
    if region in masks or not region.terms:
        return masks.get(region)
    if any(term.area in (Area.HUE, Area.SKY) for term in region.terms):
        return None
    parts = [
        tone_range(thumb[..., 0], term.area) if term.area in TONES.values() else side(thumb.shape[0], thumb.shape[1], term.area)
        for term in region.terms
    ]
    mask: F32 = np.maximum.reduce(parts)
    return outside(mask) if region.inverted else mask

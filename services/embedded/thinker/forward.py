"""What operations are expected to do to a thumb: the editor's manual, applied in CIELAB on 64 pixels or less.

An editor responds more or less strongly than its manual says, so every operation has a gain, 1 unless `solver.estimate_gains` has
measured another on a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from services.embedded.cielab import F32
from services.embedded.instructions.operations import DRAWN, GEOMETRY, Kind, Operation, Region
from services.embedded.regions import mask_in
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
    """The (h, w, 3) CIELAB thumb after the modelled operations among these; regions without a mask are found on the thumb."""
    picture = Picture.of_lab(thumb)
    for operation in operations:
        if operation.kind in MODELLED:
            mask = masks[operation.region] if operation.region in masks else mask_in(thumb, operation.region)
            gain = 1.0 if gains is None else gains.get(operation.key, 1.0)
            amount = float(np.clip(operation.amount * gain, -1.0, 1.5))
            retouch(picture, replace(operation, amount=amount), amount, mask, _NO_PATTERN)
    return showable(picture.lab)

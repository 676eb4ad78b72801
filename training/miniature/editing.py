"""The embedded editor's adjustments on amounts instead of words, for searches: reading a new instruction takes longer than a
small edit. `tests/unit/training/test_search.py` holds it equal to the editor itself.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from services.embedded.editor.classical_pipeline import strength_for
from services.embedded.instructions import parse
from services.embedded.instructions.operations import SPECS, Operation, Strength
from services.embedded.regions import Regions
from services.embedded.retouching.picture import Picture
from services.embedded.retouching.retouch import retouch
from training.miniature.colour import Pixels
from training.miniature.world import operations, written


def adjusted(source: Pixels, amounts: dict[str, int], seed: int) -> Pixels:
    """What `training.miniature.world.edit` makes of ``written(amounts)``."""
    picture, regions = Picture(np.ascontiguousarray(source)), Regions(source)
    for name in _order():
        if amounts.get(name):
            operation = replace(_operation(name), amount=amounts[name] / 100)
            retouch(picture, operation, effective(name, amounts[name], seed) / 100, regions.mask(operation.region), _GRAIN)
    return picture.render()


def effective(name: str, amount: float, seed: int) -> float:
    """The amount in percent that an adjustment of `amount` percent has under this seed."""
    operation = _operation(name)
    if SPECS[operation.kind].strength is Strength.SLIDER:
        return amount * _factor(name, seed)
    return 100 * strength_for(seed, replace(operation, amount=amount / 100))


_GRAIN = np.random.default_rng(0)
"""For the pattern of grain, which is none of these adjustments."""


@lru_cache(maxsize=1 << 16)
def _factor(name: str, seed: int) -> float:
    return strength_for(seed, replace(_operation(name), amount=1.0))


@lru_cache(maxsize=64)
def _operation(name: str) -> Operation:
    (operation,) = parse(written({name: 40})).operations
    return operation


@lru_cache(maxsize=1)
def _order() -> tuple[str, ...]:
    """The order in which the editor applies them."""
    every = parse(written(dict.fromkeys(operations(), 40))).operations
    known = {(_operation(name).kind, _operation(name).region): name for name in operations()}
    return tuple(known[operation.kind, operation.region] for operation in every)

"""What a seed changes: the strength of each operation, and its own source of randomness for what is random in it."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from services.embedded.editor.plan import SPECS, Operation, Strength

_SPREAD = 0.18  # standard deviation of the log of the strength
_FURTHEST = 1.5  # standard deviations beyond which a draw is held


def source_of(seed: int, operation: Operation, purpose: str) -> np.random.Generator:
    """A generator of its own for one operation: independent of the other operations and of the amount."""
    key = f"{seed}|{purpose}|{operation.kind}|{operation.region}|{operation.colour}"
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def strength_of(seed: int, operation: Operation) -> float:
    """The amount that this seed gives to an operation: the told one times a factor between 0.76 and 1.31.

    Covering operations are varied near 0 but reach exactly 1 at 1; crops, turns, text and frames are never varied.
    """
    how = SPECS[operation.kind].strength
    if how is Strength.EXACT:
        return operation.amount
    draw = float(source_of(seed, operation, "strength").standard_normal())
    factor = math.exp(_SPREAD * max(-_FURTHEST, min(_FURTHEST, draw)))
    if how is Strength.SLIDER:
        return operation.amount * factor
    return operation.amount * factor / (1 + operation.amount * (factor - 1))

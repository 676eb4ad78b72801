"""Where a wish wants this source to go: the imagined picture and its figures."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from services.embedded.thinker.imagine import imagine
from services.embedded.thinker.looks import Look, fitted
from services.embedded.thinker.measure import Tone, tone_of
from services.embedded.thinker.pixels import Floats, Picture
from services.embedded.thinker.slider_model import respond
from services.embedded.thinker.wishes import Wish

# One unit of each figure of `Tone.vector` is about one just noticeable step in a whole picture.
_L, _AB = 1 / 2.0, 1 / 2.0
WEIGHTS: Floats = np.array([_L, _AB, _AB] * 5 + [1 / 2.0, 1 / 3.0, 1 / 4.0, 1 / 4.0], dtype=np.float32)
_ZONE_SHARES = np.array([0.55, 0.9, 1.25, 0.9, 0.55], dtype=np.float32)
WEIGHTS[:15] *= np.repeat(_ZONE_SHARES, 3)


@dataclass(frozen=True)
class Aim:
    """The target for one source: `thumb` is the imagined picture, `tone` its figures.

    `reach` is how far the source itself lies from it (weighted, see `gap`).
    """

    wish: Wish
    look: Look
    thumb: Floats = field(repr=False)
    start: Tone
    tone: Tone

    @property
    def reach(self) -> float:
        """The weighted distance from the source to the target."""
        return gap(self.start, self.tone)


def gap(first: Tone, second: Tone) -> float:
    """Weighted distance of two tones; about 1 where a viewer begins to see a difference."""
    off = (first.vector() - second.vector()) * WEIGHTS
    return float(np.sqrt((off**2).mean()))


def aim_of(wish: Wish, source: Picture, start: Tone) -> Aim:
    """Imagine the wish on a source whose tone is `start`."""
    look = fitted(wish.look, start) if wish.look is not None else Look()
    thumb = respond(source.thumb, wish.fixed) if wish.fixed else source.thumb
    if wish.look is not None:
        thumb = imagine(thumb, look)
    return Aim(wish=wish, look=look, thumb=thumb, start=start, tone=tone_of(thumb))

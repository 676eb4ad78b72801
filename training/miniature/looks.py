"""Looks: what a retoucher would deliver for a name, as a function of the photograph.

A look is an aim (a mean lightness, a spread, a chroma, a white), not an amount: a picture that is dark already needs less for
`low key` than a bright one. That is how people use these words, and it is why a thinker has to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.miniature.colour import F64, Pixels, lab, pixels_of


@dataclass(frozen=True)
class Look:
    """An aim; None leaves what the photograph has.

    Attributes:
        lightness: mean L*.
        spread: standard deviation of L*.
        chroma: mean chroma.
        white: (a*, b*) that a grey pixel gets.
    """

    lightness: float | None = None
    spread: float | None = None
    chroma: float | None = None
    white: tuple[float, float] = (0.0, 0.0)

    def of(self, pixels: Pixels) -> Pixels:
        """The target picture: `pixels`, without faults, with this look."""
        values = lab(pixels)
        light = values[..., 0]
        if self.spread is not None:
            light = _spread(light, self.spread)
        if self.lightness is not None:
            light = _lightened(light, self.lightness)
        if self.chroma is not None:
            has = float(np.hypot(values[..., 1], values[..., 2]).mean())
            values[..., 1:] *= np.clip(self.chroma / max(has, 1.0), 0.1, 2.5)
        values[..., 0] = light
        # Black and white take no tint.
        body = np.clip(4 * light / 100 * (1 - light / 100), 0, 1)[..., None]
        values[..., 1:] += np.array(self.white) * body
        return pixels_of(values)


def _spread(light: F64, wanted: float) -> F64:
    middle = float(light.mean())
    factor = float(np.clip(wanted / max(float(light.std()), 4.0), 0.4, 2.2))
    return np.asarray(np.clip(middle + (light - middle) * factor, 0, 100), dtype=np.float64)


def _lightened(light: F64, wanted: float) -> F64:
    """A power curve that gives L* this mean; black and white stay."""
    share = np.clip(light / 100, 0, 1)
    low, high = 0.2, 5.0
    for _ in range(24):
        power = float(np.sqrt(low * high))
        low, high = (power, high) if float((share**power).mean()) * 100 > wanted else (low, power)
    return np.asarray(100 * share ** float(np.sqrt(low * high)), dtype=np.float64)


TRAINED: Final[dict[str, Look]] = {
    "low key": Look(lightness=27, spread=17),
    "high key": Look(lightness=74, spread=15),
    "evening": Look(lightness=48, chroma=24, white=(5, 20)),
    "dusk": Look(lightness=34, chroma=14, white=(2, -19)),
    "muted": Look(chroma=7, spread=15),
    "vivid": Look(chroma=38, spread=23),
    "hard": Look(lightness=47, spread=29),
    "faded": Look(lightness=58, spread=11, chroma=11, white=(2, 7)),
    "rosy": Look(lightness=60, white=(17, 3)),
    "green film": Look(lightness=42, spread=21, white=(-13, 6)),
}
"""Looks of training, by the name that `phrases` has for them."""

HELD_OUT: Final[dict[str, Look]] = {
    "moonlight": Look(lightness=24, chroma=6, white=(0, -15)),
    "desert": Look(lightness=66, spread=20, chroma=20, white=(4, 26)),
    "silver": Look(lightness=44, spread=27, chroma=6, white=(-1, -4)),
    "violet": Look(lightness=40, spread=14, chroma=22, white=(14, -16)),
    "snow": Look(lightness=80, spread=12, chroma=5, white=(0, -5)),
    "amber": Look(lightness=38, spread=22, white=(10, 26)),
    "mint": Look(lightness=66, chroma=14, white=(-14, 2)),
    "slate": Look(lightness=32, spread=11, chroma=8, white=(-3, -9)),
    "copper": Look(lightness=50, spread=26, chroma=26, white=(14, 14)),
    "haze": Look(lightness=70, spread=9, chroma=9, white=(3, -3)),
    "lagoon": Look(lightness=52, chroma=24, white=(-12, -14)),
    "noir": Look(lightness=22, spread=22, chroma=4),
}
"""Looks never trained on. They are shown by a reference picture, never named: a model that has read nothing but this world's
phrases cannot know what the word means, so a name would only test luck."""

"""A thinker without weights for this world: simple statistics in, amounts out. The baseline that training has to beat."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from training.miniature import colour, phrases
from training.miniature.photographs import Pixels
from training.miniature.search import rounded
from training.miniature.turns import Turn
from training.miniature.world import SIDES, Intent, written
from training.replies import rendered

_GREY: Final = (47.0, 20.0, 0.0, 0.0, 18.0)  # lightness, spread, a*, b*, chroma of a usual photograph
# Percent of a slider for one unit of a statistic, at small amounts.
_GAIN: Final = {"exposure": 2.6, "contrast": 3.0, "tint": 3.3, "warmth": 3.0, "saturation": 3.0}
_NAMES: Final = ("exposure", "contrast", "tint", "warmth", "saturation")
_USED: Final[dict[Intent, tuple[int, ...]]] = {
    "cast": (2, 3),
    "exposure": (0,),
    "repair": (0, 2, 3),
    "match": (0, 1, 2, 3, 4),
}


def statistics(pixels: Pixels) -> tuple[float, float, float, float, float]:
    """Mean and deviation of L*, mean a*, b* and chroma."""
    values = colour.lab(pixels)
    light, red, yellow = (values[..., index] for index in range(3))
    chroma = np.hypot(red, yellow)
    return float(light.mean()), float(light.std()), float(red.mean()), float(yellow.mean()), float(chroma.mean())


def intent_of(instruction: str) -> Intent:
    """The kind of an instruction, by the phrase of training that it holds."""
    read = phrases.table("train")
    for intent, texts in read["intents"].items():
        if any(text in instruction for text in texts):
            return intent  # type: ignore[no-any-return]
    return "order" if re.search(r"\d%", instruction) else "look"


def reply(turn: Turn) -> str:
    """The reply to a turn; it looks at the source and the reference, and never at the target."""
    scene = turn.scene
    intent = intent_of(scene.instruction)
    source, candidate = statistics(scene.source), statistics(turn.candidate)
    wanted = _GREY if scene.reference is None else statistics(scene.reference)
    if intent == "order":
        return rendered("an order is passed on", 5, 9, scene.instruction)
    if intent == "side":
        return rendered("the sides are compared", 4, 9, written(_sides(scene.source)))
    used = _USED.get(intent, ())
    amounts = rounded({_NAMES[index]: _GAIN[_NAMES[index]] * (wanted[index] - source[index]) for index in used})
    before, now = (
        float(np.hypot.reduce([wanted[index] - found[index] for index in used] or [0.0])) for found in (source, candidate)
    )
    semantic = 5.0 if not used else 10 * float(np.clip(1 - now / max(before, 4.0), 0, 1))
    if intent == "leave":
        semantic = 10 * float(np.clip(1 - colour.distance(scene.source, turn.candidate) / 8, 0, 1))
    return rendered("statistics are compared", semantic, 9, written(amounts))


def _sides(pixels: Pixels) -> dict[str, int]:
    """The side that differs most from the middle is brought to it."""
    light = colour.lab(pixels)[..., 0]
    third = light.shape[0] // 4
    sides = {"left": light[:, :third], "right": light[:, -third:], "top": light[:third], "bottom": light[-third:]}
    middle = float(light[third:-third, third:-third].mean())
    off = {side: middle - float(sides[side].mean()) for side in SIDES}
    worst = max(off, key=lambda side: abs(off[side]))
    return rounded({f"{worst} exposure": 2.0 * off[worst]})

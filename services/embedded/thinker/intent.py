"""A wish in words as something that can be measured.

A wish has up to four parts, and any of them may be missing: a *look* (differences in
CIELAB, named or said as plain adjectives), operations *stated* with an amount, *asks* that
are checked one by one (flip, text, a white background), and what was not understood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from services.embedded.thinker.instruction_parser import Instruction, read_instruction
from services.embedded.thinker.looks import LOOKS, Look, joined, scaled
from services.embedded.thinker.operations import MONOCHROME, Key, Op
from services.embedded.thinker.slider_model import modelled

_ADJUSTMENTS: dict[tuple[str, int], tuple[str, float]] = {
    # An operation said without an amount: the look it asks for, and how much of it.
    ("exposure", 1): ("brighter", 1.0),
    ("exposure", -1): ("darker", 1.0),
    ("midtones", 1): ("brighter", 0.8),
    ("midtones", -1): ("darker", 0.8),
    ("whites", 1): ("brighter", 0.7),
    ("whites", -1): ("soft highlights", 1.0),
    ("highlights", 1): ("brighter", 0.7),
    ("highlights", -1): ("soft highlights", 1.0),
    ("shadows", 1): ("open shadows", 1.0),
    ("shadows", -1): ("deep blacks", 1.0),
    ("blacks", 1): ("lifted blacks", 1.0),
    ("blacks", -1): ("deep blacks", 1.0),
    ("contrast", 1): ("contrasty", 1.0),
    ("contrast", -1): ("flat", 1.0),
    ("warmth", 1): ("warm", 1.0),
    ("warmth", -1): ("cool", 1.0),
    ("tint", 1): ("magenta", 1.0),
    ("tint", -1): ("green", 1.0),
    ("saturation", 1): ("vivid", 1.0),
    ("saturation", -1): ("muted", 1.0),
    ("vibrance", 1): ("vivid", 0.7),
    ("vibrance", -1): ("muted", 0.7),
    (MONOCHROME, 1): ("monochrome", 1.0),
    ("sepia", 1): ("sepia toned", 1.0),
    ("vignette", 1): ("vignetted", 1.0),
    ("haze", 1): ("hazy", 1.0),
    ("glow", 1): ("glowing", 1.0),
    ("grain", 1): ("grainy", 1.0),
}

_IMPLIED: dict[str, tuple[Op, ...]] = {
    # What a look wants done besides tone and colour.
    "product": (Op("background", colour="white"),),
    "portrait": (Op("background blur", amount=35.0),),
    "comic": (Op("posterise", amount=45.0),),
}


@dataclass(frozen=True)
class Wish:
    """What is wanted, as far as it was understood.

    `look` is None when no look is wanted; `names` are the looks behind it. `implied` are
    asks nobody said but the look needs. `instruction` is the literal reading.
    """

    text: str
    instruction: Instruction
    names: tuple[str, ...]
    look: Look | None
    stated: tuple[Op, ...]
    asks: tuple[Op, ...]
    implied: tuple[Op, ...]

    @property
    def plain(self) -> bool:
        """Whether only plain adjustments are wanted, where the direction counts more than the amount."""
        return not self.instruction.looks

    @property
    def unknown(self) -> tuple[str, ...]:
        """The clauses that were not, or not fully, understood."""
        return self.instruction.unknown

    @property
    def understood(self) -> bool:
        """Whether any part of the wish can be measured."""
        return self.look is not None or bool(self.stated or self.asks)

    @property
    def checks(self) -> tuple[Op, ...]:
        """Everything that is checked one by one."""
        return self.asks + self.implied

    @property
    def fixed(self) -> dict[Key, float]:
        """Amounts the caller stated for operations that act on tone and colour, in percent."""
        out: dict[Key, float] = {}
        for op in self.stated:
            out[op.key] = out.get(op.key, 0.0) + op.percent
        return out


@lru_cache(maxsize=256)
def wish_of(text: str) -> Wish:
    """Understand a wish of any length; never raises. Pure, and remembered for repeated turns."""
    instruction = read_instruction(text)
    names = [said.look for said in instruction.looks]
    parts = [scaled(LOOKS[said.look], said.strength) for said in instruction.looks]
    stated: list[Op] = []
    asks: list[Op] = []
    for op in instruction.ops:
        adjustment = _ADJUSTMENTS.get((op.name, op.sign))
        if op.amount is None and not op.region and adjustment:
            name, share = adjustment
            names.append(name)
            parts.append(scaled(LOOKS[name], share * op.degree))
        elif modelled(op.key) and op.amount is not None and (op.name, op.sign) != ("haze", -1):
            stated.append(op)
        else:
            asks.append(op)
    parts = [_without(part, instruction.banned) for part in parts]
    return Wish(
        text=text,
        instruction=instruction,
        names=tuple(dict.fromkeys(names)),
        look=joined(parts) if parts else None,
        stated=tuple(stated),
        asks=tuple(asks),
        implied=_implied(names, asks),
    )


def _without(look: Look, banned: frozenset[str]) -> Look:
    """The look less the effects the caller does not want."""
    effects = {"grain", "vignette", "haze", "glow"} & banned
    return replace(look, **dict.fromkeys(effects, 0.0))  # type: ignore[arg-type]


def _implied(names: list[str], asks: list[Op]) -> tuple[Op, ...]:
    """The implied asks that nobody has said already."""
    said = {op.name for op in asks}
    out: dict[str, Op] = {}
    for name in names:
        for op in _IMPLIED.get(name, ()):
            if op.name not in said:
                out.setdefault(op.name, op)
    return tuple(out.values())

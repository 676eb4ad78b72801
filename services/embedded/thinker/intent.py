"""The intent of an instruction: what it asks for, in measurable terms.

It has up to four parts, each optional: a *look* (differences in CIELAB, named or given as plain adjectives), operations
*stated* with an amount, operations *requested* that are checked one by one (flip, text, a white background), and
clauses that were not understood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from services.embedded.thinker.instruction_parser import ParsedInstruction, parse_instruction
from services.embedded.thinker.looks import LOOKS, Look, joined, scaled
from services.embedded.thinker.operations import MONOCHROME, Key, Op
from services.embedded.thinker.slider_model import modelled

_ADJUSTMENTS: dict[tuple[str, int], tuple[str, float]] = {
    # An operation without an amount: the look that it asks for, and the share of it.
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
    # Operations that a look needs in addition to tone and colour.
    "product": (Op("background", colour="white"),),
    "portrait": (Op("background blur", amount=35.0),),
    "comic": (Op("posterise", amount=45.0),),
}


@dataclass(frozen=True)
class Intent:
    """What an instruction asks for, as far as it was understood.

    `look` is None when no look is asked for; `names` are the looks it was joined from. `implied` are operations that the
    instruction does not name but the look needs. `parsed` is the literal reading.
    """

    text: str
    parsed: ParsedInstruction
    names: tuple[str, ...]
    look: Look | None
    stated: tuple[Op, ...]
    requested: tuple[Op, ...]
    implied: tuple[Op, ...]

    @property
    def plain(self) -> bool:
        """Whether only plain adjustments are asked for, where the direction counts more than the amount."""
        return not self.parsed.looks

    @property
    def unknown(self) -> tuple[str, ...]:
        """The clauses that were not, or not fully, understood."""
        return self.parsed.unknown

    @property
    def understood(self) -> bool:
        """Whether any part of the instruction can be measured."""
        return self.look is not None or bool(self.stated or self.requested)

    @property
    def checks(self) -> tuple[Op, ...]:
        """The operations that are checked one by one."""
        return self.requested + self.implied

    @property
    def fixed(self) -> dict[Key, float]:
        """The stated amounts of operations on tone and colour, in percent."""
        out: dict[Key, float] = {}
        for op in self.stated:
            out[op.key] = out.get(op.key, 0.0) + op.percent
        return out


@lru_cache(maxsize=256)
def intent_of(text: str) -> Intent:
    """The intent of an instruction of any length; never raises. Pure, and cached for repeated turns."""
    parsed = parse_instruction(text)
    names = [named.look for named in parsed.looks]
    parts = [scaled(LOOKS[named.look], named.strength) for named in parsed.looks]
    stated: list[Op] = []
    requested: list[Op] = []
    for op in parsed.ops:
        adjustment = _ADJUSTMENTS.get((op.name, op.sign))
        if op.amount is None and not op.region and adjustment:
            name, share = adjustment
            names.append(name)
            parts.append(scaled(LOOKS[name], share * op.degree))
        elif modelled(op.key) and op.amount is not None and (op.name, op.sign) != ("haze", -1):
            stated.append(op)
        else:
            requested.append(op)
    parts = [_without(part, parsed.forbidden) for part in parts]
    return Intent(
        text=text,
        parsed=parsed,
        names=tuple(dict.fromkeys(names)),
        look=joined(parts) if parts else None,
        stated=tuple(stated),
        requested=tuple(requested),
        implied=_implied(names, requested),
    )


def _without(look: Look, forbidden: frozenset[str]) -> Look:
    """The look without the effects that the instruction rules out."""
    effects = {"grain", "vignette", "haze", "glow"} & forbidden
    return replace(look, **dict.fromkeys(effects, 0.0))  # type: ignore[arg-type]


def _implied(names: list[str], requested: list[Op]) -> tuple[Op, ...]:
    """The operations that the looks imply and the instruction does not name."""
    named = {op.name for op in requested}
    out: dict[str, Op] = {}
    for name in names:
        for op in _IMPLIED.get(name, ()):
            if op.name not in named:
                out.setdefault(op.name, op)
    return tuple(out.values())

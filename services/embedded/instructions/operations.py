"""What an instruction asks for: operations with amounts and regions, as plain values without image code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.embedded.instructions.colour_names import Colour

Kind = StrEnum(
    "Kind",
    """FLIP_HORIZONTAL FLIP_VERTICAL ROTATE STRAIGHTEN CROP
    WHITE_BALANCE DENOISE HAZE EXPOSURE HIGHLIGHTS SHADOWS WHITES BLACKS MIDTONES CONTRAST
    WARMTH TINT HUE VIBRANCE SATURATION MONOCHROME SEPIA SPLIT_TONE OVERLAY INVERT
    CLARITY SHARPEN BLUR GLOW VIGNETTE GRAIN TEXT BORDER""",
)
"""Every operation that can be named; its value is its name in lower case."""
ORDER = {kind: index for index, kind in enumerate(Kind)}
"""Operations are applied in this order, however the instruction arranges them."""


class Strength(StrEnum):
    """How a seed may vary an amount."""

    SLIDER = "slider"  # multiplied
    COVER = "cover"  # multiplied near 0, but 100 % stays 100 %: "black and white" must not leave some colour
    EXACT = "exact"  # not varied: a crop, a flip, a text


Area = StrEnum("Area", "HUE TOP BOTTOM LEFT RIGHT CENTRE EDGES SHADOWS MIDTONES HIGHLIGHTS")
"""The parts of a picture that an instruction can name."""


@dataclass(frozen=True, slots=True)
class Term:
    """One area; ``colour`` names the range of hues, where the area is ``HUE``."""

    area: Area
    colour: Colour | None = None

    def __str__(self) -> str:
        return self.area.value if self.colour is None else f"{self.colour} hues"


@dataclass(frozen=True, slots=True)
class Region:
    """The union of its terms, or everything but that union; no terms is the whole picture."""

    terms: tuple[Term, ...] = ()
    inverted: bool = False

    @property
    def of_hues(self) -> bool:
        """Whether a range of hues is part of it."""
        return any(term.area is Area.HUE for term in self.terms)

    def __str__(self) -> str:
        names = " and ".join(str(term) for term in self.terms) or "whole picture"
        return f"all but {names}" if self.inverted else names


WHOLE = Region()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        kind: which.
        amount: a share, -1 to 1; of hue, 1 is 180 degrees.
        region: what it is confined to.
        colour: of a tint, a text or a border.
        text: the quoted text.
        positions: where a text stands, or which sides are cropped.
        degrees: of a rotation, clockwise.
        ratio: of a crop, width over height.
        explicit: whether the instruction gave an amount.
        clause: the words that asked for it.
    """

    kind: Kind
    amount: float = 0.3
    region: Region = WHOLE
    colour: Colour | None = None
    text: str | None = None
    positions: tuple[Area, ...] = ()
    degrees: float | None = None
    ratio: float | None = None
    explicit: bool = False
    clause: str = ""

    @property
    def key(self) -> tuple[Kind, Region, str]:
        """What makes it another operation than one with another amount."""
        return self.kind, self.region, str(self.colour or "")

    def describe(self) -> str:
        """One line for the ``applied`` list, such as ``exposure +20% (top)``."""
        parts = [self.kind.value]
        if self.text is not None:
            parts.append(f'"{self.text}"')
        if self.colour is not None:
            parts.append(str(self.colour))
        parts.append(self._size())
        if self.region.terms:
            parts.append(f"({self.region})")
        return " ".join(part for part in parts if part)

    def _size(self) -> str:
        if self.degrees is not None:
            return f"{self.degrees:g}°"
        if self.ratio is not None:
            return f"ratio {self.ratio:.3g}"
        if SPECS[self.kind].strength is Strength.EXACT and self.kind not in (Kind.CROP, Kind.BORDER):
            return ""
        return f"{self.amount * 100:+.3g}%"


@dataclass(frozen=True, slots=True)
class NamedLook:
    """A look of the phrase table, its strength (1 as described there), and the words that asked for it."""

    name: str
    strength: float = 1.0
    words: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A phrase that neither stand-in can carry out or judge, and the reason with what would be possible."""

    phrase: str
    reason: str

    def __str__(self) -> str:
        sentence = f"{self.reason[:1].upper()}{self.reason[1:]}."
        return f"“{self.phrase}”: {sentence}" if self.phrase else sentence


@dataclass(frozen=True, slots=True)
class Instruction:
    """The reading of an instruction.

    Attributes:
        text: as it was given.
        operations: named operations in the order of `Kind`.
        looks: named looks; the thinker turns them into operations.
        protected: regions that must not change.
        forbidden: operations that are ruled out.
        unjudged: phrases next to an understood part that nobody can measure.
        refusals: why it is not carried out; empty where it can be.
    """

    text: str = ""
    operations: tuple[Operation, ...] = ()
    looks: tuple[NamedLook, ...] = ()
    protected: tuple[Region, ...] = ()
    forbidden: frozenset[Kind] = frozenset()
    unjudged: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def understood(self) -> bool:
        """Whether any part of it can be measured."""
        return bool(self.operations or self.looks)


@dataclass(frozen=True, slots=True)
class Spec:
    """How an operation behaves: its default amount, how a seed varies it, whether a region can confine it, and its opposite."""

    default: float = 0.3
    strength: Strength = Strength.SLIDER
    regional: bool = True
    signed: bool = True
    opposite: Kind | None = None


_COVER = Spec(1.0, Strength.COVER, signed=False)
_GEOMETRY = Spec(1.0, Strength.EXACT, regional=False, signed=False)
_SLIDER = Spec()
_FRAME = {
    Kind.CROP: Spec(0.1, Strength.EXACT, regional=False, signed=False),
    Kind.TEXT: Spec(0.08, Strength.EXACT, regional=False, signed=False),
    Kind.BORDER: Spec(0.05, Strength.EXACT, regional=False, signed=False),
}
SPECS: dict[Kind, Spec] = {
    **dict.fromkeys(Kind, _SLIDER),
    **dict.fromkeys((Kind.FLIP_HORIZONTAL, Kind.FLIP_VERTICAL, Kind.ROTATE, Kind.STRAIGHTEN), _GEOMETRY),
    **dict.fromkeys((Kind.MONOCHROME, Kind.INVERT, Kind.WHITE_BALANCE), _COVER),
    **_FRAME,
    Kind.SEPIA: _COVER,
    Kind.VIGNETTE: Spec(regional=False),
    Kind.GLOW: Spec(signed=False),
    Kind.DENOISE: Spec(0.4, signed=False),
    Kind.GRAIN: Spec(signed=False, opposite=Kind.DENOISE),
    Kind.BLUR: Spec(signed=False, opposite=Kind.SHARPEN),
    Kind.SHARPEN: Spec(signed=False, opposite=Kind.BLUR),
}

GEOMETRY = (Kind.FLIP_HORIZONTAL, Kind.FLIP_VERTICAL, Kind.ROTATE, Kind.STRAIGHTEN, Kind.CROP)
"""Operations that move pixels; applied before all others."""
DRAWN = (Kind.TEXT, Kind.BORDER)
"""Operations that are drawn over the finished picture."""
TONES = {
    Kind.HIGHLIGHTS: Area.HIGHLIGHTS,
    Kind.SHADOWS: Area.SHADOWS,
    Kind.MIDTONES: Area.MIDTONES,
    Kind.WHITES: Area.HIGHLIGHTS,
    Kind.BLACKS: Area.SHADOWS,
}
"""Operations on a range of tones, whose names can also confine another operation ("warm the shadows")."""
HUE_KINDS = frozenset({Kind.EXPOSURE, Kind.WARMTH, Kind.HUE, Kind.VIBRANCE, Kind.SATURATION})
"""Operations that a range of hues can confine, as in the panels of photo editors: a soft band of hues is enough for them."""
COLOUR_KINDS = frozenset(
    {Kind.WHITE_BALANCE, Kind.WARMTH, Kind.TINT, Kind.HUE, Kind.VIBRANCE, Kind.SATURATION, Kind.OVERLAY, Kind.SPLIT_TONE}
    | {Kind.MONOCHROME, Kind.SEPIA}
)
"""Operations that change colour and nothing else."""

"""The plan of an edit: operations with amounts and regions. Plain values, no image code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.embedded.editor.colour_names import Colour


class Kind(StrEnum):
    """Every operation that the editor can apply."""

    EXPOSURE = "exposure"
    CONTRAST = "contrast"
    HIGHLIGHTS = "highlights"
    SHADOWS = "shadows"
    WHITES = "whites"
    BLACKS = "blacks"
    MIDTONES = "midtones"
    MATTE = "matte"
    WARMTH = "warmth"
    TINT = "tint"
    SATURATION = "saturation"
    VIBRANCE = "vibrance"
    HUE = "hue"
    MONOCHROME = "monochrome"
    SELECTIVE_COLOUR = "selective_colour"
    SEPIA = "sepia"
    OVERLAY = "overlay"
    SPLIT_TONE = "split_tone"
    INVERT = "invert"
    RECOLOUR = "recolour"
    REPLACE_BACKGROUND = "replace_background"
    DENOISE = "denoise"
    HAZE = "haze"
    CLARITY = "clarity"
    SHARPEN = "sharpen"
    BLUR = "blur"
    GLOW = "glow"
    LIGHT_LEAK = "light_leak"
    VIGNETTE = "vignette"
    WHITE_VIGNETTE = "white_vignette"
    GRAIN = "grain"
    POSTERIZE = "posterize"
    PIXELATE = "pixelate"
    SKETCH = "sketch"
    EMBOSS = "emboss"
    CROP = "crop"
    FLIP_HORIZONTAL = "flip_horizontal"
    FLIP_VERTICAL = "flip_vertical"
    ROTATE = "rotate"
    TEXT = "text"
    BORDER = "border"


class Strength(StrEnum):
    """How a seed may vary an amount."""

    SLIDER = "slider"  # multiplied
    COVER = "cover"  # multiplied near 0, but 100 % stays 100 %: "black and white" must not leave some colour
    EXACT = "exact"  # not varied: a crop, a flip, a text


class Area(StrEnum):
    """The parts of a picture that an instruction can name."""

    SUBJECT = "subject"
    BACKGROUND = "background"
    SKY = "sky"
    HUE = "hue"
    TOP = "top"
    BOTTOM = "bottom"
    LEFT = "left"
    RIGHT = "right"
    CENTRE = "centre"
    EDGES = "edges"
    SHADOWS = "shadows"
    MIDTONES = "midtones"
    HIGHLIGHTS = "highlights"


@dataclass(frozen=True, slots=True)
class Term:
    """One area; ``colour`` is the range of hues when the area is ``HUE``."""

    area: Area
    colour: Colour | None = None

    def __str__(self) -> str:
        return f"{self.colour} hues" if self.colour is not None else self.area.value


@dataclass(frozen=True, slots=True)
class Region:
    """The union of its terms, or everything but that union; no terms is the whole picture."""

    terms: tuple[Term, ...] = ()
    inverted: bool = False

    def __str__(self) -> str:
        names = " and ".join(str(term) for term in self.terms) or "whole picture"
        return f"all but {names}" if self.inverted else names


WHOLE = Region()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the edit.

    ``amount`` is a share, -1 to 1. ``degrees`` turns clockwise. ``ratio`` is width over height. ``count`` is a number
    of levels or of pixels. ``explicit`` is whether the instruction gave an amount; ``nudge`` whether the operation comes
    from a mood word only.
    """

    kind: Kind
    amount: float = 0.3
    region: Region = WHOLE
    colour: Colour | None = None
    second_colour: Colour | None = None
    text: str | None = None
    positions: tuple[Area, ...] = ()
    degrees: float | None = None
    ratio: float | None = None
    count: int | None = None
    explicit: bool = False
    nudge: bool = False

    def describe(self) -> str:
        """One line for the ``applied`` list, such as ``exposure +20% (background)``."""
        parts = [self.kind.value]
        if self.text is not None:
            parts.append(f'"{self.text}"')
        if self.colour is not None:
            parts.append(str(self.colour))
        if self.second_colour is not None:
            parts.append(f"to {self.second_colour}")
        parts.append(self._size())
        if self.region.terms:
            parts.append(f"({self.region})")
        if self.nudge:
            parts.append("(nudge)")
        return " ".join(part for part in parts if part)

    def _size(self) -> str:
        if self.degrees is not None:
            return f"{self.degrees:g}°"
        if self.ratio is not None:
            return f"ratio {self.ratio:.3g}"
        if self.count is not None:
            return str(self.count)
        if SPECS[self.kind].strength is Strength.EXACT and self.kind not in (Kind.CROP, Kind.BORDER):
            return ""
        return f"{self.amount * 100:+.3g}%"


@dataclass(frozen=True, slots=True)
class Plan:
    """The reading of one instruction: operations in the order of execution, protected regions, and unknown phrases."""

    operations: tuple[Operation, ...] = ()
    protected: tuple[Region, ...] = ()
    not_understood: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spec:
    """How an operation behaves: its default amount, how a seed varies it, whether a region can confine it."""

    default: float = 0.3
    strength: Strength = Strength.SLIDER
    regional: bool = True
    signed: bool = True


_COVER = Spec(1.0, Strength.COVER, signed=False)
_GEOMETRY = Spec(1.0, Strength.EXACT, regional=False, signed=False)

# Operations are applied in the order of this table.
SPECS: dict[Kind, Spec] = {
    Kind.FLIP_HORIZONTAL: _GEOMETRY,
    Kind.FLIP_VERTICAL: _GEOMETRY,
    Kind.ROTATE: _GEOMETRY,
    Kind.CROP: Spec(0.1, Strength.EXACT, regional=False, signed=False),
    Kind.DENOISE: Spec(signed=False),
    Kind.HAZE: Spec(),
    Kind.EXPOSURE: Spec(),
    Kind.HIGHLIGHTS: Spec(),
    Kind.SHADOWS: Spec(),
    Kind.WHITES: Spec(),
    Kind.BLACKS: Spec(),
    Kind.MIDTONES: Spec(),
    Kind.CONTRAST: Spec(),
    Kind.MATTE: Spec(signed=False),
    Kind.WARMTH: Spec(),
    Kind.TINT: Spec(),
    Kind.HUE: Spec(),
    Kind.VIBRANCE: Spec(),
    Kind.SATURATION: Spec(),
    Kind.RECOLOUR: _COVER,
    Kind.MONOCHROME: _COVER,
    Kind.SELECTIVE_COLOUR: _COVER,
    Kind.SEPIA: Spec(0.8, Strength.COVER, signed=False),
    Kind.SPLIT_TONE: Spec(),
    Kind.OVERLAY: Spec(),
    Kind.INVERT: _COVER,
    Kind.CLARITY: Spec(),
    Kind.SHARPEN: Spec(signed=False),
    Kind.BLUR: Spec(signed=False),
    Kind.REPLACE_BACKGROUND: Spec(1.0, Strength.COVER, regional=False, signed=False),
    Kind.PIXELATE: Spec(signed=False),
    Kind.POSTERIZE: Spec(signed=False),
    Kind.SKETCH: _COVER,
    Kind.EMBOSS: Spec(0.6, Strength.COVER, signed=False),
    Kind.GLOW: Spec(signed=False),
    Kind.LIGHT_LEAK: Spec(signed=False),
    Kind.VIGNETTE: Spec(),
    Kind.WHITE_VIGNETTE: Spec(signed=False),
    Kind.GRAIN: Spec(signed=False),
    Kind.TEXT: Spec(0.08, Strength.EXACT, regional=False, signed=False),
    Kind.BORDER: Spec(0.05, Strength.EXACT, regional=False, signed=False),
}
ORDER = {kind: index for index, kind in enumerate(SPECS)}

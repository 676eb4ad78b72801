"""Names of colours and their sRGB values, from the phrase table."""

from __future__ import annotations

from dataclasses import dataclass

from services.embedded.instructions.table import TABLE

Rgb = tuple[int, int, int]
_LONGEST = 3


@dataclass(frozen=True, slots=True)
class Colour:
    """A named colour: ``rgb`` holds three sRGB code values, 0 to 255."""

    name: str
    rgb: Rgb

    def __str__(self) -> str:
        return self.name


def _pairs(text: str) -> list[tuple[str, str]]:
    words = text.split()
    return list(zip(words[::2], words[1::2], strict=True))


def _from_hex(code: str) -> Rgb:
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


_NAMES: dict[str, str] = TABLE["colours"]
COLOURS: dict[str, Rgb] = {name: _from_hex(code) for name, code in _pairs(f"{_NAMES['plain']} {_NAMES['css']}")}
_PLURALS = dict(_pairs(_NAMES["plurals"]))
HUES = frozenset(_PLURALS.values())
"""Names of colours that also name a range of hues: "the red" is one, "the tomato" is not."""
_MODIFIERS = {name: float(share) for name, share in _pairs(_NAMES["modifiers"])}
# Every start of a name is a word that may begin it: "sky blue" is found under skyblue.
_STARTS = frozenset(name[:end] for name in COLOURS for end in range(2, len(name) + 1)) | frozenset(_MODIFIERS)


def parse_hex(code: str) -> Colour | None:
    """Read ``#rgb`` or ``#rrggbb`` (an alpha part is ignored); None for any other number of digits."""
    digits = code.lstrip("#").lower()
    if len(digits) in (3, 4):
        digits = "".join(digit * 2 for digit in digits)
    if len(digits) not in (6, 8):
        return None
    return Colour("#" + digits[:6], _from_hex(digits))


def hue_plural(word: str) -> Colour | None:
    """The colour of a plural such as ``reds``, which names a range of hues in the picture."""
    name = _PLURALS.get(word)
    return Colour(name, COLOURS[name]) if name else None


def match_colour(words: tuple[str, ...]) -> tuple[Colour, int] | None:
    """The colour that the first words name, and how many words it took: ``("sky", "blue", "cup")`` -> skyblue, 2.

    A modifier such as "light" or "deep" mixes a colour that has no name of its own. None when no colour starts here.
    """
    if words[0] not in _STARTS:
        return None
    for length in range(min(_LONGEST, len(words)), 0, -1):
        name = "".join(words[:length])
        if name in COLOURS:
            return Colour(name, COLOURS[name]), length
    if len(words) > 1 and words[0] in _MODIFIERS and words[1] in COLOURS:
        share = _MODIFIERS[words[0]]
        end = 255 if share > 0 else 0
        red, green, blue = (round(part + (end - part) * abs(share)) for part in COLOURS[words[1]])
        return Colour(f"{words[0]} {words[1]}", (red, green, blue)), 2
    return None

"""Names of colours and their sRGB values. No image code is imported here."""

from __future__ import annotations

from dataclasses import dataclass

_CSS = """
aliceblue f0f8ff  antiquewhite faebd7  aqua 00ffff  aquamarine 7fffd4  azure f0ffff  beige f5f5dc
bisque ffe4c4  black 000000  blanchedalmond ffebcd  blue 0000ff  blueviolet 8a2be2  brown a52a2a
burlywood deb887  cadetblue 5f9ea0  chartreuse 7fff00  chocolate d2691e  coral ff7f50  cornflowerblue 6495ed
cornsilk fff8dc  crimson dc143c  cyan 00ffff  darkblue 00008b  darkcyan 008b8b  darkgoldenrod b8860b
darkgreen 006400  darkgrey a9a9a9  darkkhaki bdb76b  darkmagenta 8b008b  darkolivegreen 556b2f
darkorange ff8c00  darkorchid 9932cc  darkred 8b0000  darksalmon e9967a  darkseagreen 8fbc8f
darkslateblue 483d8b  darkslategrey 2f4f4f  darkturquoise 00ced1  darkviolet 9400d3  deeppink ff1493
deepskyblue 00bfff  dimgrey 696969  dodgerblue 1e90ff  firebrick b22222  floralwhite fffaf0  forestgreen 228b22
fuchsia ff00ff  gainsboro dcdcdc  ghostwhite f8f8ff  gold ffd700  goldenrod daa520  green 008000
greenyellow adff2f  grey 808080  honeydew f0fff0  hotpink ff69b4  indianred cd5c5c  indigo 4b0082  ivory fffff0
khaki f0e68c  lavender e6e6fa  lavenderblush fff0f5  lawngreen 7cfc00  lemonchiffon fffacd  lightblue add8e6
lightcoral f08080  lightcyan e0ffff  lightgoldenrodyellow fafad2  lightgreen 90ee90  lightgrey d3d3d3
lightpink ffb6c1  lightsalmon ffa07a  lightseagreen 20b2aa  lightskyblue 87cefa  lightslategrey 778899
lightsteelblue b0c4de  lightyellow ffffe0  lime 00ff00  limegreen 32cd32  linen faf0e6  magenta ff00ff
maroon 800000  mediumaquamarine 66cdaa  mediumblue 0000cd  mediumorchid ba55d3  mediumpurple 9370db
mediumseagreen 3cb371  mediumslateblue 7b68ee  mediumspringgreen 00fa9a  mediumturquoise 48d1cc
mediumvioletred c71585  midnightblue 191970  mintcream f5fffa  mistyrose ffe4e1  moccasin ffe4b5
navajowhite ffdead  navy 000080  oldlace fdf5e6  olive 808000  olivedrab 6b8e23  orange ffa500
orangered ff4500  orchid da70d6  palegoldenrod eee8aa  palegreen 98fb98  paleturquoise afeeee
palevioletred db7093  papayawhip ffefd5  peachpuff ffdab9  peru cd853f  pink ffc0cb  plum dda0dd
powderblue b0e0e6  purple 800080  rebeccapurple 663399  red ff0000  rosybrown bc8f8f  royalblue 4169e1
saddlebrown 8b4513  salmon fa8072  sandybrown f4a460  seagreen 2e8b57  seashell fff5ee  sienna a0522d
silver c0c0c0  skyblue 87ceeb  slateblue 6a5acd  slategrey 708090  snow fffafa  springgreen 00ff7f
steelblue 4682b4  tan d2b48c  teal 008080  thistle d8bfd8  tomato ff6347  turquoise 40e0d0  violet ee82ee
wheat f5deb3  white ffffff  whitesmoke f5f5f5  yellow ffff00  yellowgreen 9acd32
"""

# Everyday names that CSS lacks, with values near those of the xkcd colour survey (https://xkcd.com/color/rgb/).
_PLAIN = """
amber ffb300  apricot ffb16d  blush f29e8e  brick a03623  bronze a87900  burgundy 610023  canary fdff63  caramel af6f09
cerulean 0485d1  champagne f7e7ce  charcoal 343837  cherry cf0234  cobalt 1e488f  copper b66325  cream ffffc2
denim 3b638c  emerald 01a049  fuchsia ed0dd9  jade 1fa774  lemon fdff52  lilac cea2fd  mauve ae7181  mint 9ffeb0
mustard ceb301  ochre bf9005  peach ffb07c  periwinkle 8e82fe  rose cf6275  ruby ca0147  rust a83c09  sand e2ca76
sapphire 2138ab  scarlet be0119  sepia 985e2b  taupe b9a281  terracotta ca6641  ultramarine 2000b1  umber b26400
"""

_MODIFIERS = {
    "light": ((255, 255, 255), 0.5),
    "pale": ((255, 255, 255), 0.6),
    "pastel": ((255, 255, 255), 0.55),
    "dark": ((0, 0, 0), 0.45),
    "deep": ((0, 0, 0), 0.3),
    "bright": ((255, 255, 255), 0.0),
    "vivid": ((255, 255, 255), 0.0),
}

# Colour names that are also names of things: "the tomato" is an object, "the red" a range of hues.
THING_NAMES = frozenset(
    """
    tomato rose peach plum salmon snow wheat olive lemon cherry mint sand brick chocolate coral linen
    bronze copper ruby sapphire emerald jade apricot caramel cream champagne denim rust seashell canary
    orchid thistle amber mustard
    """.split()  # noqa: SIM905 - a list of words reads better than a list of strings
)

_PLURALS = {
    "reds": "red",
    "oranges": "orange",
    "yellows": "yellow",
    "greens": "green",
    "cyans": "cyan",
    "teals": "teal",
    "blues": "blue",
    "purples": "purple",
    "violets": "violet",
    "magentas": "magenta",
    "pinks": "pink",
    "browns": "brown",
    "greys": "grey",
    "golds": "gold",
}


@dataclass(frozen=True, slots=True)
class Colour:
    """A named colour: ``rgb`` holds three sRGB code values, 0 to 255."""

    name: str
    rgb: tuple[int, int, int]

    def __str__(self) -> str:
        return self.name


def _table(*texts: str) -> dict[str, tuple[int, int, int]]:
    colours: dict[str, tuple[int, int, int]] = {}
    for text in texts:
        words = text.split()
        for name, code in zip(words[::2], words[1::2], strict=True):
            colours.setdefault(name, _from_hex(code))
    return colours


def _from_hex(code: str) -> tuple[int, int, int]:
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


COLOURS = _table(_CSS, _PLAIN)
_LONGEST = 3
# Every prefix of a name is a word that may start it: "sky blue" is found under skyblue.
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
        target, share = _MODIFIERS[words[0]]
        red, green, blue = (round(part + (end - part) * share) for part, end in zip(COLOURS[words[1]], target, strict=True))
        return Colour(f"{words[0]} {words[1]}", (red, green, blue)), 2
    return None

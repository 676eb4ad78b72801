"""Operations of a photo editor in words: their names, amounts and phrases.

An amount is in percent, -100..100, relative to the source picture ("increase the warmth by 20%"). Every operation has
several phrases; when an editor does not react to one, the next is tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.embedded.thinker.pixels import TO_LINEAR, Floats, to_lab

MONOCHROME = "monochrome"

COLOURS: dict[str, tuple[float, float, float]] = {
    # CIELAB (D65) of named sRGB colours.
    "black": (0, 0, 0),
    "white": (100, 0, 0),
    "grey": (54, 0, 0),
    "silver": (78, 0, 0),
    "red": (53, 80, 67),
    "orange": (75, 24, 79),
    "amber": (80, 12, 79),
    "gold": (87, -2, 87),
    "yellow": (97, -22, 94),
    "lime": (88, -86, 83),
    "green": (46, -52, 50),
    "olive": (52, -13, 57),
    "teal": (48, -29, -8),
    "turquoise": (81, -44, -4),
    "cyan": (91, -48, -14),
    "sky blue": (79, -15, -21),
    "blue": (32, 79, -108),
    "navy": (13, 48, -65),
    "indigo": (20, 52, -54),
    "purple": (30, 59, -36),
    "violet": (70, 56, -37),
    "magenta": (60, 98, -61),
    "pink": (84, 24, 3),
    "hot pink": (65, 64, -11),
    "brown": (38, 26, 28),
    "beige": (96, -4, 12),
    "cream": (97, -2, 9),
    "maroon": (26, 48, 38),
    "coral": (67, 45, 47),
    "peach": (88, 8, 21),
}


COVERING = frozenset({MONOCHROME, "background", "selective", "recolour", "invert", "flip horizontal", "flip vertical"})
"""Operations that mean 100 % when no amount is given."""


@dataclass(frozen=True)
class Op:
    """One operation of an instruction.

    `amount` is the percentage, or None where none was given, and `sign` its direction; `degree` is how much the words
    stress it (1 plain, 0.5 "slightly", 1.5 "very"). `region` names the part of the picture that it is confined to,
    `colour` a colour word, `detail` any other argument (a text, an angle, a shape). `clause` is the text it was parsed
    from.
    """

    name: str
    sign: int = 1
    amount: float | None = None
    degree: float = 1.0
    region: str = ""
    colour: str = ""
    detail: str = ""
    clause: str = ""

    @property
    def key(self) -> Key:
        """The identity of this operation within an instruction."""
        return (self.name, self.region, self.colour)

    @property
    def percent(self) -> float:
        """The signed amount in percent; where none was given 30, or 100 for operations in `COVERING`."""
        plain = 100.0 if self.name in COVERING else 30.0 * min(self.degree, 3.0)
        given = plain if self.amount is None else self.amount
        return float(np.clip(self.sign * given, -100.0, 100.0))


Key = tuple[str, str, str]
"""(name, region, colour) of an operation."""

PHRASES: dict[str, tuple[tuple[str, str], ...]] = {
    # name: (upwards, downwards), best phrase first. {n} the percentage, {c} a colour.
    "exposure": (
        ("increase the exposure by {n}%", "decrease the exposure by {n}%"),
        ("brighten the image by {n}%", "darken the image by {n}%"),
        ("make it {n}% brighter", "make it {n}% darker"),
    ),
    "contrast": (
        ("increase the contrast by {n}%", "decrease the contrast by {n}%"),
        ("raise the contrast by {n}%", "lower the contrast by {n}%"),
    ),
    "highlights": (
        ("raise the highlights by {n}%", "reduce the highlights by {n}%"),
        ("increase the highlights by {n}%", "decrease the highlights by {n}%"),
    ),
    "shadows": (
        ("lift the shadows by {n}%", "deepen the shadows by {n}%"),
        ("increase the shadows by {n}%", "decrease the shadows by {n}%"),
    ),
    "whites": (
        ("raise the whites by {n}%", "reduce the whites by {n}%"),
        ("increase the whites by {n}%", "decrease the whites by {n}%"),
    ),
    "blacks": (
        ("lift the blacks by {n}%", "deepen the blacks by {n}%"),
        ("add a matte look of {n}%", "decrease the blacks by {n}%"),
    ),
    "midtones": (
        ("raise the midtones by {n}%", "lower the midtones by {n}%"),
        ("increase the midtones by {n}%", "decrease the midtones by {n}%"),
    ),
    "warmth": (
        ("increase the warmth by {n}%", "decrease the warmth by {n}%"),
        ("make it warmer by {n}%", "make it cooler by {n}%"),
        ("raise the temperature by {n}%", "lower the temperature by {n}%"),
    ),
    "tint": (
        ("shift the tint towards magenta by {n}%", "shift the tint towards green by {n}%"),
        ("make it more magenta by {n}%", "make it greener by {n}%"),
    ),
    "saturation": (
        ("increase the saturation by {n}%", "decrease the saturation by {n}%"),
        ("make the colours {n}% stronger", "desaturate the image by {n}%"),
    ),
    "vibrance": (("increase the vibrance by {n}%", "decrease the vibrance by {n}%"),),
    "tint shadows": (
        ("tint the shadows {c} by {n}%", ""),
        ("add a {c} tint of {n}% to the shadows", ""),
    ),
    "tint highlights": (
        ("tint the highlights {c} by {n}%", ""),
        ("add a {c} tint of {n}% to the highlights", ""),
    ),
    "overlay": (("add {a} {c} tint of {n}%", ""), ("apply {a} {c} colour overlay of {n}%", "")),
    "sepia": (("add a sepia tone of {n}%", ""), ("apply {n}% sepia", "")),
    MONOCHROME: (("convert to black and white", ""), ("make it black and white", ""), ("decrease the saturation by 100%", "")),
    "vignette": (
        ("add a vignette of {n}%", "reduce the vignette by {n}%"),
        ("darken the corners by {n}%", "brighten the corners by {n}%"),
    ),
    "grain": (("add film grain of {n}%", "reduce the noise by {n}%"), ("add grain of {n}%", "denoise by {n}%")),
    "haze": (("add haze of {n}%", "reduce the haze by {n}%"), ("add fog of {n}%", "dehaze by {n}%")),
    "glow": (("add a soft glow of {n}%", ""), ("add a bloom of {n}%", "")),
    "blur": (("blur the image by {n}%", "sharpen the image by {n}%"),),
    "sharpen": (("sharpen the image by {n}%", "blur the image by {n}%"),),
    "clarity": (("increase the clarity by {n}%", "decrease the clarity by {n}%"), ("sharpen the image by {n}%", "")),
    "denoise": (("reduce the noise by {n}%", ""), ("remove the grain by {n}%", "")),
    "posterise": (("posterize by {n}%", ""), ("posterise the image by {n}%", "")),
    "white vignette": (("add a white vignette of {n}%", ""),),
    "light leak": (("add a light leak of {n}%", ""),),
    "pixelate": (("pixelate by {n}%", ""), ("pixelate the image by {n}%", "")),
    "sketch": (("turn it into a pencil sketch", ""), ("apply a pencil sketch effect", "")),
    "emboss": (("emboss the image by {n}%", ""),),
    "hue": (("shift the hue by {d} degrees", ""), ("rotate the hues by {d} degrees", "")),
    "invert": (("invert the colours", ""), ("make it a negative", "")),
    "selective": (
        ("keep only {r} in colour", ""),
        ("make everything black and white except {r}", ""),
        ("desaturate everything except {r} by 100%", ""),
    ),
    "recolour": (
        ("change the colour of {r} to {c}", ""),
        ("make {r} {c}", ""),
        ("turn {r} {c}", ""),
    ),
    "background": (("replace the background with {c}", ""), ("make the background {c}", "")),
    "background blur": (("blur the background by {n}%", ""), ("add a background blur of {n}%", "")),
    "crop": (("crop to {d}", ""), ("crop the picture to {d}", "")),
    "flip horizontal": (("flip horizontally", ""), ("mirror the image", "")),
    "flip vertical": (("flip vertically", ""), ("turn it upside down", "")),
    "rotate": (("rotate by {d} degrees", ""), ("rotate the image {d} degrees", "")),
    "text": (("add the text {d}", ""), ("write {d}", "")),
    "border": (("add a {c} border of {n}%", ""), ("add a {c} frame of {n}%", "")),
}

REGION_PHRASES: dict[str, tuple[tuple[str, str], ...]] = {
    "exposure": (
        ("brighten the {r} by {n}%", "darken the {r} by {n}%"),
        ("increase the exposure of the {r} by {n}%", "decrease the exposure of the {r} by {n}%"),
    ),
}


def phrase(key: Key, percent: float, *, detail: str = "", variant: int = 0) -> str:
    """The phrase for one operation; `variant` counts through the phrases known for it."""
    name, region, colour = key
    pairs = _pairs(key)
    up, down = pairs[variant % len(pairs)]
    template = up if percent >= 0 or not down else down
    number = f"{abs(percent):.1f}".removesuffix(".0")
    article = "an" if colour[:1] in tuple("aeio") else "a"
    text = template.format(n=number, c=colour, r=region, a=article, d=detail)
    if region and "{r}" not in template:
        if name in _WHOLE:
            return text
        return text.replace(" by ", f" of the {region} by ", 1) if " by " in text else f"{text} of the {region}"
    return text


_WHOLE = frozenset({"vignette", "grain", "haze", "glow", "border", "crop", "text"})


def _pairs(key: Key) -> tuple[tuple[str, str], ...]:
    name, region, _ = key
    if region and name in REGION_PHRASES:
        return REGION_PHRASES[name]
    return PHRASES[name]


def variants(key: Key) -> int:
    """The number of phrases known for an operation."""
    return len(_pairs(key))


def variant_in(text: str, key: Key) -> int:
    """Which phrase of an operation a lower-case text uses (0 when none is recognised)."""
    for index, pair in enumerate(_pairs(key)):
        for template in pair:
            filled = template.replace("{c}", key[2]).replace("{r}", key[1]).replace("{a} ", "")
            stem = filled.split("{")[0].strip()
            tail = filled.rpartition("}")[2].strip(" %")
            if stem and stem in text and (len(stem) > 8 or tail in text):  # noqa: PLR2004 - "make it" alone is ambiguous
                return index
    return 0


def colour_lab(name: str) -> Floats | None:
    """CIELAB of a colour word or #rrggbb, or None."""
    if name.startswith("#") and len(name) == 7:  # noqa: PLR2004 - #rrggbb
        return _hex_lab(name)
    known = COLOURS.get(name)
    return None if known is None else np.array(known, dtype=np.float32)


def _hex_lab(name: str) -> Floats | None:
    try:
        code = np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)])
    except ValueError:
        return None
    return to_lab(TO_LINEAR[code].reshape(1, 1, 3)).reshape(3)


def hue_name(a: float, b: float) -> str:
    """The colour word whose hue lies nearest to (a*, b*), of those that work as a tint."""
    names = ("red", "orange", "gold", "yellow", "green", "teal", "sky blue", "blue", "purple", "magenta", "hot pink")
    wanted = np.array([a, b]) / max(1e-6, float(np.hypot(a, b)))

    def nearness(name: str) -> float:
        shade = np.array(COLOURS[name][1:])
        return float(shade @ wanted / np.hypot(*shade))

    return max(names, key=nearness)

"""The phrases that the thinker asks an editor with, best first; the parser reads each of them back as its operation.

When an editor does not react to one, the next is tried.
"""

from __future__ import annotations

from dataclasses import replace

from services.embedded.instructions.operations import SPECS, WHOLE, Area, Kind, Operation, Region

# {n} is the percentage, {c} a colour, {a} its article, {r} a region, {d} degrees, a shape or a text.
_PAIRS: dict[Kind, tuple[tuple[str, str], ...]] = {
    Kind.EXPOSURE: (
        ("increase the exposure by {n}%", "decrease the exposure by {n}%"),
        ("brighten the image by {n}%", "darken the image by {n}%"),
        ("make it {n}% brighter", "make it {n}% darker"),
    ),
    Kind.CONTRAST: (
        ("increase the contrast by {n}%", "decrease the contrast by {n}%"),
        ("raise the contrast by {n}%", "lower the contrast by {n}%"),
    ),
    Kind.HIGHLIGHTS: (("raise the highlights by {n}%", "reduce the highlights by {n}%"),),
    Kind.SHADOWS: (("lift the shadows by {n}%", "deepen the shadows by {n}%"),),
    Kind.WHITES: (("raise the whites by {n}%", "reduce the whites by {n}%"),),
    Kind.BLACKS: (("lift the blacks by {n}%", "deepen the blacks by {n}%"),),
    Kind.MIDTONES: (("raise the midtones by {n}%", "lower the midtones by {n}%"),),
    Kind.WHITE_BALANCE: (("fix the white balance", ""),),
    Kind.WARMTH: (
        ("increase the warmth by {n}%", "decrease the warmth by {n}%"),
        ("make it warmer by {n}%", "make it cooler by {n}%"),
        ("raise the temperature by {n}%", "lower the temperature by {n}%"),
    ),
    Kind.TINT: (
        ("shift the tint towards magenta by {n}%", "shift the tint towards green by {n}%"),
        ("make it more magenta by {n}%", "make it greener by {n}%"),
    ),
    Kind.SATURATION: (
        ("increase the saturation by {n}%", "decrease the saturation by {n}%"),
        ("saturate the image by {n}%", "desaturate the image by {n}%"),
    ),
    Kind.VIBRANCE: (("increase the vibrance by {n}%", "decrease the vibrance by {n}%"),),
    Kind.OVERLAY: (("add {a} {c} tint of {n}%", "reduce the {c} tint by {n}%"),),
    Kind.SEPIA: (("add a sepia tone of {n}%", ""),),
    Kind.MONOCHROME: (("convert to black and white", ""), ("make it black and white", "")),
    Kind.VIGNETTE: (
        ("add a vignette of {n}%", "reduce the vignette by {n}%"),
        ("darken the corners by {n}%", "brighten the corners by {n}%"),
    ),
    Kind.GRAIN: (("add film grain of {n}%", ""), ("add grain of {n}%", "")),
    Kind.DENOISE: (("reduce the noise by {n}%", ""), ("denoise by {n}%", "")),
    Kind.HAZE: (("add haze of {n}%", "reduce the haze by {n}%"), ("add fog of {n}%", "dehaze by {n}%")),
    Kind.GLOW: (("add a soft glow of {n}%", ""), ("add a bloom of {n}%", "")),
    Kind.BLUR: (("blur the image by {n}%", ""),),
    Kind.SHARPEN: (("sharpen the image by {n}%", ""),),
    Kind.CLARITY: (("increase the clarity by {n}%", "decrease the clarity by {n}%"),),
    Kind.HUE: (("shift the hue by {d} degrees", ""),),
    Kind.INVERT: (("invert the colours", ""),),
    Kind.RECOLOUR: (("turn {r} {c}", ""), ("change the colour of {r} to {c}", "")),
    Kind.CROP: (("crop by {n}%", ""),),
    Kind.FLIP_HORIZONTAL: (("flip horizontally", ""), ("mirror the image", "")),
    Kind.FLIP_VERTICAL: (("flip vertically", ""),),
    Kind.ROTATE: (("rotate by {d} degrees", ""),),
    Kind.STRAIGHTEN: (("straighten the horizon", ""),),
    Kind.TEXT: (('add the text "{d}"{r} in {c} of {n}%', ""),),
    Kind.BORDER: (("add a {c} border of {n}%", ""),),
    Kind.SPLIT_TONE: (("tint {r} {c} by {n}%", ""),),
}


def variants(operation: Operation) -> int:
    """The number of phrases known for an operation."""
    return len(_PAIRS[operation.kind])


def phrase(operation: Operation, variant: int = 0) -> str:
    """The phrase for an operation; ``variant`` counts through those that are known for it."""
    pairs = _PAIRS[operation.kind]
    up, down = pairs[variant % len(pairs)]
    template = down if operation.amount < 0 and down else up
    number = f"{abs(operation.amount) * 100:.1f}".removesuffix(".0")
    colour = str(operation.colour or "")
    where = _where(operation)
    text = template.format(n=number, c=colour, a="an" if colour[:1] in tuple("aeio") else "a", r=where, d=_detail(operation))
    if operation.ratio is not None:
        return f"crop to {_shape(operation.ratio)}"
    if operation.kind is Kind.CROP and operation.positions:
        return f"crop the {' and the '.join(operation.positions)} by {number}%"
    if "{r}" in template or not operation.region.terms:
        return text
    if operation.region.inverted:
        return f"{text} except {where}"
    return text.replace(" the image by", f" {where} by", 1) if " the image by" in text else f"{text} in {where}"


def _where(operation: Operation) -> str:
    if operation.kind is Kind.TEXT:
        return "".join(f" at the {area}" for area in operation.positions)
    return region_phrase(operation.region)


def region_phrase(region: Region) -> str:
    """The region in words, "the sky and the red car"."""
    names = []
    for term in region.terms:
        colour = str(term.colour or "")
        if term.area is Area.HUE:
            names.append(f"the {colour} {term.thing}".strip() if term.thing or colour.startswith("#") else f"the {colour}")
        else:
            names.append(f"the {term.area.value}")
    return " and ".join(names)


def _detail(operation: Operation) -> str:
    if operation.kind is Kind.HUE:
        return f"{180 * operation.amount:.0f}"
    return operation.text or f"{operation.degrees or 0:g}"


def _shape(ratio: float) -> str:
    if ratio == 1:
        return "a square"
    across, down = ratio.as_integer_ratio() if ratio.is_integer() else (ratio, 1)
    shapes = {16 / 9: "16:9", 9 / 16: "9:16", 4 / 3: "4:3", 3 / 4: "3:4", 3 / 2: "3:2", 2 / 3: "2:3", 4 / 5: "4:5", 5 / 4: "5:4"}
    return shapes.get(ratio, f"{across * 100:.0f}:{down * 100:.0f}")


def variant_in(text: str, operation: Operation) -> int:
    """Which phrase of an operation a text in lower case uses (0 when none is recognised)."""
    plain = replace(operation, region=operation.region if operation.kind in (Kind.RECOLOUR, Kind.SPLIT_TONE) else WHOLE)
    for index in range(variants(operation)):
        for signed in (plain, replace(plain, amount=-plain.amount)) if SPECS[plain.kind].signed else (plain,):
            stem = phrase(signed, index).lower().split(" by ")[0].split(" of ")[0]
            if len(stem) > 8 and stem in text:  # noqa: PLR2004 - "make it" alone is ambiguous
                return index
    return 0

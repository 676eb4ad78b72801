"""The phrases that the thinker asks an editor with, best first; the parser reads each of them back as its operation.

When an editor does not react to one, the next is tried.
"""

from __future__ import annotations

from dataclasses import replace

from services.embedded.instructions.operations import SPECS, WHOLE, Kind, Operation, Region
from services.embedded.instructions.table import TABLE

_PHRASES: dict[Kind, list[list[str]]] = {
    Kind(name): [text.split(" | ") for text in texts] for name, texts in TABLE["writing"].items()
}
_SHAPES = {16 / 9: "16:9", 9 / 16: "9:16", 4 / 3: "4:3", 3 / 4: "3:4", 3 / 2: "3:2", 2 / 3: "2:3", 4 / 5: "4:5", 5 / 4: "5:4"}
_SHORTEST = 9  # letters by which a phrase is recognised: "make it" alone is ambiguous


def variants(operation: Operation) -> int:
    """The number of phrases known for an operation."""
    return len(_PHRASES[operation.kind])


def phrase(operation: Operation, variant: int = 0) -> str:
    """The phrase for an operation; ``variant`` counts through those that are known for it."""
    forms = _PHRASES[operation.kind][variant % variants(operation)]
    template = forms[-1 if operation.amount < 0 else 0]
    number = f"{abs(operation.amount) * 100:.1f}".removesuffix(".0")
    if operation.ratio is not None:
        return f"crop to {_shape(operation.ratio)}"
    if operation.kind is Kind.CROP and operation.positions:
        return f"crop the {' and the '.join(operation.positions)} by {number}%"
    colour, where = str(operation.colour or ""), _where(operation)
    text = template.format(n=number, c=colour, a="an" if colour[:1] in tuple("aeio") else "a", r=where, d=_detail(operation))
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
    """The region in words, "the top and the left"."""
    return " and ".join(f"the {term.colour or term.area}" for term in region.terms)


def _detail(operation: Operation) -> str:
    if operation.kind is Kind.HUE:
        return f"{180 * operation.amount:.0f}"
    return operation.text or f"{operation.degrees or 0:g}"


def _shape(ratio: float) -> str:
    if ratio == 1:
        return "a square"
    return _SHAPES.get(ratio, f"{100 * ratio:.0f}:100")


def variant_in(text: str, operation: Operation) -> int:
    """Which phrase of an operation a text in lower case uses (0 when none is recognised)."""
    plain = replace(operation, region=operation.region if operation.kind is Kind.SPLIT_TONE else WHOLE)
    for index in range(variants(operation)):
        for signed in (plain, replace(plain, amount=-plain.amount)) if SPECS[plain.kind].signed else (plain,):
            stem = phrase(signed, index).lower().split(" by ")[0].split(" of ")[0]
            if len(stem) >= _SHORTEST and stem in text:
                return index
    return 0

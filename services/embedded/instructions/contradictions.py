"""Requests that rule each other out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from services.embedded.instructions.operations import Kind, NamedLook, Operation, Refusal
from services.embedded.instructions.table import TABLE

_EXCLUSIVE = (
    *((Kind.MONOCHROME, kind) for kind in (Kind.SATURATION, Kind.VIBRANCE, Kind.HUE)),
    (Kind.SHARPEN, Kind.BLUR),
)
_OPPOSED = 8.0  # L* by which one look is lighter, and the other darker, than an ordinary picture


def contradictions(
    operations: Sequence[Operation],
    looks: Sequence[NamedLook],
    forbidden: Collection[Kind],
    unwanted: Collection[tuple[Kind, int]],
) -> list[Refusal]:
    """A refusal for each pair of requests that cannot both be met."""
    return [
        Refusal(f"{first}” and “{second}", "these contradict each other; ask for one of them")
        for first, second in (*_opposed(operations), *_looks(looks))
    ] + [
        Refusal(words, "this is asked for and ruled out in one instruction; say which holds")
        for words in (
            *(one.clause for one in operations if one.kind in forbidden or (one.kind, 1 if one.amount > 0 else -1) in unwanted),
            *(look.words for look in looks if Kind.MONOCHROME in forbidden and _is_colourless(look)),
        )
    ]


def _is_colourless(look: NamedLook) -> bool:
    """Whether a look takes all colour away."""
    return float(TABLE["looks"][look.name]["figures"].get("chroma", 1.0)) == 0


def _opposed(operations: Sequence[Operation]) -> Iterator[tuple[str, str]]:
    for first, second in combinations(operations, 2):
        opposite = first.key == second.key and first.amount * second.amount < 0
        whole = not first.region.terms and not second.region.terms
        if opposite or (whole and (_excludes(first, second) or _excludes(second, first))):
            named = first.clause != second.clause
            yield (first.clause, second.clause) if named else (first.describe(), second.describe())


def _excludes(first: Operation, second: Operation) -> bool:
    return (first.kind, second.kind) in _EXCLUSIVE and second.amount > 0


def _looks(looks: Sequence[NamedLook]) -> Iterator[tuple[str, str]]:
    light = {look.words: float(TABLE["looks"][look.name]["figures"].get("light", 0.0)) for look in looks}
    bright = [words for words, value in light.items() if value >= _OPPOSED]
    dark = [words for words, value in light.items() if value <= -_OPPOSED]
    if bright and dark:
        yield bright[0], dark[0]

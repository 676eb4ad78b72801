"""Requests that rule each other out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from services.embedded.instructions.operations import Kind, NamedLook, Operation, Refusal
from services.embedded.instructions.table import TABLE

_EXCLUSIVE = (
    (Kind.MONOCHROME, Kind.SATURATION),
    (Kind.MONOCHROME, Kind.VIBRANCE),
    (Kind.MONOCHROME, Kind.HUE),
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
        for first, second in (*_opposite(operations), *_exclusive(operations), *_looks(looks))
    ] + [
        Refusal(operation.clause, "this is asked for and ruled out in one instruction; say which holds")
        for operation in operations
        if operation.kind in forbidden or (operation.kind, 1 if operation.amount > 0 else -1) in unwanted
    ]


def _opposite(operations: Sequence[Operation]) -> Iterator[tuple[str, str]]:
    for index, first in enumerate(operations):
        for second in operations[index + 1 :]:
            if first.key == second.key and first.amount * second.amount < 0:
                yield _both(first, second)


def _exclusive(operations: Sequence[Operation]) -> Iterator[tuple[str, str]]:
    whole = {operation.kind: operation for operation in operations if not operation.region.terms}
    for first, second in _EXCLUSIVE:
        if first in whole and second in whole and whole[second].amount > 0:
            yield _both(whole[first], whole[second])


def _looks(looks: Sequence[NamedLook]) -> Iterator[tuple[str, str]]:
    light = {look.words: float(TABLE["looks"][look.name]["figures"].get("light", 0.0)) for look in looks}
    bright = [words for words, value in light.items() if value >= _OPPOSED]
    dark = [words for words, value in light.items() if value <= -_OPPOSED]
    if bright and dark:
        yield bright[0], dark[0]


def _both(first: Operation, second: Operation) -> tuple[str, str]:
    if first.clause != second.clause:
        return first.clause, second.clause
    return first.describe(), second.describe()

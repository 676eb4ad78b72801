"""Scores in what a thinker wrote: read where they are clear, and never guessed where they are not.

Total and linear on any text: replies come from models that pictures and instructions talk to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.protocol.critique.ambiguity import elsewhere
from services.protocol.critique.messages import MAX_SCORE, MIN_SCORE, Unparseable

Scores = tuple[float, float]
"""(semantic, quality)"""

_MAX_BRACES: Final = 64
_MAX_NUMBER: Final = 40
_NUMBER: Final = re.compile(r"(-?\d{1,6}(?:\.\d{1,9})?)(?:\s*/\s*10(?:\.0)?|\s+out\s+of\s+10)?")
# The runs are bounded: two unbounded ones side by side take quadratic time.
_NAME: Final = re.compile(r"\b(semantic|quality)\b[\"'*]{0,4}(?:\s{1,4}score)?[\"'*]{0,4}\s{0,8}[:=]", re.IGNORECASE)
_OBJECT_START: Final = re.compile(r"\{\s*[\"'}]")
_BRACE: Final = re.compile(r"[{}]")


class _Twice:
    """The value of a key that was given twice with two values: no value."""

    def __str__(self) -> str:
        return "given twice"


_TWICE: Final = _Twice()


@dataclass(frozen=True, slots=True)
class Found:
    """A JSON object, and where it stands in its text."""

    value: dict[str, Any]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Objects:
    """The outermost JSON objects of a text, in order.

    Attributes:
        text: the text.
        found: the objects.
        broken: whether something began like an object and was none; nothing inside of it is found.
    """

    text: str
    found: list[Found]
    broken: bool

    @property
    def tail(self) -> str:
        """The text after the last object."""
        return self.text[self.found[-1].end :] if self.found else self.text

    def around(self, kept: Sequence[Found] | None = None) -> list[str]:
        """The text before, between and behind the objects, or some of them: one piece more than there are objects."""
        kept = self.found if kept is None else kept
        starts, ends = [*(one.start for one in kept), len(self.text)], [0, *(one.end for one in kept)]
        return [self.text[end:start] for end, start in zip(ends, starts, strict=True)]


def find_objects(text: str) -> Objects:
    """The outermost JSON objects of a text; none at all where it has too many braces to tell."""
    # Not strict: xgrammar lets raw control characters into the strings of a constrained reply.
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_distinct, parse_constant=float)
    found: list[Found] = []
    broken, position = False, text.find("{")
    for _ in range(_MAX_BRACES):
        if position < 0:
            break
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
            if _OBJECT_START.match(text, position):
                broken, end = True, _past(text, position)
        else:
            found.append(Found(value, position, end))
        position = text.find("{", end)
    return Objects(text, found, broken) if position < 0 else Objects(text, [], broken=True)


def in_text(block: str) -> Scores | Unparseable:
    """The scores of a block: one JSON object, or ``semantic: 8, quality: 7``."""
    objects = find_objects(block)
    if not objects.found:
        return of_fields(_labelled(block))
    scores = of_fields(objects.found[0].value)
    if len(objects.found) > 1 or elsewhere(objects.around(), scores if isinstance(scores, tuple) else None):
        return Unparseable("ambiguous_scores", "scores given more than once in <score>")
    return scores


def of_fields(fields: Mapping[str, Any]) -> Scores | Unparseable:
    """The scores among the keys of an object."""
    out: list[float] = []
    for name in ("semantic", "quality"):
        if name not in fields:
            return Unparseable("missing_scores", f"no {name} score")
        number = _number(fields[name])
        if number is None:
            return Unparseable("score_not_a_number", f"{name} is {_shown(fields[name])}")
        if not MIN_SCORE <= number <= MAX_SCORE:
            return Unparseable("score_out_of_range", f"{name} is {number:g}")
        out.append(number)
    return out[0], out[1]


def _labelled(block: str) -> dict[str, Any]:
    """Values by label, each up to the next label; a name given twice with two values has none."""
    fields: dict[str, Any] = {}
    names = list(_NAME.finditer(block))
    for position, name in enumerate(names):
        end = names[position + 1].start() if position + 1 < len(names) else len(block)
        value = block[name.end() : end].lstrip(" \t\r\n\"'*").rstrip(" \t\r\n,;|.\"'*{}")
        value = value.removesuffix(" and").rstrip(" ,")
        key = name.group(1).lower()
        fields[key] = value if fields.get(key, value) == value else _TWICE
    return fields


def _number(value: object) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        match = _NUMBER.fullmatch(text) if len(text) <= _MAX_NUMBER else None
        return float(match.group(1)) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        # An integer beyond every float is a number out of range.
        return float("inf") if value > 0 else float("-inf")
    return number if abs(number) != float("inf") and number == number else None  # noqa: PLR0124 - NaN


def _shown(value: object) -> str:
    """A value in a few characters, whatever it is."""
    return repr(value[:_MAX_NUMBER]) if isinstance(value, str) else f"of type {type(value).__name__}"


def _past(text: str, position: int) -> int:
    """The place behind the brace that closes the one at `position`, or the end of the text."""
    depth = 0
    for brace in _BRACE.finditer(text, position):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key given twice with two values keeps neither."""
    out: dict[str, Any] = {}
    for key, value in pairs:
        out[key] = value if key not in out or out[key] == value else _TWICE
    return out

"""The exact form of a reply, written once and expressed as either kind of constraint.

    Shape, a sequence of literal text and variable parts  ->  regular expression: vLLM's ``structured_outputs``
    JSON Schema                                           ->  OpenAI's ``response_format``

`request_fields` are those of vLLM's chat completion request (0.32 and later; ``guided_*`` was removed and is ignored);
`allows` says whether a constraint permits a reply, to verify that a server really enforces it.

Only the syntax that every backend of vLLM supports is used: plain groups, ``{m,n}``, classes without shorthands. Every free
text is bounded, and its class excludes the characters that would end it early: ``<`` in tagged text; quotes, backslashes and
control characters in JSON strings. Escapes could express those, but a bounded repetition of two alternatives takes xgrammar
0.2.8 a tenth of a second *per token* with a vocabulary of 150,000, and of one class a thousandth (xgrammar's own strings with
a ``maxLength`` hold no escapes either).

To a backend a special token is the text that it spells, ``<|box_start|>``, and vLLM leaves it out of a reply
(``skip_special_tokens``): where the constraint counted 13 characters, none arrives. So JSON strings hold neither ``<`` nor ``[``,
with which such tokens begin (`services.protocol.critique.special_tokens`), nor tagged text ``<``, with which all tokens of the
model that writes it begin. A JSON string that must not be empty begins with a character that can be seen, because parsers strip
white space. A JSON schema promises neither: not every server takes a ``pattern``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

Constraint = Literal["none", "regex", "json_schema"]
"""How a server can be made to keep a reply in form."""

_REPLACED: Final = re.compile("\ufffd+")


@dataclass(frozen=True, slots=True)
class FreeText:
    """Free text of `least` to `most` characters, followed by a question mark if `question`."""

    kind: Literal["tagged", "json"]
    least: int
    most: int
    question: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """0 to 10 with at most one decimal."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A whole number from 0 to 1000."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """`least` to `most` repetitions of the same parts, with text between them; `least` may be 0."""

    item: tuple[str | FreeText | Grid, ...]
    between: str
    least: int
    most: int


Part = str | FreeText | Score | Grid | Choice | Repeated
Shape = tuple[Part, ...]
"""Literal text and variable parts, in order."""

_CLASSES: Final = {"tagged": r"[^<]", "json": r'[^"\\<\[\x00-\x1f]'}
_SEEN: Final = r'[^"\\<\[\x00-\x20\x7f-\x9f' + "\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""What a JSON string of at least one character begins with: no control character and no white space, which `str.strip` removes.

White space beyond ASCII is written out: lm-format-enforcer knows no ``\\u``.
"""
_SPECIAL: Final = re.compile(r"([\\.^$*+?()\[\]{}|])")


def request_fields(kind: Constraint, shape: Shape, schema: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Fields of the chat completion request that make a server keep to the form; empty if the kind cannot express it."""
    if kind == "regex":
        return {"structured_outputs": {"regex": regex(shape)}}
    if kind == "json_schema" and schema is not None:
        named = {"name": "reply", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {}


def allows(content: str, kind: Constraint, shape: Shape, schema: Mapping[str, Any] | None) -> bool:
    """Whether the constraint permits exactly this content; True where there is no constraint."""
    if kind == "regex":
        # xgrammar counts the bytes of an unpaired surrogate as one character; decoded they are several replacement marks.
        return _compiled(shape).fullmatch(_REPLACED.sub("\ufffd", content)) is not None
    if kind == "json_schema" and schema is not None:
        try:
            # Not strict: xgrammar allows raw control characters in strings, and so do the parsers here.
            value = json.loads(content, strict=False, object_pairs_hook=_Pairs, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return False
        return _fits(value, schema)
    return True


def regex(shape: Shape) -> str:
    """The shape as a regular expression that matches the whole reply."""
    return "".join(_regex(part) for part in shape)


def longest(shape: Shape) -> int:
    """Characters of the longest reply of this shape."""
    return sum(_longest(part) for part in shape)


@lru_cache(maxsize=256)
def _compiled(shape: Shape) -> re.Pattern[str]:
    return re.compile(regex(shape))


def _regex(part: Part) -> str:
    if isinstance(part, str):
        return _SPECIAL.sub(r"\\\1", part)
    if isinstance(part, FreeText):
        seen = int(part.kind == "json" and part.least > 0)
        text = f"{_SEEN * seen}{_CLASSES[part.kind]}{{{part.least - seen},{part.most - seen}}}"
        return text + (r"\?" if part.question else "")
    if isinstance(part, Score):
        return r"(10|[0-9](\.[0-9])?)"
    if isinstance(part, Grid):
        # JSON has no leading zeros.
        return "(1000|[1-9][0-9]{0,2}|0)"
    if isinstance(part, Choice):
        return f"({'|'.join(_regex(word) for word in part.words)})"
    item = "".join(_regex(inner) for inner in part.item)
    several = f"{item}({_regex(part.between)}{item}){{{max(0, part.least - 1)},{part.most - 1}}}"
    return several if part.least else f"({several})?"


def _longest(part: Part) -> int:
    if isinstance(part, str):
        return len(part)
    if isinstance(part, FreeText):
        return part.most + part.question
    if isinstance(part, Score):
        return len("9.5")
    if isinstance(part, Grid):
        return len("1000")
    if isinstance(part, Choice):
        return max(map(len, part.words))
    return part.most * (sum(_longest(inner) for inner in part.item) + len(part.between))


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as written: keys in order, repeated ones included."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value matches a schema: only the keywords that the schemas here use, and keys in their order."""
    if "enum" in schema:
        return type(value) in {int, float, str} and value in schema["enum"]
    kind = schema["type"]
    if kind == "string":
        # Not ``minLength``: special tokens that the server counted are not in its text.
        return isinstance(value, str) and len(value) <= schema["maxLength"]
    if kind == "integer":
        return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
    if kind == "array":
        if not isinstance(value, list) or isinstance(value, _Pairs) or not schema["minItems"] <= len(value) <= schema["maxItems"]:
            return False
        inner = schema.get("prefixItems") or [schema["items"]] * len(value)
        return all(_fits(item, form) for item, form in zip(value, inner, strict=True))
    if not isinstance(value, _Pairs) or [key for key, _ in value] != list(schema["properties"]):
        return False
    return all(_fits(item, schema["properties"][key]) for key, item in value)

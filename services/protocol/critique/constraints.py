"""The exact form of a reply, said once and written down for every kind of constraint that servers take.

    Shape, a sequence of literal text and slots  ->  regex, grammar (xgrammar's EBNF), structural tag
    JSON Schema                                  ->  OpenAI's ``response_format``

`fields` are those of vLLM's chat completion request (0.32 and later, where ``guided_*`` is gone and ignored);
`allows` says whether a reply is one that the constraint lets pass, to verify that a server really enforces it.

Only what every backend of vLLM understands is used: plain groups, ``{m,n}``, classes without shorthands. Every free text
is bounded, and its class leaves out what would end it early: ``<`` in tagged text; quotes, backslashes and control
characters in JSON strings. Escapes would say those, but a bounded repetition of two alternatives takes xgrammar 0.2.8 a
tenth of a second *a token* with a vocabulary of 150,000, and of one class a thousandth (xgrammar's own strings with a
``maxLength`` hold no escapes either). In a grammar, texts of one kind share a rule, which is compiled once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal

Constraint = Literal["none", "regex", "grammar", "structural_tag", "json_schema"]
"""What a server can hold its reply to."""

_REPLACED: Final = re.compile("\ufffd+")


@dataclass(frozen=True, slots=True)
class Free:
    """Free text of `least` to `most` characters. `question`: one more, the question mark."""

    kind: Literal["tagged", "json"]
    least: int
    most: int
    question: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """0 to 10 with at most one decimal."""


@dataclass(frozen=True, slots=True)
class Among:
    """One of some words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Several:
    """`least` to `most` of the same slot, with text between them."""

    item: tuple[str | Free, ...]
    between: str
    least: int
    most: int


Part = str | Free | Score | Among | Several
Shape = tuple[Part, ...]
"""Literal text and slots, in order."""

_CLASSES: Final = {"tagged": r"[^<]", "json": r'[^"\\\x00-\x1f]'}
_SPECIAL: Final = re.compile(r"([\\.^$*+?()\[\]{}|])")


def fields(kind: Constraint, shape: Shape | None, schema: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Fields of the chat completion request that make a server keep to the shape; empty where it cannot be said so."""
    if kind == "json_schema" and schema is not None:
        named = {"name": "reply", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if shape is None:
        return {}
    if kind == "regex":
        return {"structured_outputs": {"regex": regex(shape)}}
    if kind == "grammar":
        return {"structured_outputs": {"grammar": grammar(shape)}}
    if kind == "structural_tag":
        return {"response_format": {"type": "structural_tag", "format": structural(shape)}}
    return {}


def allows(content: str, kind: Constraint, shape: Shape | None, schema: Mapping[str, Any] | None = None) -> bool:
    """Whether the constraint lets this content pass, to the letter; where it says nothing, everything passes."""
    if not fields(kind, shape, schema):
        return True
    if kind == "json_schema" and schema is not None:
        try:
            # Not strict: xgrammar lets control characters pass in strings as they are, and so do our parsers.
            value = json.loads(content, strict=False, object_pairs_hook=_ordered, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return False
        return _fits(value, schema)
    # xgrammar counts the bytes of half a surrogate pair as one character; decoded they are several marks of replacement.
    return shape is not None and _compiled(shape).fullmatch(_REPLACED.sub("\ufffd", content)) is not None


def regex(shape: Shape) -> str:
    """The shape as a regular expression that matches the whole reply."""
    return "".join(_regex(part) for part in shape)


def grammar(shape: Shape) -> str:
    """The shape as an EBNF grammar, as xgrammar and llama.cpp read it."""
    rules = {_named(free): f"{_named(free)} ::= {_regex(replace(free, question=False))}" for free in _texts(shape)}
    if any(isinstance(part, Score) for part in shape):
        rules["score"] = 'score ::= "10" | [0-9] ("." [0-9])?'
    return "\n".join([f"root ::= {' '.join(_ebnf(part) for part in shape)}", *rules.values()]) + "\n"


def structural(shape: Shape) -> dict[str, Any]:
    """The shape as the format of a structural tag: a sequence of constant texts and regular expressions."""
    elements = [
        {"type": "const_string", "value": part} if isinstance(part, str) else {"type": "regex", "pattern": _regex(part)}
        for part in shape
    ]
    return {"type": "sequence", "elements": elements}


def longest(shape: Shape) -> int:
    """Characters of the longest reply of this shape."""
    return sum(_longest(part) for part in shape)


@lru_cache(maxsize=256)
def _compiled(shape: Shape) -> re.Pattern[str]:
    return re.compile(regex(shape))


def _texts(shape: Sequence[Part]) -> list[Free]:
    """The free texts of a shape."""
    inner = [_texts(part.item) if isinstance(part, Several) else [part] if isinstance(part, Free) else [] for part in shape]
    return [free for texts in inner for free in texts]


def _named(free: Free) -> str:
    return f"{free.kind}_{free.least}_{free.most}"


def _regex(part: Part) -> str:
    if isinstance(part, str):
        return _SPECIAL.sub(r"\\\1", part)
    if isinstance(part, Free):
        return f"{_CLASSES[part.kind]}{{{part.least},{part.most}}}" + (r"\?" if part.question else "")
    if isinstance(part, Score):
        return r"(10|[0-9](\.[0-9])?)"
    if isinstance(part, Among):
        return f"({'|'.join(_regex(word) for word in part.words)})"
    item = "".join(_regex(inner) for inner in part.item)
    return f"{item}({_regex(part.between)}{item}){{{part.least - 1},{part.most - 1}}}"


def _ebnf(part: Part) -> str:
    if isinstance(part, str):
        return json.dumps(part)
    if isinstance(part, Free):
        return _named(part) + (' "?"' if part.question else "")
    if isinstance(part, Score):
        return "score"
    if isinstance(part, Among):
        return f"({' | '.join(_ebnf(word) for word in part.words)})"
    item = " ".join(_ebnf(inner) for inner in part.item)
    return f"{item} ({_ebnf(part.between)} {item}){{{part.least - 1},{part.most - 1}}}"


def _longest(part: Part) -> int:
    if isinstance(part, str):
        return len(part)
    if isinstance(part, Free):
        return part.most + part.question
    if isinstance(part, Score):
        return 3
    if isinstance(part, Among):
        return max(map(len, part.words))
    return part.most * (sum(_longest(inner) for inner in part.item) + len(part.between))


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written: keys in their order, repeated ones included."""


def _ordered(pairs: list[tuple[str, Any]]) -> _Pairs:
    return _Pairs(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value is what a schema of ours describes: the keywords that ours use, and keys in their order."""
    if "enum" in schema:
        return type(value) in {int, float, str} and value in schema["enum"]
    kind = schema["type"]
    if kind == "string":
        return isinstance(value, str) and schema.get("minLength", 0) <= len(value) <= schema["maxLength"]
    if kind == "array":
        if not isinstance(value, list) or isinstance(value, _Pairs) or not schema["minItems"] <= len(value) <= schema["maxItems"]:
            return False
        inner = schema.get("prefixItems") or [schema["items"]] * len(value)
        return all(_fits(item, form) for item, form in zip(value, inner, strict=True))
    if not isinstance(value, _Pairs) or [key for key, _ in value] != list(schema["properties"]):
        return False
    return all(_fits(item, schema["properties"][key]) for key, item in value)

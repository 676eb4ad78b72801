"""Replies: the text of a chat completion, its JSON objects, and what makes it unreadable in any format.

Total and linear on any text: replies come from models that pictures and instructions talk to.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.protocol.critique.messages import MAX_INSTRUCTION, Critique, Unparseable, UnparseableReason, well_formed
from services.protocol.critique.places import Place
from services.protocol.critique.questions import Answer

MAX_REASONING: Final = 2_000
"""Characters of reasoning a constrained reply may spend, so that a rambling model still reaches its scores."""
MAX_REFINED: Final = 2_000
"""Characters of the refined instruction in a constrained reply."""
CONFLICTING: Final = object()
"""The value of a key that an object holds twice with different values."""

_MAX_ALTERNATIVES: Final = 64
"""Alternatives of a token that are read; OpenAI and vLLM report 20 at most by default."""
_MAX_BRACES: Final = 64
_OBJECT_START: Final = re.compile(r"\{\s*[\"'}]")
_BRACE: Final = re.compile(r"[{}]")
_REFUSAL: Final = re.compile(
    r"^\W*(?:"
    r"i(?:['’]?m|\s+am)\s+(?:really\s+|very\s+)?(?:sorry|unable|not\s+able)|i\s+(?:can['’]?t|cannot|won['’]?t|must\s+decline)\b"  # noqa: RUF001
    r"|(?:i|my)\s+apolog|sorry\b|unfortunately,?\s+i\b|as\s+an\s+ai\b"
    r"|抱歉|对不起|申し訳|lo\s+siento|(?:je\s+suis\s+)?désolé|es\s+tut\s+mir\s+leid|desculpe)",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r"^(?:\*\*)?(?:refined|rewritten|new|next)\s+(?:instruction|prompt)(?:\*\*)?\s*:\s*", re.IGNORECASE)
"""What models write before the instruction."""
_THOUGHTS: Final = re.compile(r"[<\[](/?)(?:think(?:ing)?|thoughts?|reasoning|analysis)[>\]]", re.IGNORECASE)
_FENCE: Final = re.compile(r"(?:```(?:json)?)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice of a chat completion: its texts, and what the model could have begun its content with.

    Attributes:
        first_tokens: natural logarithms of the probabilities of the first token's alternatives, by their text; None where the
            server reported none.
    """

    content: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    refusal: str = ""
    first_tokens: tuple[tuple[str, float], ...] | None = None


def read_completion(body: object) -> Reply | Unparseable:
    """The first choice of a chat completion's JSON body; total on any JSON value."""
    return read_completions(body)[0]


def read_completions(body: object, most: int = 1) -> tuple[Reply | Unparseable, ...]:
    """The choices of a chat completion's JSON body, at least one and at most as many as were requested; total on any JSON
    value.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return (Unparseable("wrong_shape", "no choices[0].message"),)
    return tuple(_choice(choice, index) for index, choice in enumerate(choices[:most]))


def _choice(choice: object, index: int) -> Reply | Unparseable:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return Unparseable("wrong_shape", f"no choices[{index}].message")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content"))
    first_tokens = _first_tokens(choice.get("logprobs"))
    return Reply(_text(content), reasoning, _text(choice.get("finish_reason")), _text(message.get("refusal")), first_tokens)


def _first_tokens(logprobs: object) -> tuple[tuple[str, float], ...] | None:
    """The alternatives of the first token of OpenAI's ``logprobs``, each once."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = tokens[0] if isinstance(tokens, list) and tokens else None
    if not isinstance(first, dict):
        return None
    listed = first.get("top_logprobs")
    # The token itself is not always among the listed ones.
    rows = [*(listed[:_MAX_ALTERNATIVES] if isinstance(listed, list) else []), first]
    found: dict[str, float] = {}
    for row in rows:
        token, logprob = (row.get("token"), row.get("logprob")) if isinstance(row, dict) else (None, None)
        if isinstance(token, str) and isinstance(logprob, int | float) and not isinstance(logprob, bool):
            with contextlib.suppress(OverflowError):
                found.setdefault(token, float(logprob))
    return tuple(found.items()) or None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class FoundObject:
    """A JSON object, and its position in a text."""

    value: dict[str, Any]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ObjectScan:
    """The outermost JSON objects of a text, in order.

    Attributes:
        text: the text.
        found: the objects.
        broken: whether something started like an object but is not valid JSON; nothing inside it is found.
    """

    text: str
    found: list[FoundObject]
    broken: bool

    @property
    def tail(self) -> str:
        """The text after the last object."""
        return self.text[self.found[-1].end :] if self.found else self.text

    def around(self, kept: Sequence[FoundObject] | None = None) -> list[str]:
        """The text before, between and after the objects, or some of them: one piece more than there are objects."""
        kept = self.found if kept is None else kept
        starts, ends = [*(one.start for one in kept), len(self.text)], [0, *(one.end for one in kept)]
        return [self.text[end:start] for end, start in zip(ends, starts, strict=True)]


def find_objects(text: str) -> ObjectScan:
    """The outermost JSON objects of a text; none where it has too many braces to scan."""
    # Not strict: xgrammar allows raw control characters in the strings of a constrained reply.
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_without_conflicts, parse_constant=float)
    found: list[FoundObject] = []
    broken, position = False, text.find("{")
    for _ in range(_MAX_BRACES):
        if position < 0:
            break
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
            if _OBJECT_START.match(text, position):
                broken, end = True, _closing_brace(text, position)
        else:
            found.append(FoundObject(value, position, end))
        position = text.find("{", end)
    return ObjectScan(text, found, broken) if position < 0 else ObjectScan(text, [], broken=True)


def _closing_brace(text: str, position: int) -> int:
    """The position after the brace that closes the one at `position`, or the end of the text."""
    depth = 0
    for brace in _BRACE.finditer(text, position):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


def _without_conflicts(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key with two different values has the value `CONFLICTING`."""
    out: dict[str, Any] = {}
    for key, value in pairs:
        out[key] = value if key not in out or out[key] == value else CONFLICTING
    return out


def without_text(reply: Reply) -> Unparseable | None:
    """Why a reply has no text to read: a refusal, or nothing at all; None if it has text."""
    if reply.refusal:
        return Unparseable("refusal", reply.refusal[:200])
    if not reply.content.strip() and not reply.reasoning.strip():
        if reply.finish_reason == "content_filter":
            return Unparseable("refusal", "the server's content filter stopped the reply")
        return truncated(reply) or Unparseable("empty", "the reply holds no text")
    if _REFUSAL.match(reply.content) and "<score>" not in reply.content and "{" not in reply.content:
        return Unparseable("refusal", reply.content[:200])
    return None


def truncated(reply: Reply) -> Unparseable | None:
    """`Unparseable` if the reply was cut at its token limit."""
    return Unparseable("truncated", "the reply was cut at its token limit") if reply.finish_reason == "length" else None


def object_in(
    reply: Reply, keys: tuple[str, ...], ambiguous: UnparseableReason
) -> tuple[dict[str, Any], list[str]] | Unparseable:
    """The JSON object with any of `keys` in a reply, and the text around it: bare, fenced, or after thoughts.

    An object that is repeated verbatim counts once.
    """
    nothing = without_text(reply)
    if nothing:
        return nothing
    objects = _after_thoughts(reply.content if reply.content.strip() else reply.reasoning)
    found = [one for one in objects.found if any(key in one.value for key in keys)]
    cut = truncated(reply)
    if cut and (not found or objects.broken or objects.tail.strip()):
        return cut
    if not found:
        return Unparseable("not_json", f"no JSON object with {' or '.join(keys)}")
    if len({objects.text[one.start : one.end] for one in found}) > 1:
        return Unparseable(ambiguous, "more than one reply in the reply")
    pieces = objects.around(found)
    if unclosed_thoughts("".join(pieces)):
        return Unparseable(ambiguous, "a reply among thoughts")
    # With a server that reports the whole text as reasoning, a draft cannot be told from a reply.
    if not reply.content.strip() and not all(_FENCE.fullmatch(piece.strip()) for piece in pieces):
        return Unparseable(ambiguous, "a reply among thoughts")
    return found[0].value, pieces


def unclosed_thoughts(text: str) -> bool:
    """Whether thoughts begin in a text and do not end, by any of the tags in use."""
    tags = _THOUGHTS.findall(text)
    return bool(tags) and tags[-1] != "/"


def _after_thoughts(text: str) -> ObjectScan:
    """The JSON objects after the thoughts.

    A closing tag inside an object is part of its texts, if the reply starts with the object or an introduction to it.
    """
    objects = find_objects(text)
    if text.lstrip().startswith(("{", "```")):
        return objects
    ends = [(one.end, piece) for one, piece in zip([FoundObject({}, 0, 0), *objects.found], objects.around(), strict=True)]
    closed = [start + piece.rindex("</think>") for start, piece in ends if "</think>" in piece]
    return find_objects(text[closed[-1] + len("</think>") :]) if closed else objects


def labelled(instruction: str | None) -> str:
    """The instruction to render; one that starts with a label gets another, since `critique_of` strips one."""
    return f"Refined instruction: {instruction}" if instruction and _LABEL.match(instruction) else instruction or ""


def critique_of(
    scores: tuple[float, float],
    reasoning: str,
    instruction: str,
    answers: tuple[Answer, ...] = (),
    places: tuple[Place, ...] = (),
) -> Critique | Unparseable:
    """The critique, with labels and surrounding white space stripped from its texts."""
    instruction = _LABEL.sub("", well_formed(instruction).strip()).strip()
    if len(instruction) > MAX_INSTRUCTION:
        return Unparseable("instruction_too_long", f"{len(instruction)} characters")
    return Critique(scores[0], scores[1], well_formed(reasoning).strip(), instruction or None, answers, places)

"""What a chat completion said, and what every format asks of it first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from services.protocol.critique.messages import MAX_INSTRUCTION, Answer, Critique, Unparseable, UnparseableReason, well_formed
from services.protocol.critique.scores import Found, Objects, find_objects

MAX_REASONING: Final = 2_000
"""Characters of reasoning a constrained reply may spend, so that a rambling model still reaches its scores."""
MAX_REFINED: Final = 2_000
"""Characters of the refined instruction in a constrained reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat completion said, before anyone reads meaning into it."""

    content: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    refusal: str = ""


def read_completion(body: object) -> Reply | Unparseable:
    """The first choice of a chat completion's JSON body; total on any JSON value."""
    return read_completions(body)[0]


def read_completions(body: object) -> tuple[Reply | Unparseable, ...]:
    """Every choice of a chat completion's JSON body, one at least; total on any JSON value."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return (Unparseable("wrong_shape", "no choices[0].message"),)
    return tuple(_choice(choice, index) for index, choice in enumerate(choices))


def _choice(choice: object, index: int) -> Reply | Unparseable:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return Unparseable("wrong_shape", f"no choices[{index}].message")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content"))
    return Reply(_text(content), reasoning, _text(choice.get("finish_reason")), _text(message.get("refusal")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


_REFUSAL: Final = re.compile(
    r"^\W*(?:"
    r"i(?:['’]?m|\s+am)\s+(?:really\s+|very\s+)?(?:sorry|unable|not\s+able)|i\s+(?:can['’]?t|cannot|won['’]?t|must\s+decline)\b"  # noqa: RUF001
    r"|(?:i|my)\s+apolog|sorry\b|unfortunately,?\s+i\b|as\s+an\s+ai\b"
    r"|抱歉|对不起|申し訳|lo\s+siento|(?:je\s+suis\s+)?désolé|es\s+tut\s+mir\s+leid|desculpe)",
    re.IGNORECASE,
)
LABEL: Final = re.compile(r"^(?:\*\*)?(?:refined|rewritten|new|next)\s+(?:instruction|prompt)(?:\*\*)?\s*:\s*", re.IGNORECASE)
"""What models write before the instruction."""


_THOUGHTS: Final = re.compile(r"[<\[](/?)(?:think(?:ing)?|thoughts?|reasoning|analysis)[>\]]", re.IGNORECASE)
_FENCE: Final = re.compile(r"(?:```(?:json)?)?", re.IGNORECASE)


def no_text(reply: Reply) -> Unparseable | None:
    """Why there is nothing to read in a reply, if so."""
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
    """That a reply was cut, if it was."""
    return Unparseable("truncated", "the reply was cut at its token limit") if reply.finish_reason == "length" else None


def object_in(
    reply: Reply, keys: tuple[str, ...], ambiguous: UnparseableReason
) -> tuple[dict[str, Any], list[str]] | Unparseable:
    """The JSON object with any of `keys` in a reply, and what stands around it: bare, fenced, or after thoughts.

    One that is repeated letter by letter counts once.
    """
    nothing = no_text(reply)
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
    if unclosed("".join(pieces)):
        return Unparseable(ambiguous, "a reply among thoughts")
    # A server that takes all for thoughts cannot tell a draft from a reply.
    if not reply.content.strip() and not all(_FENCE.fullmatch(piece.strip()) for piece in pieces):
        return Unparseable(ambiguous, "a reply among thoughts")
    return found[0].value, pieces


def unclosed(text: str) -> bool:
    """Whether thoughts begin in a text and do not end, by any of the tags in use."""
    tags = _THOUGHTS.findall(text)
    return bool(tags) and tags[-1] != "/"


def _after_thoughts(text: str) -> Objects:
    """The JSON objects behind the thoughts.

    A closing tag within an object is a part of its texts, where the reply starts with the object or an introduction to it.
    """
    objects = find_objects(text)
    if text.lstrip().startswith(("{", "```")):
        return objects
    ends = [(one.end, piece) for one, piece in zip([Found({}, 0, 0), *objects.found], objects.around(), strict=True)]
    closed = [start + piece.rindex("</think>") for start, piece in ends if "</think>" in piece]
    return find_objects(text[closed[-1] + len("</think>") :]) if closed else objects


def short(score: float) -> float:
    """8, not 8.0: the form that the constraints allow."""
    return int(score) if score == int(score) else score


def labelled(instruction: str | None) -> str:
    """The instruction as it is read: of one that starts with a label itself, only the label put here is taken off."""
    return f"Refined instruction: {instruction}" if instruction and LABEL.match(instruction) else instruction or ""


def critique_of(
    scores: tuple[float, float], reasoning: str, answer: str, answers: tuple[Answer, ...] = ()
) -> Critique | Unparseable:
    """The critique, with its texts cleaned of labels and white space."""
    answer = LABEL.sub("", well_formed(answer).strip()).strip()
    if len(answer) > MAX_INSTRUCTION:
        return Unparseable("instruction_too_long", f"{len(answer)} characters")
    return Critique(scores[0], scores[1], well_formed(reasoning).strip(), answer or None, answers)

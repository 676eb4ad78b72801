"""What a chat completion said, and what every format asks of it first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from services.wire.critique import MAX_INSTRUCTION, Answer, Critique, Unparseable, well_formed
from services.wire.scores import Objects, find_objects

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


def objects_in(reply: Reply) -> Objects:
    """The JSON objects of a reply: bare, fenced, after thoughts, or in the reasoning field of a server that put them there."""
    text = reply.content if reply.content.strip() else reply.reasoning
    # A reply that starts as JSON may quote a closing tag; one that starts with thoughts ends them with it.
    starts_as_json = text.lstrip().startswith(("{", "```"))
    return find_objects(text if starts_as_json else text.rpartition("</think>")[2])


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

"""Replies of a thinker as training reads them: exactly the form that it is taught, and nothing else.

A server reads what models really send, and asks again where it cannot. Training is stricter: a reply in another form earns
nothing, so the form is learned. `tests/unit/training/test_replies.py` holds that what is accepted here the server reads alike.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

MAX_ANSWER: Final = 400
"""Characters of an instruction. Longer ones are cut by most editors' text encoders (77 tokens), without a word."""
MAX_REPLY: Final = 4096
_REPLY: Final = re.compile(r"<think>([^<]+)</think><score>(\{[^<]*\})</score><answer>([^<]*)</answer>\s*")
_TOP: Final = 10


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What a reply says.

    Attributes:
        reasoning: the thoughts.
        semantic, quality: its scores of the candidate, 0-10.
        instruction: for the next attempt; empty where it has none.
    """

    reasoning: str
    semantic: float
    quality: float
    instruction: str


def parse(reply: str) -> ParsedReply | None:
    """The reply, or None where it is not exactly of the form ``<think>…</think><score>{…}</score><answer>…</answer>``."""
    match = _REPLY.fullmatch(reply) if len(reply) <= MAX_REPLY else None
    if match is None:
        return None
    try:
        scores = json.loads(match[2])
    except ValueError:
        return None
    values = [scores.get(name) for name in ("semantic", "quality")]
    answer = _unescaped(match[3]).strip()
    if set(scores) != {"semantic", "quality"} or len(answer) > MAX_ANSWER or not match[1].strip():
        return None
    if not all(isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _TOP for value in values):
        return None
    return ParsedReply(_unescaped(match[1]).strip(), float(values[0]), float(values[1]), answer)


def rendered(reasoning: str, semantic: float, quality: float, instruction: str) -> str:
    """The reply that holds these; `parse` reads it back. Scores are rounded to halves."""
    halves = {"semantic": round(2 * semantic) / 2, "quality": round(2 * quality) / 2}
    scores = json.dumps({name: int(value) if value == int(value) else value for name, value in halves.items()})
    return f"<think>{_escaped(reasoning)}</think><score>{scores}</score><answer>{_escaped(instruction)}</answer>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&amp;", "&")

"""Prompts of the EditThinker reference, recognised by their labels, and replies in the forms that its scripts read.

Shapes after appletea233/EditThinker @803d1a7, ``inference/run_edit_thinker_inference.py``, in one user message each:

    tagged      both pictures, then a text that labels the two instructions (``--eval_prompt_file``); the reply has the tags
                of the format ``editthinker``
    json        texts that label the two instructions, then both pictures (without that option); the reply is one object with
                ``is_satisfied``, ``reason`` and ``new_rewritten_prompt``
    rewrite     a text that ends in the user's instruction, then the source (``--use_polish_edit_prompt_first_turn``); the reply
                is one object with ``Rewritten``

Only the labels are read. The repository states no licence, so its texts are not kept here; a prompt of the reader's own with
the same labels is read too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.protocol.critique.messages import Critique, CritiqueRequest, UnreadableRequestError, contents, well_formed

SATISFIED: Final = 8.0
"""The reference's threshold for both scores."""

# Labels at the start of a line, behind a few marks of Markdown. Each is bounded, so that a search is linear in the text.
_INSTRUCTION: Final = re.compile(r'^[#*> -]{0,8}Original User Instruction\b[^:"\n]{0,200}: ?"', re.MULTILINE)
_TURN: Final = re.compile(r'" ?\n[#*> -]{0,8}Rewritten Prompt\b[^:"\n]{0,200}: ?"')
_QUOTE_ENDS: Final = re.compile(r'" ?$', re.MULTILINE)
_BOLD: Final = ("**Original User Instruction:** ", "**Rewritten Prompt Used:** ", "**Images Order:**")
_REWRITE: Final = ("\nUser Input: ", "\n\nRewritten Prompt:")


@dataclass(frozen=True, slots=True)
class ReferencePrompt:
    """A prompt of the reference.

    Attributes:
        kind: which; it decides the form of the reply.
        request: what is to be judged. To rewrite an instruction before the first edit, the source is judged as if it were the
            candidate.
    """

    kind: Literal["tagged", "json", "rewrite"]
    request: CritiqueRequest


def read_reference(messages: Sequence[Any]) -> ReferencePrompt:
    """The prompt in the messages.

    Raises:
        UnreadableRequestError: when they hold none.
        ApiError: ``invalid_image`` when a picture is not a base64 data URL.
    """
    texts, pictures = contents(messages)
    text = "\n".join(texts)
    if len(pictures) == 1 and (found := _rewritten(text)):
        return ReferencePrompt("rewrite", CritiqueRequest(pictures[0], pictures[0], *found))
    if len(pictures) == 2 and (found := _tagged(text)):  # noqa: PLR2004 - source and candidate
        return ReferencePrompt("tagged", CritiqueRequest(pictures[0], pictures[1], *found))
    if len(pictures) == 2 and (found := _bold(text)):  # noqa: PLR2004
        return ReferencePrompt("json", CritiqueRequest(pictures[0], pictures[1], *found))
    raise UnreadableRequestError("nor has it the labels of the reference's prompts")


def _tagged(text: str) -> tuple[str, str] | None:
    """The two quoted instructions, on lines that follow each other.

    The caller's ends where the last label of the other begins, so a label that it imitates is a part of it.
    """
    first = _INSTRUCTION.search(text)
    labels = list(_TURN.finditer(text, first.end())) if first else []
    if not first or not labels:
        return None
    end = _QUOTE_ENDS.search(text, labels[-1].end())
    return _pair(text[first.end() : labels[-1].start()], text[labels[-1].end() : end.start()]) if end else None


def _bold(text: str) -> tuple[str, str] | None:
    """The two instructions behind bold labels."""
    begin, end = text.find(_BOLD[0]), text.rfind(_BOLD[2])
    middle = text.rfind(_BOLD[1], 0, end)
    if not -1 < begin < middle < end:
        return None
    return _pair(text[begin + len(_BOLD[0]) : middle], text[middle + len(_BOLD[1]) : end])


def _rewritten(text: str) -> tuple[str, str] | None:
    """Twice the instruction at the end of a text that asks for another one."""
    body = text.rstrip()
    begin = body.rfind(_REWRITE[0])
    if begin < 0 or not body.endswith(_REWRITE[1]):
        return None
    instruction = body[begin + len(_REWRITE[0]) : -len(_REWRITE[1])]
    return _pair(instruction, instruction)


def _pair(instruction: str, turn: str) -> tuple[str, str]:
    return well_formed(instruction).strip(), well_formed(turn).strip()


def render_reference(prompt: ReferencePrompt, critique: Critique) -> str:
    """The reply to a ``json`` or ``rewrite`` prompt; one object, as the reference reads it with `json.loads`."""
    if prompt.kind == "rewrite":
        return json.dumps({"Rewritten": critique.refined_instruction or prompt.request.instruction}, ensure_ascii=False)
    satisfied = critique.semantic >= SATISFIED and critique.quality >= SATISFIED
    scores = f"semantic {critique.semantic:.1f}, quality {critique.quality:.1f}"
    reply = {
        "is_satisfied": satisfied,
        "reason": f"{critique.reasoning} ({scores})",
        "new_rewritten_prompt": None if satisfied else critique.refined_instruction,
    }
    return json.dumps(reply, ensure_ascii=False)

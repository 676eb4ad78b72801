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

Kind = Literal["tagged", "json", "rewrite"]

SATISFIED: Final = 8.0
"""The reference's threshold for both scores."""

_CRITIQUED: Final[dict[Kind, re.Pattern[str]]] = {
    "tagged": re.compile(
        r'^\W*Original User Instruction\b[^:\n]*: *"(?P<instruction>.*)" *\n'
        r'\W*Rewritten Prompt\b[^:\n]*: *"(?P<turn>.*)" *$',
        re.MULTILINE | re.DOTALL,
    ),
    "json": re.compile(
        r"^\*\*Original User Instruction:\*\* (?P<instruction>.*?)\s*\n"
        r"\*\*Rewritten Prompt Used:\*\* (?P<turn>.*?)\s*\n\*\*Images Order:\*\*",
        re.MULTILINE | re.DOTALL,
    ),
}
_REWRITTEN: Final = re.compile(r"^User Input: (?P<instruction>.*?)\s*\n\s*Rewritten Prompt:\s*\Z", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ReferencePrompt:
    """A prompt of the reference.

    Attributes:
        kind: which; it decides the form of the reply.
        request: what is to be judged. To rewrite an instruction before the first edit, the source is judged as if it were the
            candidate.
    """

    kind: Kind
    request: CritiqueRequest


def read_reference(messages: Sequence[Any]) -> ReferencePrompt:
    """The prompt in the messages.

    Raises:
        UnreadableRequestError: when they hold none.
        ApiError: ``invalid_image`` when a picture is not a base64 data URL.
    """
    texts, pictures = contents(messages)
    text = "\n".join(texts)
    if len(pictures) == 1 and (found := _REWRITTEN.search(text)):
        instruction = well_formed(found["instruction"])
        return ReferencePrompt("rewrite", CritiqueRequest(pictures[0], pictures[0], instruction, instruction))
    if len(pictures) == 2:  # noqa: PLR2004 - source and candidate
        for kind, labels in _CRITIQUED.items():
            if found := labels.search(text):
                instruction, turn = well_formed(found["instruction"]), well_formed(found["turn"])
                return ReferencePrompt(kind, CritiqueRequest(pictures[0], pictures[1], instruction, turn))
    raise UnreadableRequestError("nor has it the labels of the reference's prompts")


def render_reference(kind: Kind, critique: Critique, instruction: str) -> str:
    """The reply to a ``json`` or ``rewrite`` prompt; one object, as the reference reads it with `json.loads`.

    Args:
        kind: the prompt's.
        critique: of the candidate, or of the source before the first edit.
        instruction: the caller's, which stays where there is no better one.
    """
    if kind == "rewrite":
        return json.dumps({"Rewritten": critique.refined_instruction or instruction}, ensure_ascii=False)
    satisfied = critique.semantic >= SATISFIED and critique.quality >= SATISFIED
    scores = f"semantic {critique.semantic:.1f}, quality {critique.quality:.1f}"
    reply = {
        "is_satisfied": satisfied,
        "reason": f"{critique.reasoning} ({scores})",
        "new_rewritten_prompt": None if satisfied else critique.refined_instruction,
    }
    return json.dumps(reply, ensure_ascii=False)

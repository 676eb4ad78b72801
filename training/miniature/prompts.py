"""The question to the miniature thinker, as the orchestrator asks it with the template of the profile `miniature`.

`tests/unit/training/test_prompts.py` holds the two equal: a model that is served another prompt than it was trained on is
another model.
"""

from __future__ import annotations

import json
from typing import Any, Final

from training.miniature.photographs import Pixels
from training.miniature.turns import Turn

_REFERENCE: Final = (
    "Picture 2, a reference (the source picture is picture 1). The instruction may refer to it; it is not edited itself, "
    "and the next attempt gets it too:"
)


def pictures(turn: Turn) -> list[Pixels]:
    """Source, reference if there is one, candidate."""
    reference = turn.scene.reference
    return [turn.scene.source, *([] if reference is None else [reference]), turn.candidate]


def messages(turn: Turn) -> list[dict[str, Any]]:
    """The user's message, with a mark for each of `pictures`."""
    image = {"type": "image"}
    reference = [] if turn.scene.reference is None else [_text(_REFERENCE), image]
    content = [
        *(_text("Source:"), image, *reference),
        *(_text(f"Instruction: {json.dumps(turn.scene.instruction, ensure_ascii=False)}\nEdited:"), image),
        _text(f"Edited with: {json.dumps(turn.turn_instruction, ensure_ascii=False)}"),
    ]
    return [{"role": "user", "content": content}]


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}

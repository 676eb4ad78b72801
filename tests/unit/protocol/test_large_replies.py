"""A long reply of anything is read or refused in time that grows with its length alone, in every format."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.protocol.critique.editscore import EDITSCORE
from services.protocol.critique.formats import FORMATS, QUESTIONS, ReplyFormat
from services.protocol.critique.messages import Unparseable
from services.protocol.critique.pairs import PAIRWISE
from services.protocol.critique.replies import Reply
from services.protocol.rewriting import REWRITERS

SIZE = 1 << 16
SECONDS = 1.0
"""Of computing. The slowest takes a twentieth of it on a busy machine, and one of quadratic time many times as much."""
FORMS: dict[str, ReplyFormat[Any]] = {
    **{name: form.bind() for name, form in FORMATS.items()},
    "questions": QUESTIONS,
    "pairwise": PAIRWISE,
    "editscore": EDITSCORE,
    **{name: rewriter.format for name, rewriter in REWRITERS.items()},
}
PIECES = {
    "braces": "{",
    "braces and quotes": '{"',
    "objects": '{"a": 1}',
    "lists": "[",
    "tags": "<a",
    "special tokens": "<|",
    "thoughts": "<think>",
    "ends of thoughts": "</think>",
    "blocks": "<score>",
    "answers": "<answer>",
    "fences": "```",
    "white space": " \n",
    "quotes": '"',
    "backslashes": "\\",
    "digits": "9",
    "labels": "semantic: ",
    "winners": "winner is the ",
    "answered": "1 - yes ",
    "half of a range": "1 to ",
    "introductions": "here is ",
}
VERDICTS = {
    "editthinker": '<score>{"semantic": 3, "quality": 7}</score><answer>warmer</answer>',
    "json_schema": '{"reasoning": "", "semantic": 3, "quality": 7, "instruction": "warmer"}',
    "pairwise": '{"reasoning": "", "winner": "A"}',
    "editscore": '{"reasoning": "", "score": [3, 7]}',
}


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("name", FORMS)
def test_the_same_over_and_over_takes_no_time(name: str, piece: str) -> None:
    """Alone, and on either side of a verdict."""
    text, verdict = PIECES[piece] * (SIZE // len(PIECES[piece])), VERDICTS.get(name, "{}")
    for content in (text, f"{text}\n{verdict}", f"{verdict}\n{text}"):
        began = time.thread_time()
        found = FORMS[name].parse(Reply(content, finish_reason="stop"))
        assert time.thread_time() - began < SECONDS
        if isinstance(found, Unparseable):
            assert len(found.detail) <= 300

"""The checklist: the questions that an edit is judged by, and their answers.

The questions are written once per session and every candidate is judged by the same ones, so scores of different turns are
comparable. Each question is phrased so that "yes" is the good answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from services.protocol.critique.special_tokens import json_string

QuestionKind = Literal["change", "keep", "quality"]
"""About what was requested; about what must stay as it is; about the picture's technical quality."""
Verdict = Literal["yes", "partly", "no"]

MAX_QUESTION: Final = 200
"""Characters of one question."""
MIN_QUESTIONS: Final = 3
MAX_QUESTIONS: Final = 8
"""Questions a thinker may write for one instruction; the fixed `QUALITY_QUESTIONS` come in addition."""
VERDICT_VALUES: Final[dict[Verdict, float]] = {"yes": 1.0, "partly": 0.5, "no": 0.0}


@dataclass(frozen=True, slots=True)
class Question:
    """One criterion for an edited picture; answered by yes, partly or no, where yes is good."""

    kind: QuestionKind
    text: str

    def __post_init__(self) -> None:
        if self.kind not in get_args(QuestionKind):
            raise ValueError(f"a question is about {', '.join(get_args(QuestionKind))}, not {self.kind!r}")
        if not self.text.strip() or len(self.text) > MAX_QUESTION:
            raise ValueError(f"a question has 1 to {MAX_QUESTION} characters and is not blank")


@dataclass(frozen=True, slots=True)
class Answer:
    """A thinker's answer to one question.

    Attributes:
        number: the question's position in the list, from 1.
        kind: the question's kind.
        answer: yes is good.
        reason: why, in words; may be empty.
    """

    number: int
    kind: QuestionKind
    answer: Verdict
    reason: str


QUALITY_QUESTIONS: Final = (
    Question("quality", "Is the edited picture free of artefacts: no halos, banding, noise, ghosting or broken shapes?"),
    Question("quality", "Do light, texture and edges look natural, as in a real picture of this kind?"),
    Question("quality", "Is no part of the edited picture clipped to pure white or black, smeared or blurred by mistake?"),
)
"""Part of every checklist, and never written by a thinker."""

DEFAULT_QUESTIONS: Final = (
    Question("change", "Does the edited picture show everything that the original instruction asks for?"),
    Question("change", "Is each change that was asked for clearly visible, in the right place and amount?"),
    Question("keep", "Are the subjects, shapes, faces and texts of the source picture still the same, except where asked?"),
    Question("keep", "Is everything that the original instruction does not mention left as it was?"),
    *QUALITY_QUESTIONS,
)
"""The checklist of a session whose thinker wrote none; always the same text, so a prefix cache helps."""


def with_quality(questions: Sequence[Question]) -> tuple[Question, ...]:
    """The questions about change and keeping, followed by `QUALITY_QUESTIONS`."""
    return (*(question for question in questions if question.kind != "quality"), *QUALITY_QUESTIONS)


def or_default(questions: Sequence[Question]) -> tuple[Question, ...]:
    """The given questions, or `DEFAULT_QUESTIONS` if there are none."""
    return tuple(questions) or DEFAULT_QUESTIONS


_ENTRY: Final = (
    r'\{"n": [1-9][0-9]{0,3}, "about": "(?:' + "|".join(get_args(QuestionKind)) + r')", "question": "(?:[^"\\\x00]|\\.)*"\}'
)
LIST_PATTERN: Final = rf"\[\n{_ENTRY}(?:,\n{_ENTRY})*\n\]"
"""Matches the output of `dump_list`; has no groups."""


def dump_list(questions: Sequence[Question]) -> str:
    """The numbered questions as JSON, one per line, so that no question can pass for prompt text."""
    rows = [
        f'{{"n": {number}, "about": "{question.kind}", "question": {json_string(question.text)}}}'
        for number, question in enumerate(questions, start=1)
    ]
    return "[\n" + ",\n".join(rows) + "\n]"


def load_list(text: str) -> tuple[Question, ...]:
    """The inverse of `dump_list`.

    Raises:
        ValueError: when the text is not such a list, or its numbers are not 1, 2, 3 …
    """
    rows: Any = json.loads(text, strict=False)
    if not re.fullmatch(LIST_PATTERN, text, re.DOTALL) or [row["n"] for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("the questions are not a numbered list")
    return tuple(Question(row["about"], row["question"]) for row in rows)

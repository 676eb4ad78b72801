"""The checklist: what an edit is asked about, and what was answered.

A wish becomes questions once a session; every candidate is judged by the same ones, so scores of different turns compare.
Each is put so that "yes" is the good answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

QuestionKind = Literal["change", "keep", "quality"]
"""What was asked for; what was to stay; whether the picture is sound whatever was asked."""
Verdict = Literal["yes", "partly", "no"]

MAX_QUESTION: Final = 200
"""Characters of one question."""
MIN_QUESTIONS: Final = 3
MAX_QUESTIONS: Final = 8
"""Questions a thinker may write about one wish; those about quality are ours and come on top."""
WORTH: Final[dict[Verdict, float]] = {"yes": 1.0, "partly": 0.5, "no": 0.0}


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that an edited picture is judged by; answered by yes, partly or no, where yes is good."""

    kind: QuestionKind
    text: str

    def __post_init__(self) -> None:
        if self.kind not in get_args(QuestionKind):
            raise ValueError(f"a question is about {', '.join(get_args(QuestionKind))}, not {self.kind!r}")
        if not self.text.strip() or len(self.text) > MAX_QUESTION:
            raise ValueError(f"a question has 1 to {MAX_QUESTION} characters and is not blank")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a thinker says to one question.

    Attributes:
        number: the question's place in the list, from 1.
        kind: what the question is about.
        answer: yes is good.
        reason: what decides it, in words; may be empty.
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
"""Always asked, and never written by a thinker."""

DEFAULT_QUESTIONS: Final = (
    Question("change", "Does the edited picture show everything that the original instruction asks for?"),
    Question("change", "Is each change that was asked for clearly visible, in the right place and amount?"),
    Question("keep", "Are the subjects, shapes, faces and texts of the source picture still the same, except where asked?"),
    Question("keep", "Is everything that the original instruction does not mention left as it was?"),
    *QUALITY_QUESTIONS,
)
"""What is asked where no questions about this picture could be had; the same for every wish, so it is cached well."""


def with_quality(questions: Sequence[Question]) -> tuple[Question, ...]:
    """A thinker's own questions, and ours about quality behind them."""
    return (*(question for question in questions if question.kind != "quality"), *QUALITY_QUESTIONS)


def asked(questions: Sequence[Question]) -> tuple[Question, ...]:
    """The questions that are asked: those given, or the default ones where there are none."""
    return tuple(questions) or DEFAULT_QUESTIONS


_ENTRY: Final = (
    r'\{"n": [1-9][0-9]{0,3}, "about": "(?:' + "|".join(get_args(QuestionKind)) + r')", "question": "(?:[^"\\\x00]|\\.)*"\}'
)
LISTED: Final = rf"\[\n{_ENTRY}(?:,\n{_ENTRY})*\n\]"
"""A pattern of what `listed` writes; it captures nothing."""


def listed(questions: Sequence[Question]) -> str:
    """The numbered questions as JSON, one on a line: nothing in them can pass for the text around."""
    rows = [
        json.dumps({"n": number, "about": question.kind, "question": question.text}, ensure_ascii=False)
        for number, question in enumerate(questions, start=1)
    ]
    return "[\n" + ",\n".join(rows) + "\n]"


def unlisted(text: str) -> tuple[Question, ...]:
    """The inverse of `listed`.

    Raises:
        ValueError: when the text is no such list, or its numbers are not 1, 2, 3 …
    """
    rows: Any = json.loads(text, strict=False)
    if not re.fullmatch(LISTED, text, re.DOTALL) or [row["n"] for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("the questions are not a numbered list")
    return tuple(Question(row["about"], row["question"]) for row in rows)

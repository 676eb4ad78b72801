"""The checklist: a wish becomes questions once a session, every critique answers them, and the scores follow.

    QUESTIONS            the reply that writes the questions:  {"change": ["…?", …], "keep": ["…?", …]}
    ChecklistFormat      the reply that answers them:          {"answers": [{"n": 1, "reason": …, "answer": "yes"}, …], …}

Steadier than one number out of ten, and it explains itself. Semantic is ten times the mean over the questions about change
and keeping, or over those about change alone if that is less; quality the same over ours about the picture; yes counts 1,
partly 0.5, no 0. Every question must be answered once by one of the three words: a critique with a gap is none, for what is
left out would count as what one likes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

from services.protocol.critique.ambiguity import elsewhere, quoted
from services.protocol.critique.constraints import Among, Constraint, Free, Part, Several, Shape, allows, fields, longest
from services.protocol.critique.messages import Answer, Critique, Question, Template, Unparseable, well_formed
from services.protocol.critique.questions import (
    MAX_QUESTION,
    MAX_QUESTIONS,
    MIN_QUESTIONS,
    WORTH,
    QuestionKind,
    Verdict,
    asked,
    with_quality,
)
from services.protocol.critique.replies import MAX_REFINED, Reply, critique_of, labelled, object_in

MAX_REASON: Final = 240
"""Characters of the reason of one answer in a constrained reply."""
_WORDS: Final = get_args(Verdict)
_CHANGE: Final = (2, 5)
_KEEP: Final = (1, 3)
"""Questions of a kind that a constrained reply holds; together they are `MIN_QUESTIONS` to `MAX_QUESTIONS`."""


class ChecklistFormat:
    """Answers to numbered questions, for any general vision-language model."""

    name: Literal["checklist"] = "checklist"

    def template(self) -> Template:
        """Our wording; the questions stand behind the source picture and the wish, before the candidate."""
        return Template.named("checklist")

    def constraint(self, kind: Constraint, questions: tuple[Question, ...] = ()) -> Mapping[str, Any]:
        """Any kind; each allows exactly the numbers that were asked, in their order."""
        return fields(kind, _shape(len(asked(questions))), _schema(len(asked(questions))))

    def conforms(self, reply: Reply, kind: Constraint, questions: tuple[Question, ...] = ()) -> bool:
        """Whether the constraint allows the reply's content."""
        return allows(reply.content, kind, _shape(len(asked(questions))), _schema(len(asked(questions))))

    def render(self, critique: Critique, questions: tuple[Question, ...] = ()) -> str:
        """The JSON object; of a critique that has scores only, answers that come to them or a little less."""
        answers = critique.answers or _answering(critique, asked(questions))
        rows = [{"n": answer.number, "reason": answer.reason, "answer": answer.answer} for answer in answers]
        return json.dumps({"answers": rows, "instruction": labelled(critique.instruction)}, ensure_ascii=False)

    def parse(self, reply: Reply, questions: tuple[Question, ...] = ()) -> Critique | Unparseable:
        """Read a reply with an answer to each question, in any order."""
        found = object_in(reply, ("answers",), "ambiguous_answer")
        if isinstance(found, Unparseable):
            return found
        row, around = found
        answers = _answers(row["answers"], asked(questions))
        if isinstance(answers, Unparseable):
            return answers
        instruction = next((row[key] for key in ("instruction", "refined_instruction") if key in row), None)
        if not isinstance(instruction, str | None):
            return Unparseable("wrong_shape", "the instruction must be a string")
        if instruction is None:
            return Unparseable("missing_instruction", 'no "instruction" key')
        if elsewhere(around, answers={answer.number: answer.answer for answer in answers}):
            return Unparseable("ambiguous_answer", "another verdict beside the answers, or they are quoted")
        return judged(answers, instruction, questions)

    def form(self, questions: tuple[Question, ...] = ()) -> str:
        """The object, and how many answers it holds."""
        count = len(asked(questions))
        return (
            '{"answers": [{"n": 1, "reason": "what you see", "answer": "yes, partly or no"}, …], '
            '"instruction": "the complete instruction for the next attempt"}, '
            f"with exactly {count} answers, numbered 1 to {count} in this order"
        )

    def longest(self, questions: tuple[Question, ...] = ()) -> int:
        """Characters of the longest reply that the constraints allow."""
        return longest(_shape(len(asked(questions))))


def judged(answers: Sequence[Answer], instruction: str | None, questions: tuple[Question, ...] = ()) -> Critique | Unparseable:
    """The critique that follows from the answers to all `questions`, in their order.

    `Unparseable` where no question is about what was asked for, or none about quality: then there is no score to take.
    """
    semantic = [WORTH[answer.answer] for answer in answers if answer.kind != "quality"]
    quality = [WORTH[answer.answer] for answer in answers if answer.kind == "quality"]
    if not semantic or not quality:
        return Unparseable("missing_scores", f"no question about {'quality' if semantic else 'the wish'}")
    lines = [
        f"{answer.number}. {question.text} {answer.answer}" + (f": {answer.reason}" if answer.reason else "")
        for answer, question in zip(answers, asked(questions), strict=True)
    ]
    change = [WORTH[answer.answer] for answer in answers if answer.kind == "change"] or semantic
    # What was kept does not make up for what was not done: an untouched picture keeps everything.
    followed = min(sum(semantic) / len(semantic), sum(change) / len(change))
    scores = round(10 * followed, 2), round(10 * sum(quality) / len(quality), 2)
    return critique_of(scores, "\n".join(lines), instruction or "", tuple(answers))


class QuestionsFormat:
    """The reply that writes a session's questions; `services.protocol.critique.messages.questions_messages` asks for it."""

    name: Literal["questions"] = "questions"

    def constraint(self, kind: Constraint) -> Mapping[str, Any]:
        """Any kind; each allows `MIN_QUESTIONS` to `MAX_QUESTIONS` questions, of both kinds."""
        return fields(kind, _QUESTIONS, _QUESTIONS_SCHEMA)

    def conforms(self, reply: Reply, kind: Constraint) -> bool:
        """Whether the constraint allows the reply's content."""
        return allows(reply.content, kind, _QUESTIONS, _QUESTIONS_SCHEMA)

    def render(self, questions: Sequence[Question]) -> str:
        """The JSON object; questions about quality are left out, for they are not the thinker's."""
        kinds: tuple[QuestionKind, ...] = ("change", "keep")
        rows = {kind: [question.text for question in questions if question.kind == kind] for kind in kinds}
        return json.dumps(rows, ensure_ascii=False)

    def parse(self, reply: Reply) -> tuple[Question, ...] | Unparseable:
        """The checklist: the thinker's questions about change and keeping, and ours about quality behind them.

        A question that is too long, blank or there already is left out; of more than `MAX_QUESTIONS` the first are taken.
        Never raises.
        """
        asked_for = object_in(reply, ("change", "keep"), "ambiguous_answer")
        if isinstance(asked_for, Unparseable):
            return asked_for
        row, around = asked_for
        missing = [key for key in ("change", "keep") if key not in row]
        if missing:
            return Unparseable("wrong_shape", f'no "{missing[0]}" key')
        if quoted(around):
            return Unparseable("ambiguous_answer", "the questions are quoted")
        found = {kind: _texts(row.get(kind)) for kind in ("change", "keep")}
        change = found["change"][: MAX_QUESTIONS - min(_KEEP[1], len(found["keep"]))]
        keep = [text for text in found["keep"] if text.casefold() not in {other.casefold() for other in change}]
        keep = keep[: MAX_QUESTIONS - len(change)]
        if not change or not keep or len(change) + len(keep) < MIN_QUESTIONS:
            return Unparseable("missing_questions", f"{len(change)} usable about change, {len(keep)} about keeping")
        return with_quality([*(Question("change", text) for text in change), *(Question("keep", text) for text in keep)])

    def form(self) -> str:
        """The object, and how many questions it holds."""
        return (
            '{"change": ["question?", …], "keep": ["question?", …]}, '
            f"with {_CHANGE[0]} to {_CHANGE[1]} different questions about what was asked for and {_KEEP[0]} to {_KEEP[1]} "
            f"about what must stay, each with at most {MAX_QUESTION} characters"
        )

    def longest(self) -> int:
        """Characters of the longest reply that the constraints allow."""
        return longest(_QUESTIONS)


QUESTIONS: Final = QuestionsFormat()
_ASKED: Final = ('"', Free("json", 8, MAX_QUESTION - 1, question=True), '"')
_QUESTIONS: Final[Shape] = (
    '{"change": [',
    Several(_ASKED, ", ", *_CHANGE),
    '], "keep": [',
    Several(_ASKED, ", ", *_KEEP),
    "]}",
)


def _list_of(item: Mapping[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least, "maxItems": most}


def _object_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_ASKED_SCHEMA: Final = {"type": "string", "minLength": 8, "maxLength": MAX_QUESTION}
_QUESTIONS_SCHEMA: Final = _object_of({"change": _list_of(_ASKED_SCHEMA, *_CHANGE), "keep": _list_of(_ASKED_SCHEMA, *_KEEP)})


def _shape(count: int) -> Shape:
    parts: list[Part] = []
    for number in range(1, count + 1):
        before = '{"answers": [' if number == 1 else '"}, '
        parts += [f'{before}{{"n": {number}, "reason": "', Free("json", 1, MAX_REASON), '", "answer": "', Among(_WORDS)]
    return (*parts, '"}], "instruction": "', Free("json", 0, MAX_REFINED), '"}')


def _schema(count: int) -> dict[str, Any]:
    reason = {"type": "string", "minLength": 1, "maxLength": MAX_REASON}
    rows = [_object_of({"n": {"enum": [n]}, "reason": reason, "answer": {"enum": list(_WORDS)}}) for n in range(1, count + 1)]
    answers = {"type": "array", "prefixItems": rows, "items": False, "minItems": count, "maxItems": count}
    return _object_of({"answers": answers, "instruction": {"type": "string", "maxLength": MAX_REFINED}})


def _answers(rows: object, questions: tuple[Question, ...]) -> tuple[Answer, ...] | Unparseable:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return Unparseable("wrong_shape", "answers must be a list of objects")
    out: dict[int, Answer] = {}
    for row in rows:
        number = _number(row.get("n"))
        if number is None or not 1 <= number <= len(questions):
            return Unparseable("unasked_answer", f"there are questions 1 to {len(questions)}, and another was answered")
        if number in out:
            return Unparseable("ambiguous_answer", f"question {number} was answered twice")
        word, reason = row.get("answer"), row.get("reason", "")
        if not isinstance(reason, str):
            return Unparseable("wrong_shape", f"the reason of answer {number} must be a string")
        verdict = _verdict(word)
        if verdict is None:
            return Unparseable("unknown_answer", f"question {number} was not answered by yes, partly or no")
        out[number] = Answer(number, questions[number - 1].kind, verdict, well_formed(reason).strip())
    missing = [number for number in range(1, len(questions) + 1) if number not in out]
    if missing:
        return Unparseable("missing_answer", f"question {missing[0]} was not answered")
    return tuple(out[number] for number in sorted(out))


def _number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s{0,3}[0-9]{1,4}\s{0,3}", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _verdict(value: object) -> Verdict | None:
    """One of the three words, in any case and with a full stop at most; "yes and no" is none."""
    word = value.strip().removesuffix(".").lower() if isinstance(value, str) else ""
    return next((known for known in _WORDS if known == word), None)


def _texts(value: object) -> list[str]:
    """The usable questions of a list, each once, on one line."""
    out: dict[str, str] = {}
    for text in value if isinstance(value, list) else []:
        if isinstance(text, str):
            clean = " ".join(well_formed(text).split())
            if clean and len(clean) <= MAX_QUESTION:
                out.setdefault(clean.casefold(), clean)
    return list(out.values())


def _answering(critique: Critique, questions: tuple[Question, ...]) -> list[Answer]:
    """Answers whose scores come to a critique's, or to the next below."""
    halves: dict[bool, int] = {}
    for quality, score in ((False, critique.semantic), (True, critique.quality)):
        count = sum((question.kind == "quality") is quality for question in questions)
        halves[quality] = int(score / 10 * count * 2 + 1e-9)
    out: list[Answer] = []
    # The change first, since the rest does not make up for it.
    for number, question in sorted(enumerate(questions, start=1), key=lambda row: row[1].kind != "change"):
        quality = question.kind == "quality"
        word: Verdict = "yes" if halves[quality] > 1 else "partly" if halves[quality] == 1 else "no"
        halves[quality] = max(0, halves[quality] - 2)
        out.append(Answer(number, question.kind, word, critique.reasoning[:MAX_REASON].strip() or word))
    return sorted(out, key=lambda answer: answer.number)

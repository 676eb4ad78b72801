"""Scores of a critique: read from a reply where they are unambiguous, or computed from a checklist's answers.

Total and linear on any text: replies come from models that pictures and instructions talk to.

Text in a picture can hold a whole reply with the best scores, and an unconstrained thinker may repeat it next to its own
verdict. `ambiguous` refuses such replies: the part that is read must start a line, or follow a colon or the end of a
sentence, and the text around it must hold no other number (for a checklist, no other answer either). Doubtful cases count as
ambiguous, because one more request costs little, and a session that ends as satisfied because of a sign in its picture costs
the edit. English only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.protocol.critique.messages import MAX_SCORE, MIN_SCORE, Critique, Unparseable
from services.protocol.critique.questions import VERDICT_VALUES, Answer, Question, or_default
from services.protocol.critique.replies import CONFLICTING, critique_of, find_objects

Scores = tuple[float, float]
"""(semantic, quality)"""


@dataclass(frozen=True, slots=True)
class Rating:
    """One score, 0-10, from a judge that only gives scores (`services.protocol.critique.score_formats`).

    Attributes:
        reasoning: why, in words; may be empty.
        marks: the numbers that it was computed from, on the format's own scale.
    """

    score: float
    reasoning: str = ""
    marks: tuple[float, ...] = ()


_MAX_NUMBER: Final = 40
_NUMBER: Final = re.compile(r"(-?\d{1,6}(?:\.\d{1,9})?)(?:\s*/\s*10(?:\.0)?|\s+out\s+of\s+10)?")
# The repetitions are bounded: two adjacent unbounded ones take quadratic time.
_NAME: Final = re.compile(r"\b(semantic|quality)\b[\"'*]{0,4}(?:\s{1,4}score)?[\"'*]{0,4}\s{0,8}[:=]", re.IGNORECASE)


def scores_in_text(block: str) -> Scores | Unparseable:
    """The scores of a block: one JSON object, or ``semantic: 8, quality: 7``."""
    objects = find_objects(block)
    if not objects.found:
        return scores_of(_labelled(block))
    scores = scores_of(objects.found[0].value)
    if len(objects.found) > 1 or ambiguous(objects.around(), scores if isinstance(scores, tuple) else None):
        return Unparseable("ambiguous_scores", "scores given more than once in <score>")
    return scores


def scores_of(fields: Mapping[str, Any]) -> Scores | Unparseable:
    """The scores among the keys of an object."""
    out: list[float] = []
    for name in ("semantic", "quality"):
        if name not in fields:
            return Unparseable("missing_scores", f"no {name} score")
        number = _number(fields[name])
        if number is None:
            return Unparseable("score_not_a_number", f"{name} is {_shown(fields[name])}")
        if not MIN_SCORE <= number <= MAX_SCORE:
            return Unparseable("score_out_of_range", f"{name} is {number:g}")
        out.append(number)
    return out[0], out[1]


def critique_of_answers(
    answers: Sequence[Answer], instruction: str | None, questions: tuple[Question, ...] = ()
) -> Critique | Unparseable:
    """The critique that follows from the answers to all `questions`, in their order.

    Yes counts 1, partly 0.5, no 0. Quality is ten times the mean over the questions about quality; semantic is ten times the
    mean over the questions about change and keeping, or over those about change alone if that is less.

    `Unparseable` where no question is about the instruction, or none about quality: then there is no score to compute.
    """
    semantic = [VERDICT_VALUES[answer.answer] for answer in answers if answer.kind != "quality"]
    quality = [VERDICT_VALUES[answer.answer] for answer in answers if answer.kind == "quality"]
    if not semantic or not quality:
        return Unparseable("missing_scores", f"no question about {'quality' if semantic else 'the instruction'}")
    lines = [
        f"{answer.number}. {question.text} {answer.answer}" + (f": {answer.reason}" if answer.reason else "")
        for answer, question in zip(answers, or_default(questions), strict=True)
    ]
    change = [VERDICT_VALUES[answer.answer] for answer in answers if answer.kind == "change"] or semantic
    # Otherwise an untouched picture, which keeps everything, would score well.
    followed = min(sum(semantic) / len(semantic), sum(change) / len(change))
    scores = round(10 * followed, 2), round(10 * sum(quality) / len(quality), 2)
    return critique_of(scores, "\n".join(lines), instruction or "", tuple(answers))


def _labelled(block: str) -> dict[str, Any]:
    """Values by label, each up to the next label; a name with two different values has the value `CONFLICTING`."""
    fields: dict[str, Any] = {}
    names = list(_NAME.finditer(block))
    for position, name in enumerate(names):
        end = names[position + 1].start() if position + 1 < len(names) else len(block)
        value = block[name.end() : end].lstrip(" \t\r\n\"'*").rstrip(" \t\r\n,;|.\"'*{}")
        value = value.removesuffix(" and").rstrip(" ,")
        key = name.group(1).lower()
        fields[key] = value if fields.get(key, value) == value else CONFLICTING
    return fields


def _number(value: object) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        match = _NUMBER.fullmatch(text) if len(text) <= _MAX_NUMBER else None
        return float(match.group(1)) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        # An integer that exceeds every float is still a number, out of range.
        return float("inf") if value > 0 else float("-inf")
    return number if abs(number) != float("inf") and number == number else None  # noqa: PLR0124 - NaN


def _shown(value: object) -> str:
    """A value in a few characters."""
    if value is CONFLICTING:
        return "given twice"
    return repr(value[:_MAX_NUMBER]) if isinstance(value, str) else f"of type {type(value).__name__}"


_LABELLED_SCORE: Final = re.compile(
    r"(semantic|quality)(?:[\s_]{1,4}score)?[\"'*]{0,4}\s{0,4}[:=][\s\"'*]{0,8}(\d{1,2}(?:\.\d{1,6})?)(?:\s{0,2}/\s{0,2}10)?"
    r"(?![\w%/]|\.\d|\s{0,4}(?:-|–|or\b|to\b))",  # noqa: RUF001
    re.IGNORECASE,
)
_NUMBERED_ANSWER: Final = re.compile(r"(?<!\d)(\d{1,2})[^\w\n]{1,8}(yes|no|partly)\b", re.IGNORECASE)
_FORM: Final = re.compile(
    r"\b[01]\s{0,3}(?:to|-|–|\.\.)\s{0,3}(?:10|ten)\b|\byes\s{0,3}[,/]\s{0,3}partly,?\s{0,3}(?:or|/|and)\s{0,3}no\b",  # noqa: RUF001
    re.IGNORECASE,
)
"""A description of the expected form, which is not a score or an answer."""
_DIGIT: Final = re.compile(r"\d")
_NUMBER_WORD: Final = re.compile(r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten)\b", re.IGNORECASE)
_SCORING: Final = re.compile(r"semantic|quality|scor(?:e|ing)|\brat(?:e|ing)|verdict|\bout\sof\b", re.IGNORECASE)
_ANSWER: Final = re.compile(r"\b(?:yes|no|partly)\b", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>\n]{1,40}>")
_FENCE: Final = re.compile(r"```\w{0,10}\s{0,8}\Z")
_FENCE_END: Final = re.compile(r"\A\s{0,8}```")
_QUOTES: Final = frozenset("\"'”’»")  # noqa: RUF001
_INTRODUCTION_ENDS: Final = (":", ".", "!", "?", "…", "*", ">", "[")


def ambiguous(pieces: Sequence[str], scores: tuple[float, float] | None = None, answers: Mapping[int, str] | None = None) -> bool:
    """Whether the text around the parts that are read makes them ambiguous.

    Args:
        pieces: the text before the first part, between the parts, and after the last one.
        scores: those that were read; a text that only repeats them is not ambiguous.
        answers: those that were read, by number. Without them, answers in the text do not count as a verdict.
    """
    return quoted(pieces) or any(_other_verdict(piece, scores, answers) for piece in pieces)


def quoted(pieces: Sequence[str]) -> bool:
    """Whether the part is embedded in a sentence or in quotation marks."""
    rest = _FENCE_END.sub("", _TAG.sub("", pieces[-1])).partition("\n")[0]
    return not _introduces(pieces[0]) or any(mark.isalnum() or mark in _QUOTES for mark in rest)


def _introduces(before: str) -> bool:
    """Whether a text may come before the part."""
    if before.count("{") > before.count("}"):
        return False
    untagged = _TAG.sub("", before)
    unfenced = _FENCE.sub("", untagged)
    text = unfenced.rstrip()
    own_line = unfenced != untagged or "\n" in untagged[len(text) :]
    return not text or own_line or text.endswith(_INTRODUCTION_ENDS)


def _other_verdict(text: str, scores: tuple[float, float] | None, answers: Mapping[int, str] | None) -> bool:
    """Whether a text holds numbers or answers other than those that were read."""
    read = dict(zip(("semantic", "quality"), scores, strict=True)) if scores else {}
    remainder = _LABELLED_SCORE.sub(lambda found: "" if read.get(found[1].lower()) == float(found[2]) else found[0], text)
    remainder = _FORM.sub("", remainder)
    if answers is not None:
        remainder = _NUMBERED_ANSWER.sub(
            lambda found: "" if answers.get(int(found[1])) == found[2].lower() else found[0], remainder
        )
        if _ANSWER.search(remainder):
            return True
    return bool(_DIGIT.search(remainder) or (_SCORING.search(remainder) and _NUMBER_WORD.search(remainder)))

"""The checklist of the embedded thinker: its questions about an instruction, and answers from the measurements.

It asks only about what it can measure, and answers no where it cannot judge. Questions written by a model or a person are
not parsed: they are answered from everything that was measured of their kind, and the reason says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.explain import adjustments_sentence
from services.embedded.thinker.intent import Intent
from services.embedded.thinker.operations import PHRASES, Op, phrase
from services.embedded.thinker.score import BEST, UNTOUCHED, Damage, Fault, Part
from services.protocol.critique.formats import MAX_REASON
from services.protocol.critique.questions import (
    DEFAULT_QUESTIONS,
    MAX_QUESTION,
    QUALITY_QUESTIONS,
    Answer,
    Question,
    QuestionKind,
    Verdict,
)

_EVERYTHING: Final = "Is everything that the instruction asks for done?"
_DETAIL: Final = "Is the detail of the source picture still there and in its place?"
_REST: Final = "Are the size, the framing and everything that nobody asked to change as they were?"
_UNJUDGED: Final = "I measure pictures and cannot judge this, so it is not counted as done."
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLAIN: Final = str.maketrans({'"': "'", "\\": "/"})
_MAX_PARTS: Final = 3
_QUOTE: Final = 120
_YES, _PARTLY = 0.75, 0.35
"""The shares of a part from which it counts as done, and as done in part."""
_FATAL: Final = 3.0
"""Points of damage at which a question about preservation or quality is answered 0."""

Found = tuple[float, str]
"""How far something holds (0 not, 1 wholly), and the reason."""

_FAULTS: Final[dict[str, tuple[Fault, ...]]] = {
    _DETAIL: ("detail",),
    _REST: ("size", "rest"),
    **dict(
        zip((question.text for question in QUALITY_QUESTIONS), (("texture",), ("colour",), ("clipping", "detail")), strict=True)
    ),
}
_BY_KIND: Final[dict[QuestionKind, tuple[Fault, ...]]] = {
    "keep": ("detail", "size", "rest"),
    "quality": ("texture", "colour", "clipping", "detail"),
}


def questions_about(intent: Intent) -> tuple[Question, ...]:
    """The questions about every candidate for an intent, without those about quality, which the protocol adds."""
    change = [*(text for text, _ in _own_questions(intent)), _EVERYTHING]
    return (*(Question("change", text) for text in change), Question("keep", _DETAIL), Question("keep", _REST))


def answer_questions(
    evidence: Evidence, parts: list[Part], damage: list[Damage], semantic: float, questions: tuple[Question, ...]
) -> tuple[Answer, ...]:
    """An answer to each question, from the measurements behind the scores and the reasoning."""
    own = {text: measure(evidence, parts) for text, measure in _own_questions(evidence.intent)}
    everything = _everything(evidence, parts, semantic)
    out: list[Answer] = []
    for number, question in enumerate(questions, start=1):
        if question.kind == "change":
            share, reason = own.get(question.text, everything)
        else:
            share, reason = _preserved(damage, _FAULTS.get(question.text, _BY_KIND[question.kind]))
        if question.text not in own and question.text != _EVERYTHING and question.text not in _FAULTS:
            reason = reason if question in DEFAULT_QUESTIONS else f"Answered by all I measured of this kind: {reason}"
        out.append(Answer(number, question.kind, _verdict(share), clean(reason, MAX_REASON)))
    return tuple(out)


def clean(text: str, longest: int) -> str:
    """The text on one line, at most `longest` characters, without what JSON must escape; never blank."""
    return " ".join(unescaped(text).split())[:longest].strip() or "-"


def unescaped(text: str) -> str:
    """The text without characters that JSON must escape, which the constraints do not allow."""
    return _CONTROL.sub(" ", text).translate(_PLAIN)


def _verdict(share: float) -> Verdict:
    return "yes" if share >= _YES else "partly" if share >= _PARTLY else "no"


_Measure = Callable[[Evidence, list[Part]], Found]


def _own_questions(intent: Intent) -> list[tuple[str, _Measure]]:
    """At least one question about the parts of an intent, each with its measure."""
    out: dict[str, _Measure] = {}
    if intent.look is not None or intent.stated:
        out[_adjustments_question(intent)] = _adjustments
    if intent.look is not None and intent.look.grain > 0:
        out["Is there about as much grain as was wanted?"] = _grain
    for index, op in enumerate(intent.checks):
        out.setdefault(_as_question(f"Was this done: {_op_phrase(op)}"), _check(index))
    parts = list(out.items())[:_MAX_PARTS]
    if intent.unknown or not parts:
        clause = clean((intent.unknown or (intent.text,))[0], _QUOTE)
        parts.append((_as_question(f"Is this part of the instruction carried out: '{clause}'"), lambda *_: (0.0, _UNJUDGED)))
    return parts


def _as_question(text: str) -> str:
    return clean(text, MAX_QUESTION - 1).rstrip("?") + "?"


def _op_phrase(op: Op) -> str:
    return phrase(op.key, op.percent, detail=op.detail) if op.name in PHRASES else op.name


def _adjustments_question(intent: Intent) -> str:
    if intent.plain:
        return "Are the adjustments that were asked for visible, in their direction and amount?"
    return _as_question(f"Do light and colour look like {' and '.join(intent.names[:4])}")


def _adjustments(evidence: Evidence, parts: list[Part]) -> Found:
    part = next((part for part in parts if part.name in {"adjustments", "look"}), None)
    return (1.0, "The source already looks like that.") if part is None else (part.done, adjustments_sentence(evidence))


def _grain(evidence: Evidence, parts: list[Part]) -> Found:
    part = next((part for part in parts if part.name == "grain"), None)
    if part is None:
        return 1.0, "The source has it already."
    return part.done, f"Grain {evidence.grain_added:+.1f} L* of {evidence.grain_wanted:+.1f} wanted."


def _check(index: int) -> _Measure:
    def found(evidence: Evidence, _: list[Part]) -> Found:
        finding = evidence.findings[index]
        return finding.share, f"Measured: {finding.description}."

    return found


def _everything(evidence: Evidence, parts: list[Part], semantic: float) -> Found:
    """The share of the whole instruction: 0 where a part cannot be judged, below 1 while a part is missing."""
    if evidence.intent.unknown or not evidence.intent.understood:
        return 0.0, "A part of it I cannot judge, so not everything counts as done."
    share = (semantic - UNTOUCHED) / (BEST - UNTOUCHED)
    reason = f"All parts together are {100 * min(1.0, max(0.0, share)):.0f}% done."
    missing = [part.name for part in parts if part.done < _YES]
    if missing:
        return min(share, (_YES + _PARTLY) / 2), f"{reason} Not yet: {', '.join(missing)}."
    return share, reason


def _preserved(damage: list[Damage], faults: tuple[Fault, ...]) -> Found:
    found = [item for item in damage if item.fault in faults]
    if not found:
        return 1.0, "No damage of this kind was measured."
    return 1.0 - sum(item.points for item in found) / _FATAL, "Measured: " + "; ".join(item.description for item in found) + "."

"""The checklist of a thinker that measures: what it can ask about a wish, and what its figures answer.

It asks only what it can measure, and says no to what it cannot judge, so that nothing counts as done unseen. Questions of
others (a model's, a person's) it does not read: it answers them by all that it measured of their kind, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from services.embedded.thinker.evidence import Evidence
from services.embedded.thinker.explain import way_sentence
from services.embedded.thinker.intent import Wish
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
_MOST_PARTS: Final = 3
_QUOTE: Final = 120
_YES, _PARTLY = 0.75, 0.35
"""The shares of a part from which it counts as done, and as done in part."""
_FATAL: Final = 3.0
"""Points of damage at which nothing is left of what was to stay or to be sound."""

Found = tuple[float, str]
"""How far something holds (0 not, 1 wholly), and why."""

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


def questions_of(wish: Wish) -> tuple[Question, ...]:
    """What will be asked about every candidate for a wish; without the questions about quality, which are not ours."""
    change = [*(text for text, _ in _own(wish)), _EVERYTHING]
    return (*(Question("change", text) for text in change), Question("keep", _DETAIL), Question("keep", _REST))


def answers_of(
    evidence: Evidence, wish_parts: list[Part], damage: list[Damage], semantic: float, questions: tuple[Question, ...]
) -> tuple[Answer, ...]:
    """An answer to each question, from the same figures that scores and reasoning come from."""
    own = {text: measure(evidence, wish_parts) for text, measure in _own(evidence.wish)}
    everything = _everything(evidence, wish_parts, semantic)
    out: list[Answer] = []
    for number, question in enumerate(questions, start=1):
        if question.kind == "change":
            share, said = own.get(question.text, everything)
        else:
            share, said = _sound(damage, _FAULTS.get(question.text, _BY_KIND[question.kind]))
        if question.text not in own and question.text != _EVERYTHING and question.text not in _FAULTS:
            said = said if question in DEFAULT_QUESTIONS else f"Answered by all I measured of this kind: {said}"
        out.append(Answer(number, question.kind, _verdict(share), clean(said, MAX_REASON)))
    return tuple(out)


def clean(text: str, longest: int) -> str:
    """The text on one line, without what JSON must escape, at most so long; never blank."""
    return " ".join(unescaped(text).split())[:longest].strip() or "-"


def unescaped(text: str) -> str:
    """The text in words that need no escapes in JSON: the constraints allow none."""
    return _CONTROL.sub(" ", text).translate(_PLAIN)


def _verdict(share: float) -> Verdict:
    return "yes" if share >= _YES else "partly" if share >= _PARTLY else "no"


_Measure = Callable[[Evidence, list[Part]], Found]


def _own(wish: Wish) -> list[tuple[str, _Measure]]:
    """The questions about the parts of a wish, each with how it is measured; one at least."""
    out: dict[str, _Measure] = {}
    if wish.look is not None or wish.stated:
        out[_way_question(wish)] = _way
    if wish.look is not None and wish.look.grain > 0:
        out["Is there about as much grain as was wanted?"] = _grain
    for index, op in enumerate(wish.checks):
        out.setdefault(_asked(f"Was this done: {_said(op)}"), _check(index))
    parts = list(out.items())[:_MOST_PARTS]
    if wish.unknown or not parts:
        clause = clean((wish.unknown or (wish.text,))[0], _QUOTE)
        parts.append((_asked(f"Is this part of the instruction carried out: '{clause}'"), lambda *_: (0.0, _UNJUDGED)))
    return parts


def _asked(text: str) -> str:
    return clean(text, MAX_QUESTION - 1).rstrip("?") + "?"


def _said(op: Op) -> str:
    return phrase(op.key, op.percent, detail=op.detail) if op.name in PHRASES else op.name


def _way_question(wish: Wish) -> str:
    if wish.plain:
        return "Are the adjustments that were asked for visible, in their direction and amount?"
    return _asked(f"Do light and colour look like {' and '.join(wish.names[:4])}")


def _way(evidence: Evidence, wish_parts: list[Part]) -> Found:
    part = next((part for part in wish_parts if part.name in {"adjustments", "look"}), None)
    return (1.0, "The source already looks like that.") if part is None else (part.done, way_sentence(evidence))


def _grain(evidence: Evidence, wish_parts: list[Part]) -> Found:
    part = next((part for part in wish_parts if part.name == "grain"), None)
    if part is None:
        return 1.0, "The source has it already."
    return part.done, f"Grain {evidence.grain_added:+.1f} L* of {evidence.grain_wanted:+.1f} wanted."


def _check(index: int) -> _Measure:
    def found(evidence: Evidence, _: list[Part]) -> Found:
        finding = evidence.findings[index]
        return finding.share, f"Measured: {finding.said}."

    return found


def _everything(evidence: Evidence, wish_parts: list[Part], semantic: float) -> Found:
    """The share of the whole wish: none of it where a part cannot be judged, not all of it while a part is missing."""
    if evidence.wish.unknown or not evidence.wish.understood:
        return 0.0, "A part of it I cannot judge, so not everything counts as done."
    share = (semantic - UNTOUCHED) / (BEST - UNTOUCHED)
    said = f"All parts together are {100 * min(1.0, max(0.0, share)):.0f}% done."
    missing = [part.name for part in wish_parts if part.done < _YES]
    if missing:
        return min(share, (_YES + _PARTLY) / 2), f"{said} Not yet: {', '.join(missing)}."
    return share, said


def _sound(damage: list[Damage], faults: tuple[Fault, ...]) -> Found:
    found = [item for item in damage if item.fault in faults]
    if not found:
        return 1.0, "No damage of this kind was measured."
    return 1.0 - sum(item.points for item in found) / _FATAL, "Measured: " + "; ".join(item.said for item in found) + "."

"""The checklist of the embedded thinker: its questions about an instruction, and answers from the measurements.

It asks only about what it can measure, and answers no where it cannot judge. Questions written by a model or a person are
not parsed: they are answered from everything that was measured of their kind, and the reason says so.
"""

from __future__ import annotations

import re
from typing import Final

from services.embedded.instructions.operations import Instruction
from services.embedded.thinker.parts import Part
from services.embedded.thinker.quality import Damage, Fault
from services.protocol.critique.formats import MAX_REASON
from services.protocol.critique.questions import DEFAULT_QUESTIONS, MAX_QUESTION, QUALITY_QUESTIONS, Answer, Question, Verdict

_EVERYTHING: Final = "Is everything that the instruction asks for done?"
_DETAIL: Final = "Is the detail of the source picture still there and in its place?"
_REST: Final = "Are the size, the framing and everything that nobody asked to change as they were?"
_UNJUDGED: Final = "I measure pictures and cannot judge this, so it is not counted as done."
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLAIN: Final = str.maketrans({'"': "'", "\\": "/", "<": "(", ">": ")", "[": "(", "]": ")"})
_MAX_PARTS: Final = 3
_QUOTE: Final = 120
_YES, _PARTLY = 0.7, 0.35
"""The shares of a part from which it counts as done, and as done in part."""
_FATAL: Final = 3.0
"""Points of damage at which a question about preservation or quality is answered 0."""
_BY_KIND: Final[dict[str, tuple[Fault, ...]]] = {
    "keep": ("detail", "size", "rest"),
    "quality": ("texture", "colour", "clipping", "detail"),
}
_TEXTURE, _COLOUR, _EXPOSURE = (question.text for question in QUALITY_QUESTIONS)
_FAULTS: Final[dict[str, tuple[Fault, ...]]] = {
    _DETAIL: ("detail",),
    _REST: ("size", "rest"),
    _TEXTURE: ("texture",),
    _COLOUR: ("colour",),
    _EXPOSURE: ("clipping", "detail"),
}

Found = tuple[float, str]
"""How far something holds (0 not, 1 wholly), and the reason."""


def questions_about(instruction: Instruction) -> tuple[Question, ...]:
    """The questions about every candidate for an instruction, without those about quality, which the protocol adds."""
    names = [operation.describe() for operation in instruction.operations]
    looks = " and ".join(dict.fromkeys(look.name for look in instruction.looks))
    names += [looks] if looks else []
    unread = [*instruction.unjudged, *(refusal.phrase for refusal in instruction.refusals)]
    # What cannot be judged is asked first, as it decides.
    asked = ([*unread[:1], *names] or [instruction.text])[:_MAX_PARTS]
    change = [*dict.fromkeys(map(_question, asked)), _EVERYTHING]
    return (*(Question("change", text) for text in change), Question("keep", _DETAIL), Question("keep", _REST))


def answer_questions(parts: list[Part], damage: list[Damage], questions: tuple[Question, ...]) -> tuple[Answer, ...]:
    """An answer to each question, from the measurements behind the scores and the reasoning."""
    own = {_question(part.name): _found(part) for part in parts} | {_EVERYTHING: _everything(parts)}
    out: list[Answer] = []
    for number, question in enumerate(questions, start=1):
        if question.kind == "change":
            share, reason = own.get(question.text, own[_EVERYTHING])
        else:
            share, reason = _preserved(damage, _FAULTS.get(question.text, _BY_KIND[question.kind]))
        if question.text not in own and question.text not in _FAULTS and question not in DEFAULT_QUESTIONS:
            reason = f"Answered by all I measured of this kind: {reason}"
        verdict: Verdict = "yes" if share >= _YES else "partly" if share >= _PARTLY else "no"
        out.append(Answer(number, question.kind, verdict, clean(reason, MAX_REASON)))
    return tuple(out)


def _question(name: str) -> str:
    return clean(f"Was this done: {clean(name, _QUOTE)}", MAX_QUESTION - 1).rstrip("?") + "?"


def _found(part: Part) -> Found:
    return (part.done, f"Measured: {part.description}.") if part.measured else (0.0, f"{_UNJUDGED} ({part.description})")


def _everything(parts: list[Part]) -> Found:
    """The share of the whole instruction: 0 where a part cannot be judged, below 1 while a part is missing."""
    if not parts or not all(part.measured for part in parts):
        return 0.0, "A part of it I cannot judge, so not everything counts as done."
    share = min(part.done for part in parts)
    missing = [part.name for part in parts if part.done < _YES]
    reason = f"The part that is least done is done to {100 * max(0.0, min(1.0, share)):.0f}%."
    return share, f"{reason} Not yet: {', '.join(missing)}." if missing else reason


def _preserved(damage: list[Damage], faults: tuple[Fault, ...]) -> Found:
    found = [item for item in damage if item.fault in faults]
    if not found:
        return 1.0, "No damage of this kind was measured."
    return 1.0 - sum(item.points for item in found) / _FATAL, "Measured: " + "; ".join(item.description for item in found) + "."


def clean(text: str, longest: int) -> str:
    """The text on one line, at most `longest` characters, without what a constraint forbids in JSON; never blank."""
    return " ".join(unescaped(text).split())[:longest].strip() or "-"


def unescaped(text: str) -> str:
    """The text without characters that the constraints do not allow in JSON."""
    return _CONTROL.sub(" ", text).translate(_PLAIN)

"""Asking again: the thinker is shown its own reply, what is wrong with it, and the form once more.

The wording is fixed by the reason, and nothing of the reply is quoted in our voice: what a picture or an instruction made
a thinker write gains no authority by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from services.protocol.critique.checklist import QuestionsFormat
from services.protocol.critique.messages import Question, Unparseable, UnparseableReason, well_formed

MAX_SHOWN: Final = 4_000
"""Characters of its own reply that a thinker is shown."""

_WRONG: Final[dict[UnparseableReason, str]] = {
    "empty": "Your reply was empty.",
    "refusal": "Your reply did not judge. You are only asked to compare two pictures and to describe the next attempt.",
    "truncated": "Your reply was too long and was cut before its end. Be brief: a few sentences at most.",
    "missing_scores": "Your reply held no scores.",
    "ambiguous_scores": "Your reply held more than one set of scores.",
    "score_not_a_number": "A score in your reply was not a plain number.",
    "score_out_of_range": "A score in your reply was not between 0 and 10.",
    "missing_instruction": "Your reply held no instruction for the next attempt.",
    "instruction_too_long": "The instruction in your reply was too long.",
    "not_json": "Your reply held no JSON object of the form asked for.",
    "wrong_shape": "Your reply did not have the form asked for.",
    "missing_answer": "Your reply left a question unanswered.",
    "ambiguous_answer": "Your reply held more than one answer to a question, or more than one reply.",
    "unasked_answer": "Your reply answered a question that was not asked.",
    "unknown_answer": 'An answer in your reply was none of the words "yes", "partly" and "no".',
    "missing_questions": "Your reply did not hold enough different questions of both kinds.",
}


class _Formed(Protocol):
    def form(self, questions: tuple[Question, ...] = ()) -> str: ...


def repair_messages(
    messages: Sequence[dict[str, Any]],
    reply_text: str,
    unparseable: Unparseable,
    format: _Formed | QuestionsFormat,  # noqa: A002 - what it is called everywhere
    questions: tuple[Question, ...] = (),
) -> list[dict[str, Any]]:
    """The messages of one more attempt; they begin with those of the first, so its prefix is reused.

    Args:
        messages: what was asked, unchanged.
        reply_text: the content of the reply, as it came.
        unparseable: why it is not usable.
        format: of the critique, or `services.protocol.critique.checklist.QUESTIONS`.
        questions: the session's checklist.
    """
    form = format.form() if isinstance(format, QuestionsFormat) else format.form(questions)
    shown = well_formed(reply_text[:MAX_SHOWN]).strip() or "(nothing)"
    wanted = f"{_WRONG[unparseable.reason]} Reply again, with nothing else, in exactly this form: {form}."
    return [*messages, {"role": "assistant", "content": shown}, {"role": "user", "content": wanted}]

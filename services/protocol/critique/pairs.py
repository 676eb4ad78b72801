"""Comparisons: two edited pictures side by side, in the format `pairwise`.

    {"reasoning": …, "winner": "A" | "B" | "tie"}

Read as well are the replies of judges that were trained or prompted for another form: PVC-Judge's
``{"winner": "Image A" | "Image B" | "Tie"}`` (GEditBench v2, arXiv 2603.28547), and GenArena's
``{"reasoning": {criterion: text, …}, "score": 1-6, "better_response": "A" | "B", "confidence": …}`` (arXiv 2602.06013). Its score
and its confidence are not used: the caller asks in both orders instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.protocol.critique.constraints import Choice, FreeText
from services.protocol.critique.formats import ReplyFormat
from services.protocol.critique.messages import Unparseable, well_formed
from services.protocol.critique.prompts import Template
from services.protocol.critique.replies import MAX_REASONING, Reply, object_in
from services.protocol.critique.scores import quoted

PICTURES: Final = 3
"""Pictures that a template for comparisons marks: the source, A and B."""
Preference = Literal["A", "B", "tie"]
_PREFERENCES: Final[tuple[Preference, ...]] = ("A", "B", "tie")
_WINNER: Final = ("winner", "better_response")
_REASONS: Final = ("reasoning", "reason", "explanation", "rationale", "justification")
_NOUN: Final = re.compile(r"^(?:the\s+)?(?:edited\s+)?(?:image|picture|response|candidate|option|edit)[\s_]+")
_WORDS: Final[Mapping[str, Preference]] = {
    "a": "A",
    "b": "B",
    **dict.fromkeys(("tie", "tied", "draw", "equal", "both", "neither", "none", "same"), "tie"),
}
_MAX_WORD: Final = 40


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which of two pictures a judge prefers, and why; the reason may be empty."""

    winner: Preference
    reasoning: str = ""


def pair_template(text: str | None = None) -> Template:
    """A template with marks for the source, A and B, or none; the packaged one by default.

    Raises:
        ValueError: for any other number of marks, or without the instruction.
    """
    return Template.named("pairwise", PICTURES) if text is None else Template(text, PICTURES)


class PairwiseFormat(ReplyFormat[Comparison]):
    """One JSON object, for any general vision-language model."""

    name: Literal["pairwise"] = "pairwise"

    def __init__(self) -> None:
        properties: dict[str, Any] = {
            "reasoning": {"type": "string", "minLength": 1, "maxLength": MAX_REASONING},
            "winner": {"enum": list(_PREFERENCES)},
        }
        super().__init__(
            ('{"reasoning": "', FreeText("json", 1, MAX_REASONING), '", "winner": "', Choice(_PREFERENCES), '"}'),
            {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False},
        )

    def form(self) -> str:
        """The object."""
        return '{"reasoning": "which difference decides", "winner": "A, B or tie"}'

    def render(self, value: Comparison) -> str:
        """The JSON object, the reason first: it should come before the verdict."""
        return json.dumps({"reasoning": value.reasoning, "winner": value.winner}, ensure_ascii=False)

    def parse(self, reply: Reply) -> Comparison | Unparseable:
        """Read a reply of any of the three shapes: bare, fenced, or after thoughts."""
        found = object_in(reply, _WINNER, "ambiguous_answer")
        if isinstance(found, Unparseable):
            return found
        row, around = found
        winners = {_preference(row[key]) for key in _WINNER if key in row}
        if len(winners) > 1:
            return Unparseable("ambiguous_answer", "two winners")
        winner = winners.pop()
        if winner is None:
            return Unparseable("unknown_winner", "the winner is not A, B or a tie")
        if quoted(around):
            return Unparseable("ambiguous_answer", "the winner is quoted")
        return Comparison(winner, well_formed(_reasons(row) or reply.reasoning).strip())


def _preference(value: object) -> Preference | None:
    """The picture that a word names, in any case and with a noun before it; None for anything else, such as "A or B"."""
    if not isinstance(value, str) or len(value) > _MAX_WORD:
        return None
    return _WORDS.get(_NOUN.sub("", value.strip(" \t\r\n.*\"'").lower()))


def _reasons(row: Mapping[str, Any]) -> str:
    """The reason, or those of several criteria, one a line."""
    given = next((row[key] for key in _REASONS if key in row), "")
    if isinstance(given, dict):
        return "\n".join(f"{name}: {text}" for name, text in given.items() if isinstance(text, str))
    return given if isinstance(given, str) else ""


PAIRWISE: Final = PairwiseFormat()

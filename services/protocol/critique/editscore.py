"""The reply of EditScore (VectorSpaceLab/EditScore, ICLR 2026): reasoning, and two whole numbers from 0 to 25.

About the instruction they are how completely it was followed and how well the rest was kept; about the picture, how natural it
is and how free of artefacts. The lower one counts, divided by 2.5, as in the project's own code.
"""

from __future__ import annotations

import json
import re
from typing import Final

from services.protocol.critique.constraints import Choice, FreeText
from services.protocol.critique.formats import ReplyFormat
from services.protocol.critique.messages import Unparseable, well_formed
from services.protocol.critique.replies import CONFLICTING, MAX_REASONING, Reply, object_in
from services.protocol.critique.scores import Rating, ambiguous

MOST: Final = 25
_NUMBER: Final = re.compile(r"\s{0,4}(-?\d{1,6}(?:\.\d{1,6})?)(?:\s{0,2}/\s{0,2}25)?\s{0,4}", re.ASCII)
_PAIR: Final = 2


class EditScoreFormat(ReplyFormat[Rating]):
    """One JSON object with the reasoning and the pair."""

    name = "editscore"

    def __init__(self) -> None:
        number = Choice(tuple(str(number) for number in range(MOST + 1)))
        pair = {
            "type": "array",
            "items": {"type": "integer", "enum": list(range(MOST + 1))},
            "minItems": _PAIR,
            "maxItems": _PAIR,
        }
        properties = {"reasoning": {"type": "string", "minLength": 1, "maxLength": MAX_REASONING}, "score": pair}
        super().__init__(
            ('{"reasoning": "', FreeText("json", 1, MAX_REASONING), '", "score": [', number, ", ", number, "]}"),
            {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False},
        )

    def form(self) -> str:
        """The object."""
        return f'{{"reasoning": "what you see", "score": [NUMBER, NUMBER]}}, each NUMBER a whole one from 0 to {MOST}'

    def render(self, value: Rating) -> str:
        """The JSON object; of a rating without marks, twice the number that is nearest to its score."""
        marks = value.marks or (round(value.score * MOST / 10),) * _PAIR
        return json.dumps({"reasoning": value.reasoning, "score": [_plain(mark) for mark in marks]}, ensure_ascii=False)

    def parse(self, reply: Reply) -> Rating | Unparseable:
        """Read a reply: bare, fenced, after thoughts, or in the reasoning field of a server that puts it there."""
        found = object_in(reply, ("score",), "ambiguous_scores")
        if isinstance(found, Unparseable):
            return found
        row, around = found
        marks, reasoning = _marks(row.get("score")), row.get("reasoning", "")
        if isinstance(marks, Unparseable):
            return marks
        if not isinstance(reasoning, str):
            return Unparseable("wrong_shape", "the reasoning must be a string")
        if ambiguous(around):
            return Unparseable("ambiguous_scores", "other scores next to these, or these are quoted")
        return Rating(round(min(marks) * 10 / MOST, 3), well_formed(reasoning or reply.reasoning).strip(), marks)


def _marks(value: object) -> tuple[float, ...] | Unparseable:
    """The pair, whole numbers or not."""
    if value is CONFLICTING:
        return Unparseable("ambiguous_scores", "score given twice")
    if not isinstance(value, list) or len(value) != _PAIR:
        return Unparseable("wrong_shape", f"score must be a list of {_PAIR} numbers")
    marks: list[float] = []
    for each in value:
        text = each if isinstance(each, str) else repr(each) if type(each) in {int, float} else ""
        match = _NUMBER.fullmatch(text) if len(text) < 40 else None  # noqa: PLR2004 - of digits
        if match is None:
            return Unparseable("score_not_a_number", "a score is not a plain number")
        mark = float(match[1])
        if not 0 <= mark <= MOST:
            return Unparseable("score_out_of_range", f"a score is {mark:g}, and not from 0 to {MOST}")
        marks.append(mark)
    return tuple(marks)


def _plain(mark: float) -> float:
    return int(mark) if mark == int(mark) else mark


EDITSCORE: Final = EditScoreFormat()

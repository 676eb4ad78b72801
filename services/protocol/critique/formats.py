"""Formats of replies: the three critique formats, and the format of a checklist's questions.

    editthinker   <think>…</think><score>{"semantic": n, "quality": n}</score><answer>…</answer>
    json_schema   {"reasoning": …, "semantic": n, "quality": n, "instruction": …}
    checklist     {"answers": [{"n": 1, "reason": …, "answer": "yes|partly|no"}, …], "instruction": …}
    both, if they point    {…, "instruction": …, "places": [{"box": [left, top, right, bottom], "word": …}, …]}
    QUESTIONS     {"change": ["…?", …], "keep": ["…?", …]}

`FORMATS[name].bind(questions)` gives the `ReplyFormat` of a session.

`parse` accepts what models really send (a missing opening tag, thoughts in a separate field, code fences, scores as strings,
blocks in another order) and returns `Unparseable` for everything else. A score out of range is never clamped: it shows that
the judge is broken. Scores quoted in the thoughts, or next to other scores, do not count, so that a picture or an instruction
cannot dictate them (`services.protocol.critique.scores.ambiguous`).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Literal, TypeVar, get_args

from services.protocol.critique.constraints import (
    Choice,
    Constraint,
    FreeText,
    Grid,
    Part,
    Repeated,
    Score,
    Shape,
    allows,
    longest,
    request_fields,
)
from services.protocol.critique.messages import Critique, Unparseable, well_formed
from services.protocol.critique.places import GRID, MAX_PLACES, MAX_WORD, dump_places, places_in
from services.protocol.critique.prompts import Template
from services.protocol.critique.questions import (
    MAX_QUESTION,
    MAX_QUESTIONS,
    MIN_QUESTIONS,
    Answer,
    Question,
    QuestionKind,
    Verdict,
    or_default,
    with_quality,
)
from services.protocol.critique.replies import (
    MAX_REASONING,
    MAX_REFINED,
    Reply,
    critique_of,
    labelled,
    object_in,
    truncated,
    unclosed_thoughts,
    without_text,
)
from services.protocol.critique.scores import ambiguous, critique_of_answers, quoted, scores_in_text, scores_of

FormatName = Literal["editthinker", "json_schema", "checklist"]
_T = TypeVar("_T")

STEP: Final = 0.5
"""The scores a JSON schema allows are multiples of it.

Not ``minimum`` and ``maximum``, which some backends ignore; and not tenths, because a backend writes out an enumeration of
numbers, and 0.3 becomes 0.29999999999999999. Halves are exact in binary, so every backend writes them alike.
"""
MAX_REASON: Final = 240
"""Characters of the reason of one answer in a constrained reply."""
_VERDICTS: Final = get_args(Verdict)
_CHANGE: Final = (2, 5)
_KEEP: Final = (1, 3)
"""Questions of a kind that a constrained reply holds; together they are `MIN_QUESTIONS` to `MAX_QUESTIONS`."""


class ReplyFormat(ABC, Generic[_T]):
    """The form of a reply: the constraint that enforces it, and how replies are rendered and parsed.

    Args:
        shape: the exact form.
        schema: the same as a JSON schema; None if one cannot express it.
    """

    name: str

    def __init__(self, shape: Shape, schema: Mapping[str, Any] | None = None) -> None:
        self._shape = shape
        self._schema = schema

    def constraint(self, kind: Constraint) -> Mapping[str, Any]:
        """Fields of the chat completion request that make the server keep to this format; empty for ``none`` and
        for a kind that cannot describe it.
        """
        return request_fields(kind, self._shape, self._schema)

    def conforms(self, reply: Reply, kind: Constraint) -> bool:
        """Whether the constraint permits exactly this content.

        Always true where there is no such constraint. A reply cut at its token limit does not conform even if the server
        enforces the constraint: check its ``finish_reason`` first.
        """
        return allows(reply.content, kind, self._shape, self._schema)

    def longest(self) -> int:
        """Characters of the longest reply that the constraints allow; a token limit below it can cut one."""
        return longest(self._shape)

    @abstractmethod
    def form(self) -> str:
        """The form in words, for a thinker that missed it."""

    @abstractmethod
    def render(self, value: _T) -> str:
        """The reply that holds this value; ``parse(Reply(render(value))) == value``."""

    @abstractmethod
    def parse(self, reply: Reply) -> _T | Unparseable:
        """Read any reply; never raises."""


@dataclass(frozen=True, slots=True)
class Format:
    """A critique format, before it is bound to a session's questions.

    Attributes:
        name: its name in `FORMATS`, which is also that of its packaged template.
        reply_format: makes the bound format, given the questions, and whether it points at places; only the checklist's depends
            on the questions.
        points: whether its replies can point at places.
    """

    name: FormatName
    reply_format: Callable[[tuple[Question, ...], bool], ReplyFormat[Critique]]
    points: bool = True

    def template(self) -> Template:
        """The default prompt template."""
        return Template.named(self.name)

    def bind(self, questions: tuple[Question, ...] = (), *, places: bool = False) -> ReplyFormat[Critique]:
        """The format of replies about these questions, or about `services.protocol.critique.questions.DEFAULT_QUESTIONS`.

        Args:
            questions: of the session.
            places: whether a reply points at places; where it does not, places that a reply has all the same are read.
        """
        return self.reply_format(questions, places and self.points)


def _list_of(item: Mapping[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least, "maxItems": most}


def _object_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_PLACES_SHAPE: Final[tuple[Part, ...]] = (
    '", "places": [',
    Repeated(
        ('{"box": [', Grid(), ", ", Grid(), ", ", Grid(), ", ", Grid(), '], "word": "', FreeText("json", 1, MAX_WORD), '"}'),
        ", ",
        0,
        MAX_PLACES,
    ),
    "]}",
)
_PLACES_SCHEMA: Final = _list_of(
    _object_of(
        {
            "box": _list_of({"type": "integer", "minimum": 0, "maximum": GRID}, 4, 4),
            "word": {"type": "string", "minLength": 1, "maxLength": MAX_WORD},
        }
    ),
    0,
    MAX_PLACES,
)
_PLACES_FORM: Final = f', and a last key "places": [{{"box": [LEFT, TOP, RIGHT, BOTTOM], "word": "what"}}, …], from 0 to {GRID}'


def _plain(score: float) -> float:
    """8, not 8.0: the form that the constraints allow."""
    return int(score) if score == int(score) else score


_SCORE_BLOCK: Final = re.compile(r"<score>(.*?)(?:</score>|(?=<answer>|<think>)|\Z)", re.DOTALL)
_BLOCK: Final = re.compile(r"<(?:score|answer)>.*?(?:</(?:score|answer)>|(?=<(?:score|answer|think)>)|\Z)", re.DOTALL)
_STARTS_WITH_BLOCK: Final = re.compile(r"\s*(?:```\w*\s*)?<(?:score|answer)>")


class EditThinkerFormat(ReplyFormat[Critique]):
    """The tagged reply of the fine-tuned model (arXiv 2512.05965); a JSON schema cannot describe it."""

    name: FormatName = "editthinker"

    def __init__(self) -> None:
        super().__init__(
            (
                "<think>",
                FreeText("tagged", 1, MAX_REASONING),
                '</think><score>{"semantic": ',
                Score(),
                ', "quality": ',
                Score(),
                "}</score><answer>",
                FreeText("tagged", 0, MAX_REFINED),
                "</answer>",
            )
        )

    def form(self) -> str:
        """The three blocks."""
        return (
            '<think>what you see</think><score>{"semantic": NUMBER, "quality": NUMBER}</score>'
            "<answer>the complete instruction for the next attempt</answer>, each NUMBER from 0 to 10"
        )

    def render(self, value: Critique) -> str:
        """The tagged reply; ``<`` and ``&`` in the texts are escaped, so that they cannot pass for tags."""
        scores = json.dumps({"semantic": _plain(value.semantic), "quality": _plain(value.quality)})
        answer = _escape(labelled(value.refined_instruction))
        return f"<think>{_escape(value.reasoning)}</think><score>{scores}</score><answer>{answer}</answer>"

    def parse(self, reply: Reply) -> Critique | Unparseable:
        """Read a tagged reply, also one with missing tags or blocks in another order."""
        nothing = without_text(reply) or truncated(reply)
        if nothing:
            return nothing
        thoughts, rest, introduction = _split(reply.content)
        if unclosed_thoughts(rest):
            return Unparseable("missing_scores", "the thoughts do not end")
        blocks = {block.strip() for block in _SCORE_BLOCK.findall(rest)}
        if len(blocks) != 1:
            missing = Unparseable("missing_scores", "no <score> block")
            return Unparseable("ambiguous_scores", f"{len(blocks)} different <score> blocks") if blocks else missing
        scores = scores_in_text(blocks.pop())
        if isinstance(scores, Unparseable):
            return scores
        answer = _answer(rest)
        if answer is None:
            return Unparseable("missing_instruction", "no <answer> block")
        around = [*_BLOCK.split(rest[: answer[0]]), *_BLOCK.split(rest[answer[1] :])]
        if ambiguous(around, scores) or ambiguous([introduction, ""], scores):
            return Unparseable("ambiguous_scores", "other scores next to these, or these are quoted")
        inside = rest[answer[0] : answer[1]].removeprefix("<answer>").removesuffix("</answer>")
        return critique_of(scores, _unescape(thoughts.strip()) or reply.reasoning, _unescape(inside))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&amp;", "&")


def _split(text: str) -> tuple[str, str, str]:
    """(the thoughts, the text outside of them, the text that introduces them).

    All text after the first closing tag counts as outside, so that a quoted closing tag makes scores ambiguous and never
    right. Blocks before the thoughts count if the reply begins with them.
    """
    head, closed, after = text.partition("</think>")
    if not closed:
        return "", text, ""
    before, opened, inside = head.partition("<think>")
    if not opened:
        return text.rpartition("</think>")[0], after, ""
    if _STARTS_WITH_BLOCK.match(before):
        return inside, f"{before}\n{after}", ""
    thoughts = text.rpartition("</think>")[0][len(before) + len("<think>") :]
    return thoughts, after, before


def _answer(text: str) -> tuple[int, int] | None:
    """Start and end of the last <answer> block; its closing tag may be missing at the very end."""
    closed = text.rfind("</answer>")
    end = len(text) if closed < 0 else closed
    begin = text.rfind("<answer>", 0, end)
    if begin < 0 or (closed < 0 and "<" in text[begin + len("<answer>") :]):
        return None
    return begin, end if closed < 0 else closed + len("</answer>")


class JsonSchemaFormat(ReplyFormat[Critique]):
    """One JSON object, for any general vision-language model; scores under a JSON schema are multiples of `STEP`."""

    name: FormatName = "json_schema"

    def __init__(self, *, places: bool = False) -> None:
        self._places = places
        scores = {"type": "number", "enum": [_plain(half * STEP) for half in range(21)]}
        super().__init__(
            (
                '{"reasoning": "',
                FreeText("json", 1, MAX_REASONING),
                '", "semantic": ',
                Score(),
                ', "quality": ',
                Score(),
                ', "instruction": "',
                FreeText("json", 0, MAX_REFINED),
                *(_PLACES_SHAPE if places else ('"}',)),
            ),
            _object_of(
                {
                    "reasoning": {"type": "string", "minLength": 1, "maxLength": MAX_REASONING},
                    "semantic": scores,
                    "quality": scores,
                    "instruction": {"type": "string", "maxLength": MAX_REFINED},
                    **({"places": _PLACES_SCHEMA} if places else {}),
                }
            ),
        )

    def form(self) -> str:
        """The object."""
        return (
            '{"reasoning": "what you see", "semantic": NUMBER, "quality": NUMBER, '
            '"instruction": "the complete instruction for the next attempt"}, each NUMBER from 0 to 10'
        ) + (_PLACES_FORM if self._places else "")

    def render(self, value: Critique) -> str:
        """The JSON object, keys in the order in which a model should think."""
        row = {
            "reasoning": value.reasoning,
            "semantic": _plain(value.semantic),
            "quality": _plain(value.quality),
            "instruction": labelled(value.refined_instruction),
            **({"places": dump_places(value.places)} if self._places else {}),
        }
        return json.dumps(row, ensure_ascii=False)

    def parse(self, reply: Reply) -> Critique | Unparseable:
        """Read a JSON reply: bare, fenced, after thoughts, or in the reasoning field of a server that puts it there."""
        found = object_in(reply, ("semantic", "quality"), "ambiguous_scores")
        if isinstance(found, Unparseable):
            return found
        row, around = found
        scores = scores_of(row)
        if isinstance(scores, Unparseable):
            return scores
        instruction = next((row[key] for key in ("instruction", "refined_instruction", "answer") if key in row), None)
        reasoning = row.get("reasoning", "")
        if not isinstance(instruction, str | None) or not isinstance(reasoning, str):
            return Unparseable("wrong_shape", "reasoning and instruction must be strings")
        if instruction is None:
            return Unparseable("missing_instruction", 'no "instruction" key')
        if ambiguous(around, scores):
            return Unparseable("ambiguous_scores", "other scores next to these, or these are quoted")
        return critique_of(scores, reasoning or reply.reasoning, instruction, places=places_in(row.get("places")))


class ChecklistFormat(ReplyFormat[Critique]):
    """Answers to numbered questions, for any general vision-language model; the scores follow from the answers.

    More stable than a number out of ten, and it explains itself. Every question must be answered once, by one of the three
    words: a reply with a gap is unparseable, because leaving out a question would count in favour of the edit.

    Args:
        questions: the session's checklist; its constraints allow exactly these numbers, in this order.
    """

    name: FormatName = "checklist"

    def __init__(self, questions: tuple[Question, ...] = (), *, places: bool = False) -> None:
        self._questions = or_default(questions)
        self._places = places
        super().__init__(
            _answers_shape(len(self._questions), places=places), _answers_schema(len(self._questions), places=places)
        )

    def form(self) -> str:
        """The object, and how many answers it holds."""
        count = len(self._questions)
        return (
            '{"answers": [{"n": 1, "reason": "what you see", "answer": "yes, partly or no"}, …], '
            '"instruction": "the complete instruction for the next attempt"}, '
            f"with exactly {count} answers, numbered 1 to {count} in this order"
        ) + (_PLACES_FORM if self._places else "")

    def render(self, value: Critique) -> str:
        """The JSON object; of a critique without answers, answers whose scores are equal or a little lower."""
        answers = value.answers or _answers_for(value, self._questions)
        rows = [{"n": answer.number, "reason": answer.reason, "answer": answer.answer} for answer in answers]
        pointed = {"places": dump_places(value.places)} if self._places else {}
        return json.dumps({"answers": rows, "instruction": labelled(value.refined_instruction), **pointed}, ensure_ascii=False)

    def parse(self, reply: Reply) -> Critique | Unparseable:
        """Read a reply with an answer to each question, in any order."""
        found = object_in(reply, ("answers",), "ambiguous_answer")
        if isinstance(found, Unparseable):
            return found
        row, around = found
        answers = _answers(row["answers"], self._questions)
        if isinstance(answers, Unparseable):
            return answers
        instruction = next((row[key] for key in ("instruction", "refined_instruction") if key in row), None)
        if not isinstance(instruction, str | None):
            return Unparseable("wrong_shape", "the instruction must be a string")
        if instruction is None:
            return Unparseable("missing_instruction", 'no "instruction" key')
        if ambiguous(around, answers={answer.number: answer.answer for answer in answers}):
            return Unparseable("ambiguous_answer", "another verdict next to the answers, or they are quoted")
        critique = critique_of_answers(answers, instruction, self._questions)
        return critique if isinstance(critique, Unparseable) else replace(critique, places=places_in(row.get("places")))


def _answers_shape(count: int, *, places: bool) -> Shape:
    parts: list[Part] = []
    for number in range(1, count + 1):
        before = '{"answers": [' if number == 1 else '"}, '
        parts += [f'{before}{{"n": {number}, "reason": "', FreeText("json", 1, MAX_REASON), '", "answer": "', Choice(_VERDICTS)]
    end = _PLACES_SHAPE if places else ('"}',)
    return (*parts, '"}], "instruction": "', FreeText("json", 0, MAX_REFINED), *end)


def _answers_schema(count: int, *, places: bool) -> dict[str, Any]:
    reason = {"type": "string", "minLength": 1, "maxLength": MAX_REASON}
    rows = [_object_of({"n": {"enum": [n]}, "reason": reason, "answer": {"enum": list(_VERDICTS)}}) for n in range(1, count + 1)]
    answers = {"type": "array", "prefixItems": rows, "items": False, "minItems": count, "maxItems": count}
    instruction = {"type": "string", "maxLength": MAX_REFINED}
    return _object_of({"answers": answers, "instruction": instruction, **({"places": _PLACES_SCHEMA} if places else {})})


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
    """One of the three words in any case, with an optional full stop; None for anything else, such as "yes and no"."""
    word = value.strip().removesuffix(".").lower() if isinstance(value, str) else ""
    return next((known for known in _VERDICTS if known == word), None)


def _answers_for(critique: Critique, questions: tuple[Question, ...]) -> list[Answer]:
    """Answers whose scores equal a critique's, or are the next lower ones."""
    halves: dict[bool, int] = {}
    for quality, score in ((False, critique.semantic), (True, critique.quality)):
        count = sum((question.kind == "quality") is quality for question in questions)
        halves[quality] = int(score / 10 * count * 2 + 1e-9)
    out: list[Answer] = []
    # The change first: keeping cannot compensate for it in the score.
    for number, question in sorted(enumerate(questions, start=1), key=lambda row: row[1].kind != "change"):
        quality = question.kind == "quality"
        word: Verdict = "yes" if halves[quality] > 1 else "partly" if halves[quality] == 1 else "no"
        halves[quality] = max(0, halves[quality] - 2)
        out.append(Answer(number, question.kind, word, critique.reasoning[:MAX_REASON].strip() or word))
    return sorted(out, key=lambda answer: answer.number)


class QuestionsFormat(ReplyFormat[Sequence[Question]]):
    """The reply that writes a session's questions (`services.protocol.critique.messages.questions_messages`).

    The constraints allow `MIN_QUESTIONS` to `MAX_QUESTIONS` questions, of both kinds.
    """

    name: Literal["questions"] = "questions"

    def __init__(self) -> None:
        item = ('"', FreeText("json", 8, MAX_QUESTION - 1, question=True), '"')
        text = {"type": "string", "minLength": 8, "maxLength": MAX_QUESTION}
        super().__init__(
            ('{"change": [', Repeated(item, ", ", *_CHANGE), '], "keep": [', Repeated(item, ", ", *_KEEP), "]}"),
            _object_of({"change": _list_of(text, *_CHANGE), "keep": _list_of(text, *_KEEP)}),
        )

    def form(self) -> str:
        """The object, and how many questions it holds."""
        return (
            '{"change": ["question?", …], "keep": ["question?", …]}, '
            f"with {_CHANGE[0]} to {_CHANGE[1]} different questions about what was asked for and {_KEEP[0]} to {_KEEP[1]} "
            f"about what must stay, each with at most {MAX_QUESTION} characters"
        )

    def render(self, value: Sequence[Question]) -> str:
        """The JSON object; without questions about quality, which a thinker does not write."""
        kinds: tuple[QuestionKind, ...] = ("change", "keep")
        rows = {kind: [question.text for question in value if question.kind == kind] for kind in kinds}
        return json.dumps(rows, ensure_ascii=False)

    def parse(self, reply: Reply) -> tuple[Question, ...] | Unparseable:
        """The checklist: the thinker's questions about change and keeping, and the fixed ones about quality after them.

        A question that is too long, blank or repeated is left out; of more than `MAX_QUESTIONS` the first are used.
        """
        objects = object_in(reply, ("change", "keep"), "ambiguous_answer")
        if isinstance(objects, Unparseable):
            return objects
        row, around = objects
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


def _texts(value: object) -> list[str]:
    """The usable questions of a list, each once, on one line."""
    out: dict[str, str] = {}
    for text in value if isinstance(value, list) else []:
        if isinstance(text, str):
            clean = " ".join(well_formed(text).split())
            if clean and len(clean) <= MAX_QUESTION:
                out.setdefault(clean.casefold(), clean)
    return list(out.values())


QUESTIONS: Final = QuestionsFormat()
_EDITTHINKER: Final = EditThinkerFormat()
_JSON_SCHEMA: Final = JsonSchemaFormat()
_POINTING: Final = JsonSchemaFormat(places=True)
FORMATS: Final[Mapping[str, Format]] = {
    "editthinker": Format("editthinker", lambda _, __: _EDITTHINKER, points=False),
    "json_schema": Format("json_schema", lambda _, places: _POINTING if places else _JSON_SCHEMA),
    "checklist": Format("checklist", lambda questions, places: ChecklistFormat(questions, places=places)),
}

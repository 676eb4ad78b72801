"""How a thinker writes its critique down, and how any reply is read: total, never "satisfied" by accident.

    editthinker   <think>…</think><score>{"semantic": n, "quality": n}</score><answer>…</answer>
    json_schema   {"reasoning": …, "semantic": n, "quality": n, "instruction": …}
    checklist     {"answers": [{"n": 1, "reason": …, "answer": "yes|partly|no"}, …], "instruction": …}

`parse` accepts what models really send (a missing opening tag, thoughts in a field of their own, code fences, scores
as strings, blocks in another order) and answers `Unparseable` to everything else. A score out of range is never
clamped: eleven of ten is a broken judge, not a happy one. Scores quoted in the thoughts, or standing beside others,
are none: what a picture or an instruction tells the thinker to write does not count (`services.protocol.critique.ambiguity`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

from services.protocol.critique.ambiguity import elsewhere
from services.protocol.critique.checklist import ChecklistFormat
from services.protocol.critique.constraints import Constraint as Constraint
from services.protocol.critique.constraints import Free, Score, Shape, allows, fields, longest
from services.protocol.critique.messages import Critique, Question, Template, Unparseable
from services.protocol.critique.replies import MAX_REASONING as MAX_REASONING
from services.protocol.critique.replies import MAX_REFINED as MAX_REFINED
from services.protocol.critique.replies import Reply as Reply
from services.protocol.critique.replies import critique_of, labelled, no_text, object_in, short, truncated, unclosed
from services.protocol.critique.replies import read_completion as read_completion
from services.protocol.critique.replies import read_completions as read_completions
from services.protocol.critique.scores import in_text, of_fields

FormatName = Literal["editthinker", "json_schema", "checklist"]


class Format(Protocol):
    """One way to write a critique.

    `questions` matter to the checklist alone; without any it asks `services.protocol.critique.questions.DEFAULT_QUESTIONS`.
    """

    @property
    def name(self) -> FormatName:
        """Its name in `FORMATS`."""
        ...

    def template(self) -> Template:
        """The default prompt template."""
        ...

    def constraint(self, kind: Constraint, questions: tuple[Question, ...] = ()) -> Mapping[str, Any]:
        """Fields of the chat completion request that make the server keep to this format; empty for ``none`` and
        for a kind that cannot describe it.
        """
        ...

    def conforms(self, reply: Reply, kind: Constraint, questions: tuple[Question, ...] = ()) -> bool:
        """Whether a reply's content is one that the constraint allows, to the letter.

        Always true where there is no such constraint. A reply cut at its token limit does not conform, however well its
        server enforces: look at its ``finish_reason`` first.
        """
        ...

    def render(self, critique: Critique, questions: tuple[Question, ...] = ()) -> str:
        """The reply a thinker gives for this critique; ``parse(Reply(render(c, q)), q) == c``."""
        ...

    def parse(self, reply: Reply, questions: tuple[Question, ...] = ()) -> Critique | Unparseable:
        """Read any reply; never raises."""
        ...

    def form(self, questions: tuple[Question, ...] = ()) -> str:
        """The form of a reply in words, to remind a thinker that missed it."""
        ...

    def longest(self, questions: tuple[Question, ...] = ()) -> int:
        """Characters of the longest reply that the constraints allow; a token limit below it can cut one."""
        ...


_TAGGED: Final[Shape] = (
    "<think>",
    Free("tagged", 1, MAX_REASONING),
    '</think><score>{"semantic": ',
    Score(),
    ', "quality": ',
    Score(),
    "}</score><answer>",
    Free("tagged", 0, MAX_REFINED),
    "</answer>",
)
_OBJECT: Final[Shape] = (
    '{"reasoning": "',
    Free("json", 1, MAX_REASONING),
    '", "semantic": ',
    Score(),
    ', "quality": ',
    Score(),
    ', "instruction": "',
    Free("json", 0, MAX_REFINED),
    '"}',
)
STEP: Final = 0.5
"""The scores a JSON schema allows are multiples of it.

Not ``minimum`` and ``maximum``, which some backends ignore; and not tenths, for an enumeration of numbers is written out
by the backend, and 0.3 becomes 0.29999999999999999. Halves are exact in binary, so every backend writes them alike.
"""
_SCORES: Final = {"type": "number", "enum": [short(half * STEP) for half in range(21)]}
_PROPERTIES: Final = {
    "reasoning": {"type": "string", "minLength": 1, "maxLength": MAX_REASONING},
    "semantic": _SCORES,
    "quality": _SCORES,
    "instruction": {"type": "string", "maxLength": MAX_REFINED},
}
_SCHEMA: Final = {
    "type": "object",
    "properties": _PROPERTIES,
    "required": list(_PROPERTIES),
    "additionalProperties": False,
}


class EditThinkerFormat:
    """The tagged reply of the fine-tuned model (arXiv 2512.05965)."""

    name: FormatName = "editthinker"

    def template(self) -> Template:
        """Our wording, with the tags the model was trained to write."""
        return Template.named("editthinker")

    def constraint(self, kind: Constraint, questions: tuple[Question, ...] = ()) -> Mapping[str, Any]:  # noqa: ARG002 - the protocol's
        """Any kind but a JSON schema, which cannot describe this format."""
        return fields(kind, _TAGGED)

    def conforms(self, reply: Reply, kind: Constraint, questions: tuple[Question, ...] = ()) -> bool:  # noqa: ARG002
        """Whether the constraint allows the reply's content."""
        return allows(reply.content, kind, _TAGGED)

    def form(self, questions: tuple[Question, ...] = ()) -> str:  # noqa: ARG002
        """The three blocks."""
        return (
            '<think>what you see</think><score>{"semantic": NUMBER, "quality": NUMBER}</score>'
            "<answer>the complete instruction for the next attempt</answer>, each NUMBER from 0 to 10"
        )

    def longest(self, questions: tuple[Question, ...] = ()) -> int:  # noqa: ARG002
        """Characters of the longest reply that the constraints allow."""
        return longest(_TAGGED)

    def render(self, critique: Critique, questions: tuple[Question, ...] = ()) -> str:  # noqa: ARG002
        """The tagged reply; ``<`` and ``&`` in the texts are escaped, so they cannot pass for tags."""
        scores = json.dumps({"semantic": short(critique.semantic), "quality": short(critique.quality)})
        answer = _escape(labelled(critique.instruction))
        return f"<think>{_escape(critique.reasoning)}</think><score>{scores}</score><answer>{answer}</answer>"

    def parse(self, reply: Reply, questions: tuple[Question, ...] = ()) -> Critique | Unparseable:  # noqa: ARG002
        """Read a tagged reply, however worn."""
        nothing = no_text(reply) or truncated(reply)
        if nothing:
            return nothing
        thoughts, rest, introduction = _split(reply.content)
        if unclosed(rest):
            return Unparseable("missing_scores", "the thoughts do not end")
        blocks = {block.strip() for block in _SCORE_BLOCK.findall(rest)}
        if len(blocks) != 1:
            missing = Unparseable("missing_scores", "no <score> block")
            return Unparseable("ambiguous_scores", f"{len(blocks)} different <score> blocks") if blocks else missing
        scores = in_text(blocks.pop())
        if isinstance(scores, Unparseable):
            return scores
        answer = _answer(rest)
        if answer is None:
            return Unparseable("missing_instruction", "no <answer> block")
        around = [*_BLOCK.split(rest[: answer[0]]), *_BLOCK.split(rest[answer[1] :])]
        if elsewhere(around, scores) or elsewhere([introduction, ""], scores):
            return Unparseable("ambiguous_scores", "other scores beside these, or these are quoted")
        inside = rest[answer[0] : answer[1]].removeprefix("<answer>").removesuffix("</answer>")
        return critique_of(scores, _unescape(thoughts.strip()) or reply.reasoning, _unescape(inside))


class JsonSchemaFormat:
    """One JSON object, for any general vision-language model."""

    name: FormatName = "json_schema"

    def template(self) -> Template:
        """Our wording for a general model."""
        return Template.named("json_schema")

    def constraint(self, kind: Constraint, questions: tuple[Question, ...] = ()) -> Mapping[str, Any]:  # noqa: ARG002 - the protocol's
        """Any kind; scores under a JSON schema are multiples of `STEP`."""
        return fields(kind, _OBJECT, _SCHEMA)

    def conforms(self, reply: Reply, kind: Constraint, questions: tuple[Question, ...] = ()) -> bool:  # noqa: ARG002
        """Whether the constraint allows the reply's content."""
        return allows(reply.content, kind, _OBJECT, _SCHEMA)

    def form(self, questions: tuple[Question, ...] = ()) -> str:  # noqa: ARG002
        """The object."""
        return (
            '{"reasoning": "what you see", "semantic": NUMBER, "quality": NUMBER, '
            '"instruction": "the complete instruction for the next attempt"}, each NUMBER from 0 to 10'
        )

    def longest(self, questions: tuple[Question, ...] = ()) -> int:  # noqa: ARG002
        """Characters of the longest reply that the constraints allow."""
        return longest(_OBJECT)

    def render(self, critique: Critique, questions: tuple[Question, ...] = ()) -> str:  # noqa: ARG002
        """The JSON object, keys in the order in which a model should think."""
        row = {
            "reasoning": critique.reasoning,
            "semantic": short(critique.semantic),
            "quality": short(critique.quality),
            "instruction": labelled(critique.instruction),
        }
        return json.dumps(row, ensure_ascii=False)

    def parse(self, reply: Reply, questions: tuple[Question, ...] = ()) -> Critique | Unparseable:  # noqa: ARG002
        """Read a JSON reply: bare, fenced, after thoughts, or in the reasoning field of a server that put it there."""
        found = object_in(reply, ("semantic", "quality"), "ambiguous_scores")
        if isinstance(found, Unparseable):
            return found
        row, around = found
        scores = of_fields(row)
        if isinstance(scores, Unparseable):
            return scores
        answer = next((row[key] for key in ("instruction", "refined_instruction", "answer") if key in row), None)
        reasoning = row.get("reasoning", "")
        if not isinstance(answer, str | None) or not isinstance(reasoning, str):
            return Unparseable("wrong_shape", "reasoning and instruction must be strings")
        if answer is None:
            return Unparseable("missing_instruction", 'no "instruction" key')
        if elsewhere(around, scores):
            return Unparseable("ambiguous_scores", "other scores beside these, or these are quoted")
        return critique_of(scores, reasoning or reply.reasoning, answer)


FORMATS: Final[Mapping[str, Format]] = {
    "editthinker": EditThinkerFormat(),
    "json_schema": JsonSchemaFormat(),
    "checklist": ChecklistFormat(),
}


_SCORE_BLOCK: Final = re.compile(r"<score>(.*?)(?:</score>|(?=<answer>|<think>)|\Z)", re.DOTALL)
_BLOCK: Final = re.compile(r"<(?:score|answer)>.*?(?:</(?:score|answer)>|(?=<(?:score|answer|think)>)|\Z)", re.DOTALL)
_STARTS_WITH_BLOCK: Final = re.compile(r"\s*(?:```\w*\s*)?<(?:score|answer)>")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&amp;", "&")


def _split(text: str) -> tuple[str, str, str]:
    """(the thoughts, what stands outside of them, what introduces them).

    Whatever follows the first closing tag counts as outside, so that a quoted closing tag makes scores ambiguous and
    never right. Blocks before the thoughts count where the reply begins with them.
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
    """Where the last <answer> block begins and ends; its closing tag may be missing at the very end."""
    closed = text.rfind("</answer>")
    end = len(text) if closed < 0 else closed
    begin = text.rfind("<answer>", 0, end)
    if begin < 0 or (closed < 0 and "<" in text[begin + len("<answer>") :]):
        return None
    return begin, end if closed < 0 else closed + len("</answer>")

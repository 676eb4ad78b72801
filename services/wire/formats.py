"""How a thinker writes its critique down, and how any reply is read: total, never "satisfied" by accident.

    editthinker   <think>…</think><score>{"semantic": n, "quality": n}</score><answer>…</answer>
    json_schema   {"reasoning": …, "semantic": n, "quality": n, "instruction": …}

`parse` accepts what models really send (a missing opening tag, thoughts in a field of their own, code fences, scores
as strings, blocks in another order) and answers `Unparseable` to everything else. A score out of range is never
clamped: eleven of ten is a broken judge, not a happy one. Scores quoted in the thoughts, or standing beside others,
are none: what a picture or an instruction tells the thinker to write does not count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from services.wire.critique import MAX_INSTRUCTION, MAX_SCORE, MIN_SCORE, Critique, Template, Unparseable, well_formed
from services.wire.scores import find_objects, in_text, of_fields

Constraint = Literal["none", "regex", "json_schema"]
FormatName = Literal["editthinker", "json_schema"]

MAX_REASONING: Final = 2_000
"""Characters of reasoning a constrained reply may spend, so that a rambling model still reaches its scores."""
_MAX_ANSWER: Final = 2_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat completion said, before anyone reads meaning into it."""

    content: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    refusal: str = ""


class Format(Protocol):
    """One way to write a critique."""

    name: FormatName

    def template(self) -> Template:
        """The default prompt template."""
        ...

    def constraint(self, kind: Constraint) -> Mapping[str, Any]:
        """Fields of the chat completion request that make the server keep to this format; empty for ``none``."""
        ...

    def render(self, critique: Critique) -> str:
        """The reply a thinker gives for this critique; ``parse(Reply(render(c))) == c``."""
        ...

    def parse(self, reply: Reply) -> Critique | Unparseable:
        """Read any reply; never raises."""
        ...


class EditThinkerFormat:
    """The tagged reply of the fine-tuned model (arXiv 2512.05965)."""

    name: FormatName = "editthinker"

    def template(self) -> Template:
        """Our wording, with the tags the model was trained to write."""
        return Template.named("editthinker")

    def constraint(self, kind: Constraint) -> Mapping[str, Any]:
        """VLLM's ``structured_outputs.regex``; a JSON schema cannot describe this format."""
        if kind != "regex":
            return {}
        score = r"(10|[0-9](\.[0-9])?)"
        pattern = (
            rf"<think>[^<]{{1,{MAX_REASONING}}}</think>"
            rf'<score>\{{"semantic": {score}, "quality": {score}\}}</score>'
            rf"<answer>[^<]{{1,{_MAX_ANSWER}}}</answer>"
        )
        return {"structured_outputs": {"regex": pattern}}

    def render(self, critique: Critique) -> str:
        """The tagged reply; ``<`` and ``&`` in the texts are escaped, so they cannot pass for tags."""
        scores = json.dumps({"semantic": _short(critique.semantic), "quality": _short(critique.quality)})
        answer = _escape(_labelled(critique.instruction))
        return f"<think>{_escape(critique.reasoning)}</think><score>{scores}</score><answer>{answer}</answer>"

    def parse(self, reply: Reply) -> Critique | Unparseable:
        """Read a tagged reply, however worn."""
        nothing = _no_text(reply) or _truncated(reply)
        if nothing:
            return nothing
        thoughts, rest = _split(reply.content)
        if "<think>" in rest and "</think>" not in reply.content and not _ENDS_IN_BLOCKS.search(rest):
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
        return _critique(scores, _unescape(thoughts.strip()) or reply.reasoning, _unescape(answer))


class JsonSchemaFormat:
    """One JSON object, for any general vision-language model."""

    name: FormatName = "json_schema"

    def template(self) -> Template:
        """Our wording for a general model."""
        return Template.named("json_schema")

    def constraint(self, kind: Constraint) -> Mapping[str, Any]:
        """OpenAI's ``response_format``; the regex form is for the tagged format only."""
        if kind != "json_schema":
            return {}
        score = {"type": "number", "minimum": MIN_SCORE, "maximum": MAX_SCORE}
        properties = {
            "reasoning": {"type": "string", "maxLength": MAX_REASONING},
            "semantic": score,
            "quality": score,
            "instruction": {"type": "string", "maxLength": _MAX_ANSWER},
        }
        schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "critique", "strict": True, "schema": schema}}}

    def render(self, critique: Critique) -> str:
        """The JSON object, keys in the order in which a model should think."""
        fields = {
            "reasoning": critique.reasoning,
            "semantic": _short(critique.semantic),
            "quality": _short(critique.quality),
            "instruction": _labelled(critique.instruction),
        }
        return json.dumps(fields, ensure_ascii=False)

    def parse(self, reply: Reply) -> Critique | Unparseable:
        """Read a JSON reply: bare, fenced, after thoughts, or in the reasoning field of a server that put it there."""
        empty = _no_text(reply)
        if empty:
            return empty
        text = reply.content if reply.content.strip() else reply.reasoning
        # A reply that starts as JSON may quote a closing tag; one that starts with thoughts ends them with it.
        starts_as_json = text.lstrip().startswith(("{", "```"))
        objects = find_objects(text if starts_as_json else text.rpartition("</think>")[2])
        found = [fields for fields in objects.found if "semantic" in fields or "quality" in fields]
        if _truncated(reply) and (not found or objects.broken or objects.tail.strip()):
            return _truncated(reply) or Unparseable("truncated")
        if not found:
            return Unparseable("not_json", "no JSON object with scores")
        if len(found) > 1 or _ANOTHER_SCORE.search(objects.around):
            return Unparseable("ambiguous_scores", "scores in more than one place")
        fields = found[0]
        scores = of_fields(fields)
        if isinstance(scores, Unparseable):
            return scores
        answer = next((fields[key] for key in ("instruction", "refined_instruction", "answer") if key in fields), None)
        reasoning = fields.get("reasoning", "")
        if not isinstance(answer, str | None) or not isinstance(reasoning, str):
            return Unparseable("wrong_shape", "reasoning and instruction must be strings")
        if answer is None:
            return Unparseable("missing_instruction", 'no "instruction" key')
        return _critique(scores, reasoning or reply.reasoning, answer)


FORMATS: Final[Mapping[str, Format]] = {"editthinker": EditThinkerFormat(), "json_schema": JsonSchemaFormat()}


def read_completion(body: object) -> Reply | Unparseable:
    """The first choice of a chat completion's JSON body; total on any JSON value."""
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return Unparseable("wrong_shape", "no choices[0].message")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content"))
    return Reply(_text(content), reasoning, _text(choice.get("finish_reason")), _text(message.get("refusal")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


_REFUSAL: Final = re.compile(
    r"^\W*(?:"
    r"i(?:['’]?m|\s+am)\s+(?:really\s+|very\s+)?(?:sorry|unable|not\s+able)|i\s+(?:can['’]?t|cannot|won['’]?t|must\s+decline)\b"  # noqa: RUF001
    r"|(?:i|my)\s+apolog|sorry\b|unfortunately,?\s+i\b|as\s+an\s+ai\b"
    r"|抱歉|对不起|申し訳|lo\s+siento|(?:je\s+suis\s+)?désolé|es\s+tut\s+mir\s+leid|desculpe)",
    re.IGNORECASE,
)
_SCORE_BLOCK: Final = re.compile(r"<score>(.*?)(?:</score>|(?=<answer>|<think>)|\Z)", re.DOTALL)
_ENDS_IN_BLOCKS: Final = re.compile(r"</score>\s*<answer>[^<]*</answer>\W*\Z")
_STARTS_WITH_BLOCK: Final = re.compile(r"\s*(?:```\w*\s*)?<(?:score|answer)>")
_FENCE: Final = re.compile(r"\s*(?:```\w*\s*)?")
_ANOTHER_SCORE: Final = re.compile(r"[\"'](?:semantic|quality)[\"']\s*:\s*[\"']?-?\d")
_LABEL: Final = re.compile(r"^(?:\*\*)?(?:refined|rewritten|new|next)\s+(?:instruction|prompt)(?:\*\*)?\s*:\s*", re.IGNORECASE)


def _no_text(reply: Reply) -> Unparseable | None:
    if reply.refusal:
        return Unparseable("refusal", reply.refusal[:200])
    if not reply.content.strip() and not reply.reasoning.strip():
        if reply.finish_reason == "content_filter":
            return Unparseable("refusal", "the server's content filter stopped the reply")
        return _truncated(reply) or Unparseable("empty", "the reply holds no text")
    if _REFUSAL.match(reply.content) and "<score>" not in reply.content and "{" not in reply.content:
        return Unparseable("refusal", reply.content[:200])
    return None


def _truncated(reply: Reply) -> Unparseable | None:
    return Unparseable("truncated", "the reply was cut at its token limit") if reply.finish_reason == "length" else None


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&amp;", "&")


def _short(score: float) -> float:
    """8, not 8.0: the form that the regex constraint allows."""
    return int(score) if score == int(score) else score


def _labelled(instruction: str | None) -> str:
    """The instruction as `parse` reads it: of one that starts with a label itself, only the label put here is taken off."""
    return f"Refined instruction: {instruction}" if instruction and _LABEL.match(instruction) else instruction or ""


def _split(text: str) -> tuple[str, str]:
    """(the thoughts, what stands outside of them).

    Whatever follows the first closing tag counts as outside, so that a quoted closing tag makes scores ambiguous and
    never right. Blocks before the thoughts count where the reply begins with them.
    """
    head, closed, after = text.partition("</think>")
    if not closed:
        return "", text
    before, opened, inside = head.partition("<think>")
    thoughts = text.rpartition("</think>")[0]
    if opened and _STARTS_WITH_BLOCK.match(before):
        return inside, f"{before}\n{after}"
    if opened and _FENCE.fullmatch(before):
        thoughts = thoughts[len(before) :]
    return thoughts.replace("<think>", "", 1), after


def _answer(text: str) -> str | None:
    """The inside of the last <answer> block; its closing tag may be missing at the very end."""
    head, closed, _ = text.rpartition("</answer>")
    _, opened, inside = (head if closed else text).rpartition("<answer>")
    return inside if opened and (closed or "<" not in inside) else None


def _critique(scores: tuple[float, float], reasoning: str, answer: str) -> Critique | Unparseable:
    answer = _LABEL.sub("", well_formed(answer).strip()).strip()
    if len(answer) > MAX_INSTRUCTION:
        return Unparseable("instruction_too_long", f"{len(answer)} characters")
    return Critique(scores[0], scores[1], well_formed(reasoning).strip(), answer or None)

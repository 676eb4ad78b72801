"""How a thinker writes its critique down, and how any reply is read: total, never "satisfied" by accident.

    editthinker   <think>…</think><score>{"semantic": n, "quality": n}</score><answer>…</answer>
    json_schema   {"reasoning": …, "semantic": n, "quality": n, "instruction": …}

`parse` accepts what models really send (a missing opening tag, thoughts in a field of their own, code fences, scores
as strings, blocks in another order) and answers `Unparseable` to everything else. A score out of range is never
clamped: eleven of ten is a broken judge, not a happy one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from services.wire.critique import MAX_INSTRUCTION, MAX_SCORE, MIN_SCORE, Critique, Template, Unparseable

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
        scores = json.dumps({"semantic": critique.semantic, "quality": critique.quality})
        answer = _escape(critique.instruction or "")
        return f"<think>{_escape(critique.reasoning)}</think><score>{scores}</score><answer>{answer}</answer>"

    def parse(self, reply: Reply) -> Critique | Unparseable:
        """Read a tagged reply, however worn."""
        empty = _no_text(reply)
        if empty:
            return empty
        text = reply.content
        thoughts, closed, rest = text.rpartition("</think>")
        if not closed:
            thoughts, rest = _block(text, "think") or "", text
        reasoning = _unescape(thoughts.replace("<think>", "", 1).strip()) or reply.reasoning.strip()
        # Blocks in another order: the scores may stand before the thoughts.
        scores = _scores(rest) if _SCORE_BLOCK.search(rest) or not closed else _scores(text)
        if isinstance(scores, Unparseable):
            return _truncated(reply) or scores
        answer = _block(rest, "answer")
        if answer is None and closed:
            answer = _block(text, "answer")
        if answer is None:
            answer = _unclosed_answer(rest, reply)
        if answer is None:
            return _truncated(reply) or Unparseable("missing_instruction", "no <answer> block")
        return _critique(scores, reasoning, _unescape(answer))


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
            "semantic": critique.semantic,
            "quality": critique.quality,
            "instruction": critique.instruction or "",
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
        found = _objects(text if starts_as_json else text.rpartition("</think>")[2])
        found = [fields for fields in found if "semantic" in fields or "quality" in fields]
        if not found:
            return _truncated(reply) or Unparseable("not_json", "no JSON object with scores")
        if len(found) > 1:
            return Unparseable("ambiguous_scores", f"{len(found)} JSON objects with scores")
        fields = found[0]
        scores = _numbers(fields)
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
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    texts = [message.get("reasoning"), message.get("reasoning_content")]
    reasoning = next((text for text in texts if isinstance(text, str)), "")
    refusal = message.get("refusal")
    return Reply(
        content if isinstance(content, str) else "",
        reasoning,
        str(choice.get("finish_reason") or ""),
        refusal if isinstance(refusal, str) else "",
    )


_REFUSAL: Final = re.compile(r"^\W*(?:i['’]?m (?:really )?sorry|i (?:can['’]?t|cannot|am unable)|sorry,)", re.IGNORECASE)  # noqa: RUF001
_SCORE_BLOCK: Final = re.compile(r"<score>(.*?)(?:</score>|(?=<answer>|<think>)|\Z)", re.DOTALL)
_NUMBER: Final = re.compile(r"^\s*(-?\d{1,6}(?:\.\d{1,9})?)\s*(?:/\s*10(?:\.0)?)?\s*$")
_LABELLED: Final = re.compile(
    r"[\"']?\b(semantic|quality)\b[\"']?\s*(?:score)?\s*[:=]\s*[\"']?(-?\d{1,6}(?:\.\d{1,9})?)", re.IGNORECASE
)
_LABEL: Final = re.compile(r"^(?:\*\*)?(?:refined|rewritten|new|next)\s+(?:instruction|prompt)(?:\*\*)?\s*:\s*", re.IGNORECASE)


def _no_text(reply: Reply) -> Unparseable | None:
    if reply.refusal:
        return Unparseable("refusal", reply.refusal[:200])
    if not reply.content.strip() and not reply.reasoning.strip():
        return Unparseable("empty", "the reply holds no text")
    if _REFUSAL.match(reply.content) and "<score>" not in reply.content and "{" not in reply.content:
        return Unparseable("refusal", reply.content[:200])
    return None


def _truncated(reply: Reply) -> Unparseable | None:
    return Unparseable("truncated", "the reply was cut at its token limit") if reply.finish_reason == "length" else None


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&amp;", "&")


def _block(text: str, tag: str) -> str | None:
    """The inside of the last closed <tag>…</tag>, or None."""
    head, close, _ = text.rpartition(f"</{tag}>")
    _, start, inside = head.rpartition(f"<{tag}>")
    return inside if close and start else None


def _unclosed_answer(text: str, reply: Reply) -> str | None:
    """An answer whose closing tag is missing although the model ended by itself."""
    _, start, inside = text.rpartition("<answer>")
    return inside if start and reply.finish_reason != "length" and "<" not in inside else None


def _scores(text: str) -> tuple[float, float] | Unparseable:
    blocks = {block.strip() for block in _SCORE_BLOCK.findall(text)}
    if not blocks:
        return Unparseable("missing_scores", "no <score> block")
    if len(blocks) > 1:
        return Unparseable("ambiguous_scores", f"{len(blocks)} different <score> blocks")
    block = blocks.pop()
    objects = _objects(block)
    if len(objects) == 1:
        return _numbers(objects[0])
    return _numbers(_labelled(block)) if not objects else Unparseable("ambiguous_scores", "several objects in <score>")


def _labelled(block: str) -> dict[str, Any]:
    """Scores written as ``semantic: 8, quality: 7``; a name given twice with two values is no score."""
    fields: dict[str, Any] = {}
    for name, number in _LABELLED.findall(block):
        key = name.lower()
        fields[key] = number if fields.get(key, number) == number else "?"
    return fields


def _numbers(fields: Mapping[str, Any]) -> tuple[float, float] | Unparseable:
    out: list[float] = []
    for name in ("semantic", "quality"):
        if name not in fields:
            return Unparseable("missing_scores", f"no {name} score")
        number = _number(fields[name])
        if number is None:
            return Unparseable("score_not_a_number", f"{name} is {str(fields[name])[:40]!r}")
        if not MIN_SCORE <= number <= MAX_SCORE:
            return Unparseable("score_out_of_range", f"{name} is {number:g}")
        out.append(number)
    return out[0], out[1]


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = _NUMBER.match(value)
        return float(match.group(1)) if match else None
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _critique(scores: tuple[float, float], reasoning: str, answer: str) -> Critique | Unparseable:
    answer = _LABEL.sub("", answer.strip()).strip()
    if len(answer) > MAX_INSTRUCTION:
        return Unparseable("instruction_too_long", f"{len(answer)} characters")
    return Critique(scores[0], scores[1], reasoning.strip(), answer or None)


def _objects(text: str) -> list[dict[str, Any]]:
    """Every outermost JSON object in a text, in order; bounded work on any input."""
    decoder = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=str)
    found: list[dict[str, Any]] = []
    position = text.find("{")
    for _ in range(64):
        if position < 0:
            break
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        else:
            found.append(value)
        position = text.find("{", end)
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key given twice with two values keeps neither."""
    out: dict[str, Any] = {}
    for key, value in pairs:
        out[key] = value if key not in out or out[key] == value else "given twice"
    return out

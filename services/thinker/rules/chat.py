"""The chat completions protocol as this thinker speaks it: what is asked for, and the reply's shapes.

A reply is written once and then served whole or in chunks, as many times as `n` says: a thinker that measures has
one opinion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from services.wire.critique import Critique
from services.wire.errors import ApiError
from services.wire.formats import FORMATS, MAX_REASONING, Format

_ANSWER: Final = 2_000  # characters the grammar allows an instruction
_TOKEN: Final = re.compile(r"\s?[^\W\d_]{1,5}|\s?\d{1,3}|\s?[^\w\s]|\s+|_")
_PATCH: Final = 28  # pixels a side that cost one token, as Qwen2.5-VL counts
_MOST_IMAGE_TOKENS: Final = 16_384
MOST_ECHOED: Final = 200  # characters of a wrong value that its refusal repeats
_KNOWN_KEYS: Final = frozenset({"reasoning", "semantic", "quality", "instruction"})


class StreamOptions(BaseModel):
    """OpenAI's ``stream_options``."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The fields of a chat completion request that matter here; sampling fields are accepted and have no effect."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    n: int = Field(1, ge=1, le=16)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None

    @property
    def most_tokens(self) -> int | None:
        """The limit on the reply's tokens, under its old or new name."""
        return self.max_completion_tokens or self.max_tokens


@dataclass(frozen=True)
class Reply:
    """A written reply: its text as tokens, and why it ended."""

    tokens: tuple[str, ...]
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int

    @property
    def text(self) -> str:
        """The reply as one string."""
        return "".join(self.tokens)

    def usage(self, n: int) -> dict[str, int]:
        """OpenAI's ``usage`` for `n` choices."""
        completion = len(self.tokens) * n
        total = self.prompt_tokens + completion
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": total}


def wanted_format(request: ChatRequest, template_format: str) -> Format:
    """The format a request constrains its reply to; the one its prompt asks for when it constrains nothing.

    Raises:
        ApiError: ``unsupported_parameter`` for a constraint no critique can meet.
    """
    kind = _kind(request.response_format or {})
    outputs = {key: value for key, value in (request.structured_outputs or {}).items() if value is not None}
    if outputs and kind != "text":
        raise ApiError("invalid_value", "give response_format or structured_outputs, not both", param="structured_outputs")
    if kind == "json_schema":
        _check_schema(_declared(request.response_format or {}), "response_format")
        return FORMATS["json_schema"]
    if kind == "json_object":
        return FORMATS["json_schema"]
    if kind != "text":
        message = f"response_format of type {kind[:MOST_ECHOED]!r} is not offered"
        raise ApiError("unsupported_parameter", message, param="response_format")
    if "json" in outputs:
        _check_schema(_parsed(outputs["json"]), "structured_outputs")
        return FORMATS["json_schema"]
    if "regex" in outputs:
        regex = outputs["regex"]
        if not isinstance(regex, str):
            raise ApiError("invalid_value", "structured_outputs.regex must be a string", param="structured_outputs")
        if not all(tag in regex for tag in ("<think>", "<score>", "<answer>")):
            message = "the regex must describe <think>…</think><score>…</score><answer>…</answer>"
            raise ApiError("unsupported_parameter", message, param="structured_outputs")
        return FORMATS["editthinker"]
    if set(outputs) & {"choice", "grammar", "structural_tag", "json_object"}:
        raise ApiError("unsupported_parameter", "structured_outputs offers regex and json", param="structured_outputs")
    return FORMATS["json_schema" if template_format == "json_schema" else "editthinker"]


def _kind(response_format: dict[str, Any]) -> str:
    kind = response_format.get("type", "text")
    if not isinstance(kind, str):
        raise ApiError("invalid_value", "response_format.type must be a string", param="response_format")
    return kind


def _declared(response_format: dict[str, Any]) -> object:
    """The schema inside a ``response_format`` of type ``json_schema``."""
    declared = response_format.get("json_schema")
    if declared is None:
        raise ApiError("missing_parameter", "response_format.json_schema is missing", param="response_format")
    return _object(declared, "response_format.json_schema", "response_format").get("schema")


def _parsed(schema: object) -> object:
    """VLLM takes a schema as an object or as JSON text."""
    if not isinstance(schema, str):
        return schema
    try:
        return orjson.loads(schema)
    except orjson.JSONDecodeError as exc:
        message = "structured_outputs.json is no JSON text"
        raise ApiError("invalid_value", message, param="structured_outputs") from exc


def _object(value: object, name: str, param: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ApiError("invalid_value", f"{name} must be an object", param=param)
    return value


def _check_schema(schema: object, param: str) -> None:
    """Refuse a schema no critique meets; one that is no schema at all is refused too. None constrains nothing.

    Raises:
        ApiError: ``invalid_value`` or ``unsupported_parameter``, naming `param`.
    """
    required = _object(schema, "the JSON schema", param).get("required")
    if required is None:
        return
    if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
        raise ApiError("invalid_value", "the JSON schema's required must be a list of strings", param=param)
    unknown = sorted(set(required) - _KNOWN_KEYS)
    if unknown:
        message = f"a critique has no {', '.join(unknown)[:MOST_ECHOED]}; it has {', '.join(sorted(_KNOWN_KEYS))}"
        raise ApiError("unsupported_parameter", message, param=param)


def written(critique: Critique, form: Format) -> str:
    """The critique in a format, within the lengths the formats' grammars allow."""
    instruction = critique.instruction
    if instruction is not None and _within(instruction, _ANSWER) != instruction:
        # Half an instruction is another instruction; none says that it stays.
        instruction = None
    fitted = Critique(
        semantic=_plain(critique.semantic),
        quality=_plain(critique.quality),
        reasoning=_within(critique.reasoning, MAX_REASONING),
        instruction=instruction,
    )
    # The grammar wants a character there, and a blank one reads as none.
    return form.render(fitted).replace("<answer></answer>", "<answer> </answer>")


def _plain(score: float) -> float:
    """A whole score without its point: the grammar writes 10, not 10.0."""
    return int(score) if score == int(score) else score


def _within(text: str, longest: int) -> str:
    """The text cut so that it still fits when ``<`` and ``&`` are escaped."""
    room = longest
    for position, character in enumerate(text):
        room -= {"<": 4, "&": 5}.get(character, 1)
        if room < 0:
            return text[:position]
    return text


def reply(text: str, request: ChatRequest, sizes: list[tuple[int, int]], prompt: str) -> Reply:
    """The reply to a request: cut at its token limit as a model's would be, and counted.

    `sizes` are the pictures' (width, height), `prompt` the request's text.
    """
    tokens = tuple(_TOKEN.findall(text))
    limit = request.most_tokens
    cut = limit is not None and len(tokens) > limit
    images = sum(min(_MOST_IMAGE_TOKENS, math.ceil(w / _PATCH) * math.ceil(h / _PATCH)) for w, h in sizes)
    return Reply(
        tokens=tokens[:limit] if cut else tokens,
        finish_reason="length" if cut else "stop",
        prompt_tokens=len(_TOKEN.findall(prompt)) + images,
    )


def completion(identity: str, created: int, request: ChatRequest, answer: Reply) -> dict[str, Any]:
    """The whole chat completion."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        for index in range(request.n)
    ]
    head = {"id": identity, "object": "chat.completion", "created": created, "model": request.model}
    return {**head, "choices": choices, "usage": answer.usage(request.n)}


def chunks(identity: str, created: int, request: ChatRequest, answer: Reply) -> Iterator[dict[str, Any]]:
    """The chat completion in chunks, as OpenAI streams it (without the closing ``[DONE]``)."""
    with_usage = request.stream_options is not None and request.stream_options.include_usage
    head = {"id": identity, "object": "chat.completion.chunk", "created": created, "model": request.model}

    def chunk(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
        return {**head, "choices": choices} | ({"usage": usage} if with_usage else {})

    for index in range(request.n):
        yield chunk([_delta(index, {"role": "assistant", "content": ""})])
        for start in range(0, len(answer.tokens), 8):
            yield chunk([_delta(index, {"content": "".join(answer.tokens[start : start + 8])})])
        yield chunk([_delta(index, {}, answer.finish_reason)])
    if with_usage:
        yield chunk([], answer.usage(request.n))


def _delta(index: int, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}

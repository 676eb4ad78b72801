"""OpenAI's chat completions as this thinker serves them: requests, replies, and their OpenAPI schemas.

A reply is computed once and then sent whole or in chunks, `n` times: the thinker is deterministic, so all choices are equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.errors import TABLE
from services.protocol.images_api import sse_schema

_TOKEN: Final = re.compile(r"\s?[^\W\d_]{1,5}|\s?\d{1,3}|\s?[^\w\s]|\s+|_")
_PATCH: Final = 28  # side, in pixels, of the square that costs one token, as in Qwen2.5-VL
_MAX_IMAGE_TOKENS: Final = 16_384
_SHARED: Final = (400, 404, 405, 413, 500, 503)
_STRING: Final = {"type": "string"}
_MAYBE: Final = {"type": ["string", "null"]}
_INTEGER: Final = {"type": "integer", "minimum": 0}


class StreamOptions(BaseModel):
    """OpenAI's ``stream_options``."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The fields of a chat completion request that have an effect; sampling fields are accepted and ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=1_000, fail_fast=True)
    n: int = Field(1, ge=1, le=16)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None

    @property
    def token_limit(self) -> int | None:
        """The limit on the reply's tokens, under its current or its older name."""
        return self.max_completion_tokens or self.max_tokens


@dataclass(frozen=True)
class Reply:
    """A reply: its text as tokens, its finish reason, and the tokens of the prompt."""

    tokens: tuple[str, ...]
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int

    @property
    def text(self) -> str:
        """The reply as one string."""
        return "".join(self.tokens)

    def usage(self, n: int) -> dict[str, Any]:
        """OpenAI's ``usage`` for `n` choices. Nothing is cached: every request is measured in full."""
        completion = len(self.tokens) * n
        total = self.prompt_tokens + completion
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": total,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


def reply(text: str, request: ChatRequest, sizes: list[tuple[int, int]], prompt: str) -> Reply:
    """The reply to a request: cut at its token limit, as a model's would be, and counted.

    `sizes` are the pictures' (width, height), `prompt` the request's text.
    """
    tokens = tuple(_TOKEN.findall(text))
    limit = request.token_limit
    cut = limit is not None and len(tokens) > limit
    images = sum(min(_MAX_IMAGE_TOKENS, math.ceil(w / _PATCH) * math.ceil(h / _PATCH)) for w, h in sizes)
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

    def chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
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


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_ERROR: Final = _object(error=_object(message=_STRING, type=_STRING, param=_MAYBE, code=_MAYBE))
_MESSAGE: Final = _object(role={"const": "assistant"}, content=_STRING)
_CHOICE: Final = _object(index=_INTEGER, message=_MESSAGE, finish_reason={"enum": ["stop", "length"]})
_COMPLETION: Final = _object(
    id=_STRING,
    object={"const": "chat.completion"},
    created=_INTEGER,
    model=_STRING,
    choices={"type": "array", "minItems": 1, "items": _CHOICE},
    usage=_object(
        prompt_tokens=_INTEGER,
        completion_tokens=_INTEGER,
        total_tokens=_INTEGER,
        prompt_tokens_details=_object(cached_tokens=_INTEGER),
    ),
)


def responses(*statuses: int, ok: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: `ok` as the content of 200, the errors of every route, and those of `statuses`."""
    content = {"application/json": {"schema": _ERROR}}
    out: dict[int | str, dict[str, Any]] = {}
    if ok is not None:
        out[200] = {"description": "Success.", "content": ok}
    for status in sorted({*_SHARED, *statuses}):
        codes = sorted(code for code, row in TABLE.items() if row.status == status)
        out[status] = {"description": ", ".join(codes), "content": content}
    return out


COMPLETION: Final = {"application/json": {"schema": _COMPLETION}, "text/event-stream": {"schema": sse_schema()}}
"""The content of a chat completion; server-sent events with stream=true."""
METRICS: Final = {"text/plain": {"schema": _STRING}}
"""The content of ``/metrics``."""


def chat_body() -> dict[str, Any]:
    """The OpenAPI request body of a chat completion, with references inlined, as the document has no other models."""
    schema = ChatRequest.model_json_schema()
    options = schema.pop("$defs")["StreamOptions"]
    schema["properties"]["stream_options"] = {"anyOf": [options, {"type": "null"}], "default": None}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

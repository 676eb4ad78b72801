"""OpenAI's chat completions as this thinker serves them: requests, replies, and their OpenAPI schemas.

A reply is computed once and then sent whole or in chunks, `n` times: the thinker is deterministic, so all choices are equal.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from services.errors import TABLE
from services.protocol.images_api import sse_schema

_TOKEN: Final = re.compile(r"\s?[^\W\d_]{1,5}|\s?\d{1,3}|\s?[^\w\s]|\s+|_")
_PATCH: Final = 28  # side, in pixels, of the square that costs one token, as in Qwen2.5-VL
_MAX_IMAGE_TOKENS: Final = 16_384
_CHUNK: Final = 8  # tokens of a chunk


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

    def text(self) -> str:
        """All text of the messages."""
        out: list[str] = []
        for message in self.messages:
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            out += [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "\n".join(out)


@dataclass(frozen=True)
class Completion:
    """The answer to one request: `tokens` of the reply, after `prompt_tokens`; `cut` where the request's limit ended it."""

    request: ChatRequest
    tokens: tuple[str, ...]
    cut: bool
    prompt_tokens: int
    head: dict[str, Any]

    def whole(self) -> dict[str, Any]:
        """The chat completion as one object."""
        message = {"role": "assistant", "content": "".join(self.tokens), "refusal": None}
        choices = [self._choice(index, message=message, finish_reason=self._reason) for index in range(self.request.n)]
        return {**self.head, "object": "chat.completion", "choices": choices, "usage": self._usage()}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The chat completion in chunks, as OpenAI streams it (without the closing ``[DONE]``)."""
        with_usage = self.request.stream_options is not None and self.request.stream_options.include_usage
        head = {**self.head, "object": "chat.completion.chunk"} | ({"usage": None} if with_usage else {})
        for index in range(self.request.n):
            deltas = [{"role": "assistant", "content": ""}]
            deltas += [{"content": "".join(self.tokens[at : at + _CHUNK])} for at in range(0, len(self.tokens), _CHUNK)]
            for delta in deltas:
                yield {**head, "choices": [self._choice(index, delta=delta, finish_reason=None)]}
            yield {**head, "choices": [self._choice(index, delta={}, finish_reason=self._reason)]}
        if with_usage:
            yield {**head, "choices": [], "usage": self._usage()}

    @staticmethod
    def _choice(index: int, **fields: Any) -> dict[str, Any]:
        return {"index": index, "logprobs": None, **fields}

    @property
    def _reason(self) -> str:
        return "length" if self.cut else "stop"

    def _usage(self) -> dict[str, Any]:
        """OpenAI's ``usage``. Nothing is cached: every request is measured in full."""
        completion = len(self.tokens) * self.request.n
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


def complete(request: ChatRequest, text: str, sizes: Sequence[tuple[int, int]]) -> Completion:
    """The answer with this reply: cut at the request's token limit, as a model's would be, and counted.

    `sizes` are the pictures' (width, height).
    """
    tokens = tuple(_TOKEN.findall(text))
    limit = request.max_completion_tokens or request.max_tokens or len(tokens)
    images = sum(min(_MAX_IMAGE_TOKENS, math.ceil(w / _PATCH) * math.ceil(h / _PATCH)) for w, h in sizes)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": request.model}
    return Completion(request, tokens[:limit], len(tokens) > limit, len(_TOKEN.findall(request.text())) + images, head)


_STRING: Final = {"type": "string"}
_MAYBE: Final = {"type": ["string", "null"]}
_INTEGER: Final = {"type": "integer", "minimum": 0}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_ERROR: Final = _object(error=_object(message=_STRING, type=_STRING, param=_MAYBE, code=_MAYBE))
_CHOICE: Final = _object(
    index=_INTEGER, message=_object(role={"const": "assistant"}, content=_STRING), finish_reason={"enum": ["stop", "length"]}
)
_USAGE: Final = _object(**dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _INTEGER))
_COMPLETION: Final = _object(
    id=_STRING,
    object={"const": "chat.completion"},
    created=_INTEGER,
    model=_STRING,
    choices={"type": "array", "minItems": 1, "items": _CHOICE},
    usage=_USAGE,
)
COMPLETION: Final = {"application/json": {"schema": _COMPLETION}, "text/event-stream": {"schema": sse_schema()}}
"""The content of a chat completion; server-sent events with stream=true."""
METRICS: Final = {"text/plain": {"schema": _STRING}}
"""The content of ``/metrics``."""


def responses(*statuses: int, ok: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: `ok` as the content of 200, the errors of every route, and those of `statuses`."""
    out: dict[int | str, dict[str, Any]] = {} if ok is None else {200: {"description": "Success.", "content": ok}}
    for status in sorted({400, 404, 405, 413, 500, 503, *statuses}):
        codes = sorted(code for code, row in TABLE.items() if row.status == status)
        out[status] = {"description": ", ".join(codes), "content": {"application/json": {"schema": _ERROR}}}
    return out


def chat_body() -> dict[str, Any]:
    """The OpenAPI request body of a chat completion, with references inlined, as the document has no other models."""
    schema = ChatRequest.model_json_schema()
    options = schema.pop("$defs")["StreamOptions"]
    schema["properties"]["stream_options"] = {"anyOf": [options, {"type": "null"}], "default": None}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

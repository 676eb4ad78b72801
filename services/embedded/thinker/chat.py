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

from pydantic import BaseModel, ConfigDict, Field

_TOKEN: Final = re.compile(r"\s?[^\W\d_]{1,5}|\s?\d{1,3}|\s?[^\w\s]|\s+|_")
_PATCH: Final = 28  # pixels a side that cost one token, as Qwen2.5-VL counts
_MOST_IMAGE_TOKENS: Final = 16_384


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

    def usage(self, n: int) -> dict[str, Any]:
        """OpenAI's ``usage`` for `n` choices. Nothing is cached: every picture is measured anew."""
        completion = len(self.tokens) * n
        total = self.prompt_tokens + completion
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": total,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


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

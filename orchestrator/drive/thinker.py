"""Client of any OpenAI ``POST /v1/chat/completions`` server that takes images: vLLM, or an expert model by URL."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pybase64

from orchestrator.drive.upstream import Call, HttpUpstream, Lazy
from orchestrator.ports import CritiqueOrder, CritiqueReply, StoredImage, ThinkerError
from services.wire.critique import Critique, Template, Unparseable, messages
from services.wire.formats import Constraint, Format, read_completion

_LONGEST_REASONING: Final = 8_000
"""Characters of reasoning that are kept; a rambling thinker must not fill the session store."""
_NOT_WORTH_ANOTHER_TRY: Final = frozenset({"instruction_too_long"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a thinker is asked.

    Attributes:
        model: the server's name for the model.
        format: how the critique is written down.
        template: the prompt.
        constraint: what the server can hold its reply to.
        sampling: further fields of the request (temperature, max_tokens …), sent as they are.
    """

    model: str
    format: Format
    template: Template
    constraint: Constraint = "none"
    sampling: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 2048})


class HttpThinker:
    """`orchestrator.ports.Thinker` over chat completions."""

    def __init__(self, upstream: HttpUpstream, dialect: Dialect) -> None:
        self._upstream = upstream
        self._dialect = dialect

    async def ready(self) -> bool:
        """Whether the thinker can be asked now."""
        return await self._upstream.ready()

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        """One critique of one candidate.

        Raises:
            ThinkerError: when the server fails, or its reply holds no usable critique (``thinker_bad_reply``).
        """
        dialect = self._dialect
        call = Call("/chat/completions", _body(order, dialect), "application/json", {})
        completion = await self._upstream.post(call, order.timeout_s)
        reply = read_completion(completion)
        critique = reply if isinstance(reply, Unparseable) else dialect.format.parse(reply)
        if isinstance(critique, Unparseable):
            message = f"the thinker's reply holds no usable critique: {critique.reason}"
            message += f" ({critique.detail})" if critique.detail else ""
            retryable = critique.reason not in _NOT_WORTH_ANOTHER_TRY
            raise ThinkerError("thinker_bad_reply", message, retryable=retryable)
        return _with_usage(critique, completion)


def _body(order: CritiqueOrder, dialect: Dialect) -> list[bytes | Lazy]:
    """The request's JSON in pieces: marks stand for the pictures, which are loaded and encoded as they are sent."""
    marks = secrets.token_hex(16), secrets.token_hex(16)
    body = {
        "model": dialect.model,
        "messages": messages(order.original_instruction, order.instruction, dialect.template, urls=marks),
        **dialect.sampling,
        **dialect.format.constraint(dialect.constraint),
    }
    head, rest = orjson.dumps(body).split(marks[0].encode())
    between, tail = rest.split(marks[1].encode())
    return [head, *_data_url(order.source), between, *_data_url(order.candidate), tail]


def _data_url(image: StoredImage) -> list[bytes | Lazy]:
    async def encoded() -> bytes:
        return pybase64.b64encode(await image.load())

    return [f"data:{image.ref.media_type};base64,".encode(), Lazy((image.ref.bytes + 2) // 3 * 4, encoded)]


def _with_usage(critique: Critique, completion: Any) -> CritiqueReply:
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return CritiqueReply(
        critique.semantic,
        critique.quality,
        critique.reasoning[:_LONGEST_REASONING],
        critique.instruction,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _count(cached),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0

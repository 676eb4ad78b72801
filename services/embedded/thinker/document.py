"""What the thinker's OpenAPI document says: the body it reads itself, and every status it answers."""

from __future__ import annotations

from typing import Any, Final

from services.embedded.thinker.chat import ChatRequest
from services.errors import TABLE
from services.protocol.images_api import sse_schema

_SHARED: Final = (400, 404, 405, 413, 500, 503)
_STRING: Final = {"type": "string"}
_MAYBE: Final = {"type": ["string", "null"]}
_INTEGER: Final = {"type": "integer", "minimum": 0}


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


def answers(*statuses: int, ok: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: `ok` as the content of 200, and the errors, those of every route and those given."""
    content = {"application/json": {"schema": _ERROR}}
    out: dict[int | str, dict[str, Any]] = {}
    if ok is not None:
        out[200] = {"description": "Success.", "content": ok}
    for status in sorted({*_SHARED, *statuses}):
        codes = sorted(code for code, row in TABLE.items() if row.status == status)
        out[status] = {"description": ", ".join(codes), "content": content}
    return out


COMPLETION: Final = {"application/json": {"schema": _COMPLETION}, "text/event-stream": {"schema": sse_schema()}}
"""The content of a chat completion; events with stream=true."""
METRICS: Final = {"text/plain": {"schema": _STRING}}
"""The content of ``/metrics``."""


def chat_body() -> dict[str, Any]:
    """The OpenAPI request body of a chat completion, free of references: nothing else holds the model's parts."""
    schema = ChatRequest.model_json_schema()
    options = schema.pop("$defs")["StreamOptions"]
    schema["properties"]["stream_options"] = {"anyOf": [options, {"type": "null"}], "default": None}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

"""The dependencies of the routes, made once by the application."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from services.editor.api.sources import KeptSources
from services.editor.engine.async_engine import AsyncEngine
from services.editor.engine.executor import Executor
from services.editor.metrics import Metrics
from services.editor.pipelines import Pipeline
from services.errors import TABLE, ApiError
from services.imaging.codec import ImageLimits
from services.serving.bearer import how_to_send, token_of
from services.serving.byte_budget import ByteBudget

_SHARED = (400, 401, 404, 405, 413, 500, 503)


@dataclass(frozen=True, slots=True)
class Context:
    """The worker's parts.

    Attributes:
        executor: state and figures.
        engine: takes edit requests.
        metrics: the Prometheus registry.
        limits: what a picture may cost.
        api_key: required of callers, if set.
        keepalive_s: seconds of silence after which a stream sends a comment.
        started_at: Unix time of the start.
        uploads: bytes of bodies in flight.
        sources: those that later edits may name.
    """

    executor: Executor
    engine: AsyncEngine
    metrics: Metrics
    limits: ImageLimits
    api_key: str | None
    keepalive_s: float
    started_at: float
    uploads: ByteBudget
    sources: KeptSources

    @property
    def pipeline(self) -> Pipeline:
        """For its name and capabilities only; edits go through ``engine``. Raises ``not_ready`` until it is warmed up."""
        return self.executor.pipeline


def context(request: Request) -> Context:
    """The application's context, as a dependency."""
    found = request.app.state.context
    assert isinstance(found, Context)
    return found


def caller(request: Request) -> Context:
    """The context, for authenticated callers.

    Raises:
        ApiError: ``invalid_api_key``.
    """
    found = context(request)
    if found.api_key is not None:
        token = token_of(request)
        if token is None:
            raise ApiError("invalid_api_key", how_to_send(request, "<the worker's key>"))
        if not hmac.compare_digest(token.encode(), found.api_key.encode()):
            raise ApiError("invalid_api_key", "this is not the worker's key: EDITTHINKER_EDITOR_API_KEY, where it was started")
    return found


def documented(*statuses: int, ok: dict[int | str, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: the given statuses and those that every route shares, each with OpenAI's error body."""
    text = {"type": ["string", "null"]}
    error = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": text, "code": text},
    }
    schema = {"type": "object", "required": ["error"], "properties": {"error": error}}
    meanings = {
        status: ", ".join(sorted(code for code, row in TABLE.items() if row.status == status)) for status in (*_SHARED, *statuses)
    }
    content = {"application/json": {"schema": schema}}
    return {
        **(ok or {}),
        **{status: {"description": meaning, "content": content} for status, meaning in sorted(meanings.items())},
    }

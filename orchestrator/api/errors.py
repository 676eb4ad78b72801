"""The one mapping from what went wrong to what HTTP says; everything else raises `ApiError` or a `PortError`."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from orchestrator.api.examples import ERROR
from orchestrator.api.view import error_schema
from orchestrator.loop.events import Finished
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports import PortError, StorageUnavailableError
from services.errors import TABLE, ApiError, ErrorCode
from services.serving.middleware import error_response

log = logging.getLogger(__name__)
_CALLERS_FAULT = 500
Responses = dict[int | str, dict[str, Any]]


def install(app: FastAPI) -> None:
    """Answer `PortError`s that reach the API (storage away, line too long)."""
    app.add_exception_handler(PortError, _on_port_error)
    app.add_exception_handler(CorruptLogError, _on_corrupt_log)


async def _on_port_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, PortError)
    return error_response(from_port(exc))


async def _on_corrupt_log(_: Request, exc: Exception) -> Response:
    log.error("a session cannot be read: %s", exc)
    message = "this session's events cannot be read by this version of the server; its log was not touched"
    return error_response(ApiError("internal_error", message))


def from_port(exc: PortError) -> ApiError:
    """A failure of something outside, as the caller sees it."""
    message = exc.message
    if isinstance(exc, StorageUnavailableError):
        # The text names hosts and paths of ours.
        message = "the session store cannot be reached; try again"
        return ApiError(exc.code, message, retry_after=1)
    return ApiError(exc.code if exc.code in TABLE else "internal_error", message, retry_after=exc.retry_after)


def of_finished(finished: Finished) -> ApiError:
    """Why a finished session has no image."""
    if finished.reason == "cancelled":
        return ApiError("session_cancelled", "the session was cancelled before it made an image")
    if finished.error is not None and TABLE.get(finished.error.code, _bug()).status < _CALLERS_FAULT:
        return ApiError(finished.error.code, finished.error.message)
    if finished.error is not None and finished.error.code == "deadline_exceeded":
        return ApiError("deadline_exceeded", finished.error.message, param="deadline_s")
    if finished.error is not None and finished.error.code in TABLE:
        return ApiError(finished.error.code, finished.error.message)
    return ApiError("editor_failed", "no image could be made")


def documented(*statuses: int, ok: Responses | None = None, example: object = None, keyed: bool = True) -> Responses:
    """OpenAPI responses: those given, an example of the JSON answer, and the error statuses every route shares."""
    schema = {"application/json": {"schema": error_schema(), "example": ERROR}}
    if example is not None:
        shown = (ok or {}).get(200, {})
        content = {**shown.get("content", {}), "application/json": {"example": example}}
        ok = {200: {"description": "As asked.", **shown, "content": content}}
    always = (400, *((401, 403) if keyed else ()), 404, 405, 413, 500, 503)
    errors: Responses = {s: {"description": _meaning(s), "content": schema} for s in sorted({*statuses, *always})}
    return {**(ok or {}), **errors}


def _meaning(status: int) -> str:
    codes = sorted(code for code, row in TABLE.items() if row.status == status)
    return ", ".join(codes)


def _bug() -> ErrorCode:
    return TABLE["internal_error"]

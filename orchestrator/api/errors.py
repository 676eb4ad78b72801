"""The mapping of errors to HTTP responses; other modules raise `ApiError` or `PortError`."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from orchestrator.api.examples import ERROR
from orchestrator.api.view import error_schema
from orchestrator.loop.events import Finished
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports.errors import PortError, StorageFullError, StorageUnavailableError
from services.errors import TABLE, ApiError, ErrorCode
from services.serving.middleware import error_response

log = logging.getLogger(__name__)
_SERVER_ERROR = 500
_FULL_RETRY_S = 30
Responses = dict[int | str, dict[str, Any]]


def install(app: FastAPI) -> None:
    """Install handlers for the `PortError`s and corrupt logs that reach the API."""
    app.add_exception_handler(PortError, _on_port_error)
    app.add_exception_handler(CorruptLogError, _on_corrupt_log)


async def _on_port_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, PortError)
    return error_response(from_port(exc))


async def _on_corrupt_log(_: Request, exc: Exception) -> Response:
    log.error("a session cannot be read: %s", exc)
    message = "this session's events cannot be read by this version of the server; its log was not touched"
    return error_response(ApiError("session_unreadable", message))


def from_port(exc: PortError) -> ApiError:
    """A `PortError` as an error response."""
    message = exc.message
    if isinstance(exc, StorageFullError):
        message = f"{exc.shown or 'the disk of the blob store is full'}: try again later, or ask the operator"
        return ApiError(exc.code, message, retry_after=_FULL_RETRY_S)
    if isinstance(exc, StorageUnavailableError):
        # The original message names internal hosts and paths.
        message = f"{exc.shown or 'the session store cannot be reached'}; try again"
        return ApiError(exc.code, message, retry_after=exc.retry_after or 1)
    return ApiError(exc.code if exc.code in TABLE else "internal_error", message, retry_after=exc.retry_after)


def of_finished(finished: Finished) -> ApiError:
    """The error of a finished session without an image."""
    if finished.reason == "cancelled":
        return ApiError("session_cancelled", "the session was cancelled before it made an image")
    if finished.error is not None and TABLE.get(finished.error.code, _bug()).status < _SERVER_ERROR:
        return ApiError(finished.error.code, finished.error.message)
    if finished.error is not None and finished.error.code == "deadline_exceeded":
        return ApiError("deadline_exceeded", finished.error.message, param="deadline_s")
    if finished.error is not None and finished.error.code in TABLE:
        return ApiError(finished.error.code, finished.error.message)
    return ApiError("editor_failed", "no image could be made")


def documented(*statuses: int, ok: Responses | None = None, example: object = None, keyed: bool = True) -> Responses:
    """OpenAPI responses: those given, an example of the JSON body, and the error statuses that all routes share."""
    schema = {"application/json": {"schema": error_schema(), "example": ERROR}}
    if example is not None:
        shown = (ok or {}).get(200, {})
        content = {**shown.get("content", {}), "application/json": {"example": example}}
        ok = {200: {"description": "Success.", **shown, "content": content}}
    always = (400, *((401, 403) if keyed else ()), 404, 405, 413, 500, 503)
    errors: Responses = {s: {"description": _meaning(s), "content": schema} for s in sorted({*statuses, *always})}
    return {**(ok or {}), **errors}


def _meaning(status: int) -> str:
    codes = sorted(code for code, row in TABLE.items() if row.status == status)
    return ", ".join(codes)


def _bug() -> ErrorCode:
    return TABLE["internal_error"]

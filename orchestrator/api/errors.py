"""The mapping of errors to HTTP responses; other modules raise `ApiError` or `PortError`."""

from __future__ import annotations

import logging
from typing import Any, Final

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


_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer", "minimum": 1}}
}
_RATE_LIMIT: Final = {
    "RateLimit": {
        "description": "What is left of each of the tenant's rates, and the seconds until there is more; absent without a rate.",
        "schema": {"type": "string"},
        "example": '"minute";r=59;t=42',
    },
    "RateLimit-Policy": {
        "description": "The tenant's rates: requests, and the seconds of the window.",
        "schema": {"type": "string"},
        "example": '"minute";q=60;w=60',
    },
}
_TRY_AGAIN: Final = frozenset({429, 503, 507})
_BEFORE_THE_RATE: Final = frozenset({401, 403, 404, 405})
"""Statuses of requests that are refused before they are counted."""


def documented(
    *statuses: int,
    ok: Responses | None = None,
    example: object = None,
    keyed: bool = True,
    polled: bool = False,
    rated: bool = False,
) -> Responses:
    """OpenAPI responses: those given, an example of the JSON body, and the error statuses that all routes share.

    Args:
        polled: whether its 200 and 202 say when to ask again.
        rated: whether requests count toward the tenant's rate.
    """
    schema = {"application/json": {"schema": error_schema(), "example": ERROR}}
    if example is not None:
        shown = (ok or {}).get(200, {})
        content = {**shown.get("content", {}), "application/json": {"example": example}}
        ok = {**(ok or {}), 200: {"description": "Success.", **shown, "content": content}}
    always = (400, *((401, 403) if keyed else ()), 404, 405, 413, 500, 503)
    errors: Responses = {s: {"description": _meaning(s), "content": schema} for s in sorted({*statuses, *always})}
    found: Responses = {**(ok or {}), **errors}
    if polled or rated:
        found = {200: {"description": "Success."}, **found}
    for status, response in found.items():
        waits = status in _TRY_AGAIN or (polled and status in {200, 202})
        rates = rated and status not in _BEFORE_THE_RATE
        if headers := {**(_RETRY_AFTER if waits else {}), **(_RATE_LIMIT if rates else {})}:
            found[status] = {**response, "headers": {**response.get("headers", {}), **headers}}
    return found


def _meaning(status: int) -> str:
    codes = sorted(code for code, row in TABLE.items() if row.status == status)
    return ", ".join(codes)


def _bug() -> ErrorCode:
    return TABLE["internal_error"]

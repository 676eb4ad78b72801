"""Middleware of every HTTP service: request ids, limits, origins, an access log record and a span per request, uniform errors.

`install` adds all of it to a FastAPI application, whose handlers raise `ApiError` instead of writing error bodies.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from opentelemetry.trace import Span
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import NOT_AN_OBJECT, OBJECT_EXPECTED, ApiError, error_body, reason_of, shown
from services.serving import logs, tracing, wrong_paths
from services.serving.json_body import MAX_JSON_VALUES, JsonBody, TooManyValuesError
from services.serving.origins import OriginPolicy, ResponseHeaders, grouped, response_headers

log = logging.getLogger(__name__)
access = logging.getLogger("access")
request_id: ContextVar[str] = ContextVar("request_id", default="-")

_CHUNK_TIMEOUT_S: Final = 30.0
_MIN_BODY_RATE: Final = 1024
"""Bytes of body per second, on average after the first `_CHUNK_TIMEOUT_S`, so that a trickle cannot hold a connection."""
_MAX_BODY_CREDIT_S: Final = 60.0
"""How far ahead of that rate a body can be: what came fast buys no hours of trickling."""
_MAX_BODY_S: Final = 3600.0
"""Of a whole body; the largest one takes as long at 45 KB/s."""
_REPLY_PIECE: Final = 256 * 1024
"""Bytes that are handed to the connection at a time, so that a reader that stops holds no more of a reply in its buffer."""
_SAFE_ID: Final = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")
_PROBES: Final = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
"""Requested every few seconds by orchestrators and Prometheus: no log record, no span."""
_CLIENT_CLOSED_REQUEST: Final = 499
"""The status, in logs, of a request whose client disconnected before the response; nginx's."""
_HTTP_CODES: Final = {400: "invalid_value", 404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}


class BodyTooLargeError(Exception):
    """The request body grew past the limit while it was read."""


class BodyTooSlowError(Exception):
    """The request body arrived too slowly, or not at all."""


class _Body:
    """A request's body as it is received, with limits on its size and on the time of each piece."""

    def __init__(self, receive: Receive, max_body: int) -> None:
        self._receive = receive
        self._remaining = max_body
        self._arrived = False
        self._credit_s = _CHUNK_TIMEOUT_S
        self._left_s = _MAX_BODY_S

    async def receive(self) -> Message:
        """The next message; after the body (a disconnect) without a time limit."""
        if self._arrived:
            return await self._receive()
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(_CHUNK_TIMEOUT_S, self._credit_s, self._left_s)):
                message = await self._receive()
        except TimeoutError as exc:
            raise BodyTooSlowError from exc
        size = len(message.get("body", b""))
        self._arrived = not message.get("more_body", False)
        # Only the time that the client took counts, not that of this server between two pieces.
        waited = time.monotonic() - began
        self._left_s -= waited
        self._credit_s = min(self._credit_s - waited + size / _MIN_BODY_RATE, _MAX_BODY_CREDIT_S)
        self._remaining -= size
        if self._remaining < 0:
            raise BodyTooLargeError
        return message


class ReplyAbortedError(Exception):
    """A reply could not be completed after its head was sent; the connection is closed, so that the client notices."""


class _HeadSentError(Exception):
    """The head of a streamed response was sent, and a HEAD request needs no more."""


class Envelope:
    """ASGI middleware: gives every request an id, returned as ``x-request-id``, bounds its body, and answers HEAD as GET.

    Args:
        app: the application inside.
        max_body: bytes of request body, counted on arrival regardless of ``Content-Length``.
        policy: the hosts and origins that requests may come with.
    """

    def __init__(self, app: ASGIApp, *, max_body: int, policy: OriginPolicy) -> None:
        self.app = app
        self.max_body = max_body
        self.policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        identity = given if _SAFE_ID.match(given) else f"req_{secrets.token_hex(12)}"
        request_id.set(identity)
        logs.bind(request_id=identity)
        if scope["path"] in _PROBES:
            await self._answer(scope, receive, send, identity)
            return
        began = time.perf_counter()
        status = 500
        with tracing.server_span(scope["method"], _trace_headers(headers), {"http.request.method": scope["method"]}) as span:
            try:
                status = await self._answer(scope, receive, send, identity)
            finally:
                _log_access(scope, status, time.perf_counter() - began)
                if tracing.enabled():
                    _describe(span, scope, status, identity)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, identity: str) -> int:
        """Run the request and return the status that was sent."""
        status = _CLIENT_CLOSED_REQUEST
        only_head = scope["method"] == "HEAD"

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
            elif only_head:
                await send({"type": "http.response.body", "body": b""})
                if message.get("more_body", False):
                    raise _HeadSentError
                return
            body = message.get("body", b"")
            if len(body) <= _REPLY_PIECE:
                await send(message)
                return
            view = memoryview(body)
            for at in range(0, len(view), _REPLY_PIECE):
                more = at + _REPLY_PIECE < len(view) or message.get("more_body", False)
                await send({**message, "body": view[at : at + _REPLY_PIECE], "more_body": more})

        length = dict(scope["headers"]).get(b"content-length", b"0")
        # A copy: the server consults its own scope for the method.
        inner = {**scope, "method": "GET"} if only_head else scope
        try:
            error = await self._run(inner, receive, stamped, length)
        except _HeadSentError:
            error = None
        finally:
            scope.update({name: inner[name] for name in ("route", "path_params") if name in inner})
        if error is not None and status == _CLIENT_CLOSED_REQUEST:
            await error_response(error)(scope, receive, stamped)
        return status

    async def _run(self, scope: Scope, receive: Receive, send: Send, length: bytes) -> ApiError | None:
        """Run the application; returns an error of the head or the body, which no handler inside can answer."""
        headers = grouped(scope["headers"])
        try:
            self.policy.check(scope["path"], headers)
            preflight = self.policy.preflight(scope["method"], headers)
        except ApiError as exc:
            return exc
        if preflight:
            await preflight(scope, receive, send)
            return None
        try:
            if length.isdigit() and int(length[:20]) > self.max_body:
                raise BodyTooLargeError
            await self.app(scope, _Body(receive, self.max_body).receive, send)
        except ClientDisconnect:
            log.info("the client left while it was sending (%s %s)", scope["method"], scope["path"])
        except ReplyAbortedError as exc:
            log.warning("a reply was cut off (%s %s): %s", scope["method"], scope["path"], exc)
        except BodyTooSlowError:
            return ApiError("request_timeout", "the request body came too slowly, or not at all; send it again")
        except BodyTooLargeError:
            return ApiError("request_too_large", f"the request body is larger than {self.max_body:,} bytes; send a smaller image")
        return None


def _trace_headers(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    names = (b"traceparent", b"tracestate") if tracing.enabled() else ()
    return {name.decode(): headers[name].decode("latin-1") for name in names if name in headers}


def _route(scope: Scope) -> str:
    """The route's path template: without ids, so that equal requests are counted together."""
    return str(getattr(scope.get("route"), "path", "")) or "(unknown)"


def _describe(span: Span, scope: Scope, status: int, identity: str) -> None:
    route = _route(scope)
    # Pages of shared sessions have the token in their path.
    path = logs.without_secrets(scope["path"])
    known: dict[str, tracing.Value] = {"http.route": route, "http.response.status_code": status, "url.path": path}
    span.set_attributes({**known, "http.request.header.x-request-id": [identity]})
    span.update_name(f"{scope['method']} {route}")
    if status >= 500:  # noqa: PLR2004
        tracing.fail(span, str(status))


def _log_access(scope: Scope, status: int, seconds: float) -> None:
    if not access.isEnabledFor(logging.INFO):
        return
    session_id = scope.get("path_params", {}).get("session_id")
    about = {"session_id": session_id} if session_id else {}
    facts = {"method": scope["method"], "path": _route(scope), "status": status, "duration_ms": round(seconds * 1000, 1)}
    access.info("request", extra={**facts, **about})


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """An `ApiError` as an HTTP response, with ``Retry-After`` and ``x-should-retry`` where they apply."""
    out = dict(headers or {})
    if error.retry_after is not None:
        out["retry-after"] = str(max(1, round(error.retry_after)))
    if error.status == 401:  # noqa: PLR2004
        out.setdefault("www-authenticate", "Bearer")
    if not error.row.retryable:
        out.setdefault("x-should-retry", "false")
    return Response(orjson.dumps(error.body()), error.status, out, media_type="application/json")


def install(app: FastAPI, *, max_body: int, policy: OriginPolicy, other_paths: Mapping[str, str] | None = None) -> None:
    """Add request ids, the body limit, the check of origins and uniform errors to an application.

    Args:
        other_paths: paths of other APIs that clients ask for, without /v1, and what to do in place of each.
    """
    app.state.other_paths = other_paths or {}
    # A redirect would use the client's Host header, and http.
    app.router.redirect_slashes = False
    app.add_middleware(Envelope, max_body=max_body, policy=policy)
    app.add_middleware(ResponseHeaders, policy=policy)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_bug)


async def _on_api_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)
    return error_response(exc)


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    code = _HTTP_CODES.get(exc.status_code, "invalid_value" if exc.status_code < 500 else "internal_error")  # noqa: PLR2004
    detail = str(exc.detail)
    if code == "not_found":
        detail = wrong_paths.not_found(request.scope["path"], request.app.openapi()["paths"], request.app.state.other_paths)
    elif code == "method_not_allowed":
        detail = wrong_paths.method_not_allowed(request.method, request.scope["path"], request.app.openapi()["paths"])
    if code == "invalid_value" and any(word in detail.lower() for word in ("form", "boundary", "multipart")):
        code = "invalid_multipart"
    headers = dict(exc.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    return error_response(ApiError(code, detail), headers)


async def _on_validation(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    if first["type"] == "json_invalid":
        return error_response(ApiError("invalid_json", "the body is not valid JSON"))
    places = {"body", "query", "path", "header"}
    param = ".".join(shown(str(part)) for part in first["loc"] if str(part) not in places) or None
    code = {"missing": "missing_parameter", "extra_forbidden": "unknown_parameter"}.get(first["type"], "invalid_value")
    text = OBJECT_EXPECTED if first["type"] in NOT_AN_OBJECT else reason_of(first)
    text = {"missing_parameter": "is missing", "unknown_parameter": "is not a parameter of this request"}.get(code, text)
    return error_response(ApiError(code, f"{param or 'the request body'}: {text}", param=param))


async def _on_bug(request: Request, exc: Exception) -> Response:
    log.error("unhandled error in %s %s", request.method, request.url.path, exc_info=exc)
    body = error_body("internal_error", f"an internal error occurred; quote request id {request_id.get()} when you report it")
    # Starlette answers this one outside of all middleware, so their headers are set here.
    headers = {**response_headers(request.scope), "x-request-id": request_id.get()}
    return Response(orjson.dumps(body), 500, headers, media_type="application/json")


async def read_json(request: Request, *, max_bytes: int | None = None) -> Any:
    """The request's JSON body.

    Args:
        max_bytes: a lower limit than the service's.
    """
    body = JsonBody()
    # Not `request.body()`, which the request would hold until it has been answered.
    async for piece in request.stream():
        if max_bytes is not None and body.size + len(piece) > max_bytes:
            raise ApiError("request_too_large", f"the request body is larger than {max_bytes:,} bytes")
        try:
            body.add(piece)
        except TooManyValuesError as exc:
            message = f"the body has more than {MAX_JSON_VALUES:,} values; it must be a flat JSON object"
            raise ApiError("invalid_json", message) from exc
    try:
        return body.value()
    except orjson.JSONDecodeError as exc:
        raise ApiError("invalid_json", f"the body is not valid JSON: {exc}") from exc

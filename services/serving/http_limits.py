"""Uvicorn's HTTP protocol with limits on header size and header read time.

Uvicorn leaves both to a reverse proxy: without one, an endless header fills the memory, and a client that never completes its
head holds a connection indefinitely. Trailers and chunk extensions count towards the same limit. The body is bounded by
`services.serving.middleware`, and the rest of a body whose request has been answered by time.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.errors import ApiError

MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_TIMEOUT_S: Final = 15.0
"""From the connection, or the first byte of a further request, to the end of its head."""
BODY_TIMEOUT_S: Final = 30.0
"""For the rest of a body whose request has been answered: some clients read no response before they have sent everything."""


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with limits; errors of the request itself have the same JSON form as all others."""

    _unread = 0
    """Bytes received since the last piece of body or end of a head: of a head, trailers, or chunk framing."""
    _receiving: Literal["nothing", "head", "body"] = "nothing"
    """The part of a request that is being received."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._set_timer(HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._set_timer(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count bytes; the callbacks below are called within."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(ApiError("request_too_large", f"the head of the request is larger than {MAX_HEAD_BYTES:,} bytes"))

    def on_message_begin(self) -> None:
        """Start the timer for the head of a request."""
        super().on_message_begin()
        self._receiving = "head"
        self._set_timer(HEAD_TIMEOUT_S)

    def on_headers_complete(self) -> None:
        """Stop the timer: the head is complete."""
        self._unread = 0
        self._receiving = "body"
        self._set_timer(None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Reset the count: the body is bounded elsewhere."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the timer: the request is complete."""
        self._unread = 0
        self._receiving = "nothing"
        self._set_timer(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the timer for the rest of an unfinished body."""
        super().on_response_complete()
        if self._receiving == "body":
            self._set_timer(BODY_TIMEOUT_S)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP."""
        self._refuse(ApiError("invalid_value", msg))

    def _unsupported_upgrade_warning(self) -> None:
        """No log record: WebSockets are not served, and every port scanner tries them."""

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        if self._responding():
            # A pipelined request may be slow while the one before it is being answered.
            self._set_timer(HEAD_TIMEOUT_S)
        elif self._receiving == "head":
            self._refuse(ApiError("request_timeout", f"the head of the request was not complete after {HEAD_TIMEOUT_S:g} s"))
        else:
            self.transport.close()

    def _responding(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _refuse(self, error: ApiError) -> None:
        """Send the error and close, or only close if the error could be taken for (part of) another request's response."""
        of_this_request = self._receiving == "body" and not self.pipeline and bool(self.cycle) and not self.cycle.response_started
        if (of_this_request or not self._responding()) and not self.transport.is_closing():
            body = orjson.dumps(error.body())
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()

"""HTTP for strangers: uvicorn's protocol, with an end to how long and how large the head of a request may be.

uvicorn leaves both to a proxy in front: without one, a header without end fills the memory, and a caller who never ends
its head holds a connection for ever. Trailers and the extensions of chunks count as heads do. The body is bounded by
`services.serving.middleware`; what still comes of it when its request is answered, by time.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.errors import ApiError

MOST_BYTES: Final = 64 * 1024
HEAD_S: Final = 15.0
"""From the connection, or the first byte of a further request, to the end of the head."""
REST_S: Final = 30.0
"""For the rest of a body whose request is answered: a caller that reads no answer before it has sent all may end so."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol; errors of the request itself have the shape of all others."""

    _unread = 0
    """Bytes that came since a body, or the last end of a head: of a head, of trailers, of chunks' framing."""
    _arriving: Literal["nothing", "head", "body"] = "nothing"
    """What of a request is under way."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller came, and owes a head."""
        super().connection_made(transport)
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came; the callbacks below are called within."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MOST_BYTES and not self.transport.is_closing():
            self._refuse(ApiError("request_too_large", f"the head of the request is larger than {MOST_BYTES:,} bytes"))

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._arriving = "head"
        self._wait(HEAD_S)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._unread = 0
        self._arriving = "body"
        self._wait(None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._unread = 0
        self._arriving = "nothing"
        self._wait(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer went out."""
        super().on_response_complete()
        if self._arriving == "body":
            self._wait(REST_S)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(ApiError("invalid_value", msg))

    def _unsupported_upgrade_warning(self) -> None:
        """Nobody speaks WebSockets here, and a line of the log for every caller who tries is no use."""

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._timer = None
        if self._answering():
            # What is read ahead behind a request that is being answered has no hurry.
            self._wait(HEAD_S)
        elif self._arriving == "head":
            self._refuse(ApiError("request_timeout", f"the head of the request was not whole after {HEAD_S:g} s"))
        else:
            self.transport.close()

    def _answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _refuse(self, error: ApiError) -> None:
        """Say why, unless that would pass for the answer to another request, or stand within one, and hang up."""
        its_own = self._arriving == "body" and not self.pipeline and bool(self.cycle) and not self.cycle.response_started
        if (its_own or not self._answering()) and not self.transport.is_closing():
            body = orjson.dumps(error.body())
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()

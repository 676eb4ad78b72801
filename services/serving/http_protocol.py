"""Uvicorn's HTTP/1.1 protocol on h11, with limits on the time and the bytes that one connection may take.

Theory of operation. h11 keeps a state for each side of a connection; what is awaited from the client follows from the two:

    client       server           awaited                    limit
    IDLE         IDLE             the head of a request      HEAD_S, 64 KiB (KEEP_ALIVE_S before its first byte)
    SEND_BODY    any but DONE     the body                   `services.serving.middleware`: a rate and a size
    SEND_BODY    DONE             the rest of the body       REST_S
    DONE         SEND_…           nothing: it reads          WRITE_S for each `_WRITE_BYTES`, while it reads too slowly

A request may offer another protocol (``Upgrade: h2c``, as curl --http2 and the JDK's HttpClient do with every request, or
``websocket``, as nginx's usual configuration does). RFC 9110, section 7.8: a server may ignore the offer and serve the
request. h11 does: the body is read as the body, whatever was offered. llhttp (uvicorn's other protocol) stops parsing
behind the head, so a body was lost, or read as the next request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
import orjson
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from services.errors import ApiError

HEAD_BYTES: Final = 64 * 1024
"""Request line and headers, and each of a chunk's header and the trailers. nginx and node allow 8 to 32 KiB by default."""
HEAD_S: Final = 15.0
"""From the connection, or the first byte of a later request, to the end of the head."""
KEEP_ALIVE_S: Final = 75
"""Idle time between two requests; nginx's default, and longer than what balancers keep a connection for (60 s at AWS)."""
REST_S: Final = 30.0
"""For the rest of a body whose request is answered: some clients read no response before they have sent everything."""
WRITE_S: Final = 30.0
_WRITE_BYTES: Final = 64 * 1024
"""A client that takes fewer bytes than this in WRITE_S, while more are buffered for it, has stopped reading."""


def server_config(app: Any, *, host: str, port: int, **more: Any) -> uvicorn.Config:
    """The configuration that every service of this project runs uvicorn with."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=LimitedProtocol,
        ws="none",
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE_S,
        # Records go through services.serving.logs; the access record comes from services.serving.middleware.
        log_config=None,
        access_log=False,
        **more,
    )


class LimitedProtocol(H11Protocol):
    """One connection; errors in the request's own syntax are answered in the shape of all other errors."""

    _timer: asyncio.TimerHandle | None = None
    _writes: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first head."""
        super().connection_made(transport)
        self._expect(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop every timer."""
        self._expect(None)
        self._stop_watching_writes()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and start or stop the time for what is awaited next."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Read on: the rest of this body, or the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP, or a head that is too large."""
        if len(self.conn.trailing_data[0]) > HEAD_BYTES:
            self._refuse(ApiError("request_too_large", f"the head of the request is larger than {HEAD_BYTES:,} bytes"))
        else:
            self._refuse(ApiError("invalid_value", msg))

    def _unsupported_upgrade_warning(self) -> None:
        """Do nothing: an offer that is ignored is no event."""

    # --- time to read ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self.transport.is_closing():
            self._expect(None)
        elif self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE:
            self._expect(REST_S, again=False)
        elif self.conn.their_state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0]):
            self._expect(HEAD_S, again=False)
        else:
            self._expect(None)

    def _expect(self, seconds: float | None, *, again: bool = True) -> None:
        """Start the timer; where `again` is false and it runs already, it goes on."""
        if self._timer is not None and (again or seconds is None):
            self._timer.cancel()
            self._timer = None
        if seconds is not None and self._timer is None:
            self._timer = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(ApiError("request_timeout", f"the head of the request was not complete after {HEAD_S:g} s"))
        else:
            self.transport.close()

    # --- time to write -----------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Watch a client that reads slower than the response is written."""
        super().pause_writing()
        self._watch_writes(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop watching: it has caught up."""
        self._stop_watching_writes()
        super().resume_writing()

    def _watch_writes(self, left: int) -> None:
        self._writes = self.loop.call_later(WRITE_S, self._check_writes, left)

    def _check_writes(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if before - left < _WRITE_BYTES:
            self.transport.abort()
        else:
            self._watch_writes(left)

    def _stop_watching_writes(self) -> None:
        if self._writes is not None:
            self._writes.cancel()
            self._writes = None

    # --- refusal -----------------------------------------------------------------------------------------------------

    def _refuse(self, error: ApiError) -> None:
        """Say why, unless a response is under way that this would become a part of; then close."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE} and not self.transport.is_closing():
            body = orjson.dumps(error.body())
            line = b"HTTP/1.1 %d %s\r\n" % (error.status, STATUS_PHRASES[error.status])
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(line + head + body)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

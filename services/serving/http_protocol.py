"""Uvicorn's HTTP/1.1 protocol on h11, with limits on the time and the bytes of one connection.

Theory of operation. h11 keeps a state for each side of a connection; what is awaited from the client follows from the two:

    client       server           awaited                    limit
    IDLE         IDLE             the head of a request      HEAD_S, HEAD_BYTES (KEEP_ALIVE_S between two requests)
    SEND_BODY    any but DONE     the body                   `services.serving.middleware`: a rate, a time and a size
    SEND_BODY    DONE             the rest of the body       REST_S
    any          SEND_BODY        that the client reads      WRITE_S for each `_WRITE_BYTES`

In every state the pieces of a chunked body are bounded in number: a piece of one byte costs h11 as much time as one of
64 KiB, and a server that reads only such pieces serves nobody else.

A request may offer another protocol (``Upgrade: h2c``, as curl --http2 and the JDK's HttpClient do with every request, or
``websocket``, as nginx's usual configuration does). RFC 9110, section 7.8: a server may ignore the offer and serve the
request. h11 does: the body is read as the body, no matter what was offered. llhttp (uvicorn's other protocol) stops parsing
behind the head, so a body was lost, or read as the next request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal

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


MAX_CHUNKS: Final = 4096
"""Pieces of a chunked body that are accepted at any size, and one more for each `_CHUNK_BYTES` of the body."""
_CHUNK_BYTES: Final = 512


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

    conn: _Connection
    _awaited: Literal["nothing", "first byte", "head", "rest"] = "nothing"
    _timer: asyncio.TimerHandle | None = None
    _writes: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first head."""
        super().connection_made(transport)
        self.conn = _Connection(HEAD_BYTES)
        self._await("head", HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop every timer."""
        self._await("nothing")
        self._stop_watching_writes()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and start or stop the time for what is awaited next."""
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            # Empty lines before a request line: RFC 9112, section 2.2.
            data = data.lstrip(b"\r\n")
            if not data:
                return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Read on: the rest of this body, or the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP, or a head that is too large."""
        if self.conn.too_many_chunks:
            message = "the body comes in too many small chunks; send it in larger ones, or with Content-Length"
            self._refuse(ApiError("request_too_large", message))
        elif len(self.conn.trailing_data[0]) > HEAD_BYTES:
            self._refuse(ApiError("request_too_large", f"the head of the request is larger than {HEAD_BYTES:,} bytes"))
        else:
            self._refuse(ApiError("invalid_value", msg))

    def _unsupported_upgrade_warning(self) -> None:
        """Do nothing: an offer that is ignored is no event."""

    @property
    def _served(self) -> bool:
        """Whether the head of a request has been received on this connection."""
        return bool(self.cycle)

    # --- time to read ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self.transport.is_closing():
            self._await("nothing")
        elif self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE:
            self._await("rest", REST_S)
        elif self.conn.their_state is h11.IDLE and (not self._served or self.conn.trailing_data[0]):
            self._await("head", HEAD_S)
        elif self.conn.their_state is h11.IDLE:
            self._await("first byte", self.timeout_keep_alive)
        else:
            self._await("nothing")

    def _await(self, what: Literal["nothing", "first byte", "head", "rest"], seconds: float = 0.0) -> None:
        """Start the time for something else; while the same is awaited, its time goes on."""
        if what == self._awaited:
            return
        self._awaited = what
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if what == "nothing" else self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        if self._awaited == "head" and self.conn.trailing_data[0]:
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
        self._stop_watching_writes()
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
        if self._served and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


class _Connection(h11.Connection):
    """A server's connection that counts the chunks of a body, and refuses a body whose length has two readings."""

    def __init__(self, head_bytes: int) -> None:
        super().__init__(h11.SERVER, head_bytes)
        self._chunks = 0
        self._bytes = 0

    @property
    def too_many_chunks(self) -> bool:
        """Whether the chunks of the body are more than its size allows."""
        return self._chunks > MAX_CHUNKS + self._bytes // _CHUNK_BYTES

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """The next event.

        Raises:
            h11.RemoteProtocolError: for these two, as for bytes that are not HTTP.
        """
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            if self.too_many_chunks:
                raise h11.RemoteProtocolError("too many chunks")
        elif isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
            names = {name for name, _ in event.headers}
            if b"transfer-encoding" in names and (b"content-length" in names or event.http_version < b"1.1"):
                # RFC 9112, section 6.1: a proxy may have read the other one. h11 reads the chunks.
                raise h11.RemoteProtocolError("ambiguous length of the body")
        return event

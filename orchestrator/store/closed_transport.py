"""Connections to Redis on which a closed transport is a `ConnectionError`, with any exception of the event loop.

asyncio's own transports ignore a write after the peer's RST, and the next `drain` raises OSError, which redis-py translates.
uvloop's raise RuntimeError ("the handler is closed"), and a connection that another task has closed has no writer at all
(AttributeError): redis-py passes both on (redis-py issue 4287), and they look like bugs. So the transport is asked, not the
exception.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    _Base = AbstractConnection
else:
    _Base = object


class ClosedTransport(_Base):
    """A mixin for the connection classes of redis-py."""

    _was_closed = False

    async def _connect(self) -> None:
        self._was_closed = False
        await super()._connect()  # type: ignore[safe-super, no-untyped-call]  # of the class that this is mixed into

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Close the connection; redis-py does so after every exception, before it raises it."""
        self._was_closed = self._writer is None or self._writer.transport.is_closing()
        await super().disconnect(*args, **options)

    async def can_read(self, *args: Any, **options: Any) -> bool:
        """Whether there is something to read; the pool asks before it hands the connection out, and replaces one that raises.

        A reset leaves no end of file behind, which is all that redis-py looks for: each connection that was reset while idle
        would fail a call.
        """
        if self._writer is None or self._writer.transport.is_closing():
            raise RedisConnectionError("the connection was closed while it was idle")
        return bool(await super().can_read(*args, **options))

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send a command."""
        with self._explained():
            await super().send_packed_command(*args, **options)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Receive a response."""
        with self._explained():
            return await super().read_response(*args, **options)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RedisError:
            raise
        # What a closed transport raises differs by event loop and by TLS; anything else goes on as it is.
        except Exception as exc:
            if not self._was_closed:
                raise
            raise RedisConnectionError(f"the connection is closed: {exc}") from exc


def with_closed_transport(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The connection class `kind` with the mixin."""
    return type(kind.__name__, (ClosedTransport, kind), {})

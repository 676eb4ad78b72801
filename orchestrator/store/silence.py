"""Connections to Redis that died without a word: a firewall forgot them, or the machine at their other end is gone.

Nothing raises, so each of them would cost the next caller the whole time of a call. Redis answers its connections in the order in
which it reads from them. So when an answer is late, PING is sent on a new connection: once that is answered, the late one is
dead. It is closed, and those that were idle since before it was used are made again when they are used. Where PING has no
answer either, Redis itself is silent or away, and nothing is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from orchestrator.store.closed_transport import ClosedTransport, with_closed_transport

log = logging.getLogger(__name__)
LATE_S: Final = 1.0
"""Redis answers within milliseconds. TCP repeats a lost segment after 0.2, 0.6 and 1.4 s: the second repeat may still be late."""
_PROBE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What the connections need to know of the call that uses them.

    Attributes:
        repeatable: whether it may be done twice, so that it is repeated on a new connection when the first one breaks.
        blocks_s: seconds that Redis may hold the answer back, as for WAIT.
    """

    repeatable: bool = False
    blocks_s: float = 0.0


_ORDINARY: Final = CallOptions()
CALL: Final[ContextVar[CallOptions]] = ContextVar("redis_call", default=_ORDINARY)


@dataclass(slots=True)
class _Wait:
    """One wait for an answer."""

    asked_at: float
    late_s: float
    timer: asyncio.TimerHandle


class Silences:
    """What the connections of one client know of each other.

    Args:
        late_s: seconds after which an answer is late.
    """

    def __init__(self, late_s: float = LATE_S) -> None:
        self._late_s = late_s
        self._waits: dict[WatchedConnection, _Wait] = {}
        self._dead_since: dict[str, float] = {}
        """By server: connections that were not heard since then (monotonic seconds) are made again."""
        self._probes: dict[str, asyncio.Task[None]] = {}

    def is_suspect(self, connection: WatchedConnection) -> bool:
        """Whether an idle connection is to be made again before it is used."""
        return connection.heard_at < self._dead_since.get(connection.server, -math.inf)

    @contextlib.contextmanager
    def watching(self, connection: WatchedConnection) -> Iterator[None]:
        """Watch a connection that waits for an answer."""
        late_s = self._late_s + CALL.get().blocks_s
        timer = asyncio.get_running_loop().call_later(late_s, self._look, connection)
        self._waits[connection] = _Wait(time.monotonic(), late_s, timer)
        try:
            yield
        finally:
            self._waits.pop(connection).timer.cancel()

    def _look(self, connection: WatchedConnection) -> None:
        wait = self._waits[connection]
        # A large answer may take longer: what counts is that bytes arrive.
        silent_s = time.monotonic() - max(wait.asked_at, connection.heard_at)
        late = silent_s >= wait.late_s
        if late and connection.server not in self._probes:
            probe = asyncio.create_task(self._probe(connection), name="redis probe")
            self._probes[connection.server] = probe
            probe.add_done_callback(lambda _: self._probes.pop(connection.server))
        again_s = wait.late_s if late else wait.late_s - silent_s
        wait.timer = asyncio.get_running_loop().call_later(max(again_s, 0.001), self._look, connection)

    async def _probe(self, late: WatchedConnection) -> None:
        """Close what is dead, if a new connection to the same server is answered."""
        asked_at = time.monotonic()
        try:
            await late.ask_on_another()
        except (RedisError, OSError, TimeoutError):
            return
        dead = {
            connection: max(wait.asked_at, connection.heard_at)
            for connection, wait in self._waits.items()
            if connection.server == late.server and asked_at - max(wait.asked_at, connection.heard_at) >= wait.late_s
        }
        if dead:
            log.warning("%d connections to Redis were silent, while a new one is answered; they are made again", len(dead))
            self._dead_since[late.server] = max(dead.values())
        for connection in dead:
            connection.give_up()


class WatchedConnection(ClosedTransport):
    """A mixin for the connection classes of redis-py: `ClosedTransport`, watched by `Silences`.

    Attributes:
        heard_at: when bytes arrived, or it was made (monotonic seconds).
    """

    silences: ClassVar[Silences]
    unwatched: ClassVar[type[AbstractConnection]]

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._gave_up = False
        self.heard_at = -math.inf
        super().__init__(**options)

    @property
    def server(self) -> str:
        """The server that it is connected to."""
        return str(self._host_error())

    async def _connect(self) -> None:
        self._gave_up = False
        self.heard_at = time.monotonic()
        await super()._connect()
        reader: Any = self._reader
        feed = reader.feed_data

        def feed_data(data: bytes) -> None:
            self.heard_at = time.monotonic()
            feed(data)

        reader.feed_data = feed_data

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send a command, on a new connection if this one was idle while others died."""
        if self._writer is not None and self.silences.is_suspect(self):
            self._abort()
            await self.disconnect(nowait=True)
        await super().send_packed_command(*args, **options)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Receive a response."""
        with self.silences.watching(self):
            try:
                return await super().read_response(*args, **options)
            except RedisConnectionError as exc:
                if not self._gave_up:
                    raise
                raise RedisConnectionError("the connection was silent, while a new one is answered") from exc

    def give_up(self) -> None:
        """End the wait for an answer with a `ConnectionError`."""
        self._gave_up = True
        self._abort()

    async def ask_on_another(self) -> None:
        """PING the same server on a connection of its own."""
        other: Any = self.unwatched(**self._options)
        try:
            async with asyncio.timeout(_PROBE_S):
                await other.connect()
                await other.send_command("PING")
                await other.read_response()
        finally:
            await other.disconnect(nowait=True)

    def _abort(self) -> None:
        # `close` would wait until what was written has been sent, and TLS for the other side to agree.
        if self._writer is not None:
            self._writer.transport.abort()


def watched(kind: type[AbstractConnection], silences: Silences) -> type[AbstractConnection]:
    """The connection class `kind`, watched."""
    return type(kind.__name__, (WatchedConnection, kind), {"silences": silences, "unwatched": with_closed_transport(kind)})

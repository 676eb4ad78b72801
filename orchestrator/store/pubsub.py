"""Live events: one subscription connection for the whole process, fanned out to whoever listens.

Publishing is fire and forget, so a listener may miss messages; it is told when that may have happened (an empty
message after a reconnect, and now and then), and reads the log. Nothing relies on a message to arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from services.serving.background import run_forever

log = logging.getLogger(__name__)
_DEPTH = 64
_AT_ONCE = 16
_PAUSE_S = 0.5
QUIET = -1
"""In place of a number: nothing was said for a while, and nothing is known to be missing."""
_LOOK_AFTER = 30
"""Quiet spells after which a listener is told to look at the log all the same: a connection may be dead without a sign."""


class PubSubFanout:
    """Fans channels of Redis out to any number of local listeners.

    Args:
        connect: makes a client without a socket timeout (a quiet channel is not an error); closed when its connection breaks.
        heartbeat_s: seconds of silence after which a listener is told that it is quiet.
    """

    def __init__(self, connect: Callable[[], Redis], *, heartbeat_s: float = 10.0) -> None:
        self._connect = connect
        self._heartbeat_s = heartbeat_s
        self._queues: defaultdict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)
        self._pubsub: PubSub | None = None
        self._subscribed: set[str] = set()
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Lock()

    async def start(self) -> None:
        """Connect when Redis is there, and keep connected."""
        self._reader = asyncio.create_task(run_forever("the feed", self._read, pause_s=_PAUSE_S), name="feed")

    async def stop(self) -> None:
        """Disconnect."""
        if self._reader:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    def alive(self) -> bool:
        """Whether the reader runs."""
        return self._reader is not None and not self._reader.done()

    async def listen(self, channel: str) -> AsyncGenerator[tuple[int, bytes]]:
        """Messages of a channel as (number, payload); (0, b"") means: look at the log, something may be missing.

        The first item is (0, b""), and so is the one that follows once the subscription stands. (QUIET, b"") comes after each
        `heartbeat_s` of silence.
        """
        queue: asyncio.Queue[bytes] = asyncio.Queue(_DEPTH)
        self._queues[channel].add(queue)
        try:
            await self._subscribe(channel)
            yield 0, b""
            # Not all at once: ten thousand listeners began together, when a replica started.
            spells = itertools.count(random.randrange(_LOOK_AFTER))
            while True:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        message = await queue.get()
                except TimeoutError:
                    yield (0, b"") if next(spells) % _LOOK_AFTER == _LOOK_AFTER - 1 else (QUIET, b"")
                    continue
                number, _, payload = message.partition(b" ")
                yield (int(number), payload) if number.isdigit() and payload else (0, message)
        finally:
            self._queues[channel].discard(queue)
            if not self._queues[channel]:
                del self._queues[channel]
                await self._unsubscribe(channel)

    async def _subscribe(self, channel: str) -> None:
        async with self._changed:
            if self._pubsub is not None and channel not in self._subscribed:
                with contextlib.suppress(RedisError):  # the reader reconnects and subscribes to everything again
                    await self._pubsub.subscribe(channel)
                    self._subscribed.add(channel)

    async def _unsubscribe(self, channel: str) -> None:
        async with self._changed:
            if self._pubsub is not None and channel in self._subscribed and channel not in self._queues:
                self._subscribed.discard(channel)
                with contextlib.suppress(RedisError):
                    await self._pubsub.unsubscribe(channel)

    async def _read(self) -> None:
        try:
            await self._connected()
        except (RedisError, OSError) as exc:
            log.warning("the feed lost Redis and connects again: %s", exc)
            await asyncio.sleep(_PAUSE_S)
        finally:
            self._pubsub = None

    async def _connected(self) -> None:
        async with self._connect() as redis, redis.pubsub() as pubsub:
            async with self._changed:
                # A channel of its own keeps the connection subscribed when nobody listens to anything.
                wanted = set(self._queues)
                await pubsub.subscribe("et:feed", *wanted)
                self._pubsub, self._subscribed = pubsub, wanted
            told = 0
            async for message in pubsub.listen():
                # A confirmed subscription is news too: what was published before it was not heard.
                heard = message["type"] == "message"
                self._deliver(message["channel"].decode(), message["data"] if heard else b"")
                told += 1
                if told % _AT_ONCE == 0:
                    # Many come in one read, without a pause in which a listener could take them.
                    await asyncio.sleep(0)

    def _deliver(self, channel: str, message: bytes) -> None:
        for queue in self._queues.get(channel, ()):
            if queue.full():
                # A slow listener holds bounded memory: it loses messages and is told to read the log instead.
                queue.get_nowait()
                queue.put_nowait(b"")
            else:
                queue.put_nowait(message)

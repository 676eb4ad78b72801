"""Redis pub/sub over one connection for the process, fanned out to local listeners.

Delivery is at most once. A listener that may have missed messages gets an empty one (after a reconnect, and after a minute of
silence) and reads the log. Nothing depends on a message to arrive.

A connection whose other end vanished raises no error: it is silent, like one without messages. So the server is asked with PING
whenever it has been silent for an interval, and the connection is made again after a few intervals without any answer.
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
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from services.serving.background import run_forever

log = logging.getLogger(__name__)
_DEPTH = 64
_BATCH = 16
_PAUSE_S = 0.5
QUIET = -1
"""In place of a number: the channel was silent for a while, and no message is known to be missing."""
_HEARTBEATS_PER_CHECK = 6
"""Heartbeats after which a listener is made to read the log: a message may have been lost between two servers of a cluster."""
_SILENT_INTERVALS = 4
"""Intervals without an answer after which the connection is given up. They are counted, not timed: while this process is paused,
none passes, and Redis is not blamed."""
_SETUP_S = 5.0


class PubSubFanout:
    """Channels of Redis, fanned out to any number of local listeners.

    Args:
        connect: makes a client without a socket timeout, since a silent channel is not an error; closed when it fails.
        heartbeat_s: seconds of silence after which a listener gets `QUIET`.
        ping_s: seconds between two looks at whether the connection is silent.
    """

    def __init__(self, connect: Callable[[], Redis], *, heartbeat_s: float = 10.0, ping_s: float = 0.4) -> None:
        self._connect = connect
        self._heartbeat_s = heartbeat_s
        self._ping_s = ping_s
        self._received = 0
        self._queues: defaultdict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)
        self._pubsub: PubSub | None = None
        self._subscribed: set[str] = set()
        self._reader: asyncio.Task[None] | None = None
        self._subscribing = asyncio.Lock()
        self._was_lost = False

    async def start(self) -> None:
        """Connect in the background, and reconnect whenever the connection fails."""
        self._reader = asyncio.create_task(run_forever("the pub/sub reader", self._read, pause_s=_PAUSE_S), name="pubsub")

    async def stop(self) -> None:
        """Disconnect."""
        if self._reader:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    def alive(self) -> bool:
        """Whether the reader runs."""
        return self._reader is not None and not self._reader.done()

    @property
    def connected(self) -> bool:
        """Whether there is a connection that has answered of late."""
        return self._pubsub is not None

    async def listen(self, channel: str) -> AsyncGenerator[tuple[int, bytes]]:
        """Messages of a channel as (number, payload); (0, b"") means that some may be missing: read the log.

        The first item is (0, b""), and there is another when the subscription is confirmed. (QUIET, b"") comes after each
        `heartbeat_s` of silence.
        """
        queue: asyncio.Queue[bytes] = asyncio.Queue(_DEPTH)
        self._queues[channel].add(queue)
        try:
            await self._subscribe(channel)
            yield 0, b""
            # With a random start, so that ten thousand listeners that began together do not read their logs together.
            heartbeats = itertools.count(random.randrange(_HEARTBEATS_PER_CHECK))
            while True:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        message = await queue.get()
                except TimeoutError:
                    yield (0, b"") if next(heartbeats) % _HEARTBEATS_PER_CHECK == _HEARTBEATS_PER_CHECK - 1 else (QUIET, b"")
                    continue
                number, _, payload = message.partition(b" ")
                yield (int(number), payload) if number.isdigit() and payload else (0, message)
        finally:
            self._queues[channel].discard(queue)
            if not self._queues[channel]:
                del self._queues[channel]
                await self._unsubscribe(channel)

    async def _subscribe(self, channel: str) -> None:
        async with self._subscribing:
            if self._pubsub is not None and channel not in self._subscribed:
                with contextlib.suppress(RedisError):  # the reader reconnects and subscribes again
                    await self._pubsub.subscribe(channel)
                    self._subscribed.add(channel)

    async def _unsubscribe(self, channel: str) -> None:
        async with self._subscribing:
            if self._pubsub is not None and channel in self._subscribed and channel not in self._queues:
                self._subscribed.discard(channel)
                with contextlib.suppress(RedisError):
                    await self._pubsub.unsubscribe(channel)

    async def _read(self) -> None:
        try:
            await self._receive()
        except (RedisError, OSError, TimeoutError) as exc:
            # Once, not at every attempt while Redis is away.
            level = logging.DEBUG if self._was_lost else logging.WARNING
            reason = str(exc) or "it could not be made in time"
            log.log(level, "the pub/sub connection was lost and is made again: %s", reason)
            self._was_lost = True
            await asyncio.sleep(_PAUSE_S)
        finally:
            self._pubsub = None

    async def _receive(self) -> None:
        async with self._connect() as redis, redis.pubsub() as pubsub:
            async with self._subscribing, asyncio.timeout(_SETUP_S):
                # A channel without messages keeps the connection subscribed when there is no listener.
                wanted = set(self._queues)
                await pubsub.subscribe("et:feed", *wanted)
                self._pubsub, self._subscribed = pubsub, wanted
            if self._was_lost:
                log.warning("the pub/sub connection is back")
                self._was_lost = False
            tasks = {asyncio.create_task(self._deliver_all(pubsub)), asyncio.create_task(self._ping(pubsub))}
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                # First of all, so that nobody subscribes on a connection that is given up.
                self._pubsub = None
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def _deliver_all(self, pubsub: PubSub) -> None:
        async for message in pubsub.listen():
            self._received += 1
            if message["type"] != "pong":
                # A confirmed subscription is passed on as a gap: messages published before it were missed.
                published = message["type"] == "message"
                self._deliver(message["channel"].decode(), message["data"] if published else b"")
            if self._received % _BATCH == 0:
                # Many messages come in one read, during which no listener would run.
                await asyncio.sleep(0)

    async def _ping(self, pubsub: PubSub) -> None:
        """Ask a silent server whether it is there.

        Raises:
            redis.exceptions.ConnectionError: when it does not answer.
        """
        silent = 0
        while silent < _SILENT_INTERVALS:
            before = self._received
            await asyncio.sleep(self._ping_s)
            silent = silent + 1 if self._received == before else 0
            if silent:
                with contextlib.suppress(TimeoutError):
                    # Bounded, since nothing can be sent either once the buffers are full.
                    async with asyncio.timeout(self._ping_s):
                        await pubsub.ping()
        raise RedisConnectionError(f"no answer for {_SILENT_INTERVALS * self._ping_s:g} s")

    def _deliver(self, channel: str, message: bytes) -> None:
        for queue in self._queues.get(channel, ()):
            if queue.full():
                # The queue of a slow listener is bounded: it loses messages, and reads the log instead.
                queue.get_nowait()
                queue.put_nowait(b"")
            else:
                queue.put_nowait(message)

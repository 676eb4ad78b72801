"""The clock of all replicas: Redis' time. A replica whose own clock is wrong would end sessions before, or after, their deadline.

It is asked for every few seconds, and carried on in between by this machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.store.connection import redis_call
from services.serving.background import run_forever

log = logging.getLogger(__name__)
_EVERY_S: Final = 5.0
_SLOW_S: Final = 0.5
"""Round trips above this are not used, but for the first: the answer may be older than that by the time it is here."""
_TOLERATED_S: Final = 1.0


class RedisClock:
    """`orchestrator.ports.collaborators.Clock`.

    Args:
        ask: Redis' time in Unix seconds.
        observe: gets this machine's clock minus Redis', in seconds, whenever that was measured.
        wall: this machine's clock; it decides until Redis has answered once.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[float]], observe: Callable[[float], None], *, wall: Callable[[], float] = time.time
    ) -> None:
        self._ask = ask
        self._observe = observe
        self._wall = wall
        self._offset_s = wall() - time.monotonic()
        self._measured = self._warned = False
        self._task: asyncio.Task[None] | None = None

    def now(self) -> float:
        """Unix seconds."""
        return time.monotonic() + self._offset_s

    async def start(self) -> None:
        """Ask once, and every few seconds in the background."""
        await self.measure()
        self._task = asyncio.create_task(run_forever("the clock", self._step, pause_s=_EVERY_S), name="clock")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def measure(self) -> None:
        """Ask Redis; without an answer the clock goes on as it did."""
        # The faster of two: one may have had to connect, or to load the script.
        try:
            took_s, offset_s = min([await self._sample() for _ in range(2)])
        except StorageUnavailableError:
            return
        if self._measured and took_s > _SLOW_S:
            return
        self._measured = True
        self._offset_s = offset_s
        skew_s = self._wall() - self.now()
        self._observe(skew_s)
        wrong = abs(skew_s) > _TOLERATED_S
        if wrong and not self._warned:
            log.warning("this machine's clock differs by %.1f s from that of Redis, which decides: is NTP running?", skew_s)
        self._warned = wrong

    async def _sample(self) -> tuple[float, float]:
        """Seconds of one round trip, and Redis' time beyond the monotonic clock."""
        began = time.monotonic()
        async with redis_call(repeatable=True):
            there = await self._ask()
        ended = time.monotonic()
        return ended - began, there - (began + ended) / 2

    async def _step(self) -> None:
        await asyncio.sleep(_EVERY_S)
        await self.measure()

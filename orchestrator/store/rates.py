"""How often a tenant may do something, counted in Redis for all replicas together (the library `limits`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from limits import RateLimitItem, parse_many
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import asking

_LEAST_WAIT_S: Final = 1.0


class _OnOurClient(RedisStorage):
    """The library's scripts on the client that everything else uses: one server, behind sentinels, or a cluster."""

    # Not to be found by a URL.
    STORAGE_SCHEME = None  # type: ignore[assignment]  # what the base class of it says for such a class

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._client: Any = redis
        super().__init__("redis://", implementation="redispy", key_prefix=prefix)

    def configure_bridge(self) -> None:
        """Instead of connecting."""
        bridge: Any = self.bridge
        bridge.storage = self._client
        bridge.connection_getter = lambda _: self._client


class RedisRateLimiter:
    """A sliding window for each tenant and rate; two counters each, whatever the rate."""

    def __init__(self, redis: Redis, keys: KeySpace) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(_OnOurClient(redis, f"{keys.prefix}rate"))

    async def hit(self, rate: str, tenant: str) -> float | None:
        """Count one; or the seconds after which to try again, when there were too many lately.

        Raises:
            ValueError: for a text that says no rate.
        """
        for item in read(rate):
            async with asking():
                if not await self._limiter.hit(item, tenant):
                    stats = await self._limiter.get_window_stats(item, tenant)
                    return max(_LEAST_WAIT_S, stats.reset_time - time.time())
        return None


def read(rate: str) -> Sequence[RateLimitItem]:
    """The rates that a text such as ``60/minute;1000/day`` says.

    Raises:
        ValueError: for a text that says none.
    """
    return parse_many(rate)

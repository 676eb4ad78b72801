"""Rate limits of tenants, counted in Redis for all replicas together, with the library `limits`."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from typing import Any, Final

from limits import RateLimitItem, parse_many
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from orchestrator.ports.stores import RateUsage
from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import KeySpace

_LEAST_WAIT_S: Final = 1
_ONE_RATE: Final = r"\s*[0-9]{1,9}\s*(/|\sper\s)\s*([0-9]{1,6}\s+)?(second|minute|hour|day|month|year)s?\s*"
_RATES: Final = re.compile(rf"{_ONE_RATE}([,;|]{_ONE_RATE})*", re.IGNORECASE)


class _SharedClientStorage(RedisStorage):
    """The library's storage on the client that the other stores use: a server, one behind sentinels, or a cluster."""

    # None keeps it out of the library's registry of URL schemes.
    STORAGE_SCHEME = None  # type: ignore[assignment]  # as the base class documents

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._client: Any = redis
        super().__init__("redis://", implementation="redispy", key_prefix=prefix)

    def configure_bridge(self) -> None:
        """Use the shared client in place of a new connection."""
        bridge: Any = self.bridge
        bridge.storage = self._client
        bridge.connection_getter = lambda _: self._client


class RedisRateLimiter:
    """`orchestrator.ports.stores.RateLimiter`: a sliding-window counter for each tenant and rate."""

    def __init__(self, redis: Redis, keys: KeySpace) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(_SharedClientStorage(redis, f"{keys.prefix}rate"))

    async def hit(self, rate: str, tenant: str) -> tuple[bool, tuple[RateUsage, ...]]:
        """Count one request: whether it is within the rate, and what is left of each of the rate's parts.

        Raises:
            ValueError: for a text that is not a rate.
        """
        items, within = parse_rates(rate), True
        async with redis_call():
            for item in items:
                within = within and await self._limiter.hit(item, tenant)
            stats = [await self._limiter.get_window_stats(item, tenant) for item in items]
        now = time.time()
        return within, tuple(
            RateUsage(
                "-".join([*([str(item.multiples)] if item.multiples > 1 else []), item.GRANULARITY.name]),
                item.amount,
                item.get_expiry(),
                max(0, each.remaining),
                max(_LEAST_WAIT_S, math.ceil(each.reset_time - now)),
            )
            for item, each in zip(items, stats, strict=True)
        )


def parse_rates(rate: str) -> Sequence[RateLimitItem]:
    """Parse rates such as ``60/minute;1000/day``.

    Raises:
        ValueError: for a text that is not a rate.
    """
    # The library also takes 60perminute and 60 per5minute, and any unit of letters as far as it can.
    if not _RATES.fullmatch(rate):
        raise ValueError(f"{rate!r} is not a rate: write 60/minute, or 60/minute;1000/day for several")
    return parse_many(rate)

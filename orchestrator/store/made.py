"""The digests of the pictures that were made for each tenant, so that a picture can be known again: a sorted set in Redis each.

A digest is kept as its first 16 bytes. 128 bits of SHA-256 are enough: nobody finds another picture with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import KeySpace

_BYTES: Final = 16
MOST: Final = 200_000
"""Digests of one tenant, two for each picture and encoding; the oldest leave. In Redis they take 20 MB."""


class RedisMadeLog:
    """`orchestrator.ports.stores.MadeLog` on Redis or Valkey.

    Args:
        now: the clock, in Unix seconds.
        kept_s: seconds for which a digest is kept; 0 keeps none.
    """

    def __init__(self, redis: Redis, keys: KeySpace, now: Callable[[], float], kept_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._now = now
        self._kept_s = kept_s

    @property
    def keeps(self) -> bool:
        """Whether digests are kept at all."""
        return self._kept_s > 0

    async def add(self, tenant: str, digests: Sequence[bytes]) -> None:
        """Keep the digests of a picture."""
        key, now = self._keys.made(tenant), self._now()
        async with redis_call(), self._redis.pipeline(transaction=False) as calls:
            calls.zadd(key, {digest[:_BYTES]: now for digest in digests})
            calls.zremrangebyscore(key, "-inf", now - self._kept_s)
            calls.zremrangebyrank(key, 0, -MOST - 1)
            calls.expire(key, int(self._kept_s) + 1)
            await calls.execute()

    async def knows(self, tenant: str, digests: Sequence[bytes]) -> bool:
        """Whether one of them is kept."""
        async with redis_call():
            members: list[Any] = [digest[:_BYTES] for digest in digests]
            scores = await self._redis.zmscore(self._keys.made(tenant), members)
        oldest = self._now() - self._kept_s
        return any(score is not None and score > oldest for score in scores)

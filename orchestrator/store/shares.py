"""Shares of sessions in Redis: a string each, which Redis forgets when it expires, and a sorted set of each tenant's."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from redis.asyncio import Redis

from orchestrator.ports.stores import SessionShare
from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import KeySpace

MOST: Final = 1000
"""Shares of one tenant that are in effect at a time. In Redis they take half a megabyte."""
_PREFIX: Final = "shr_"


class RedisShares:
    """`orchestrator.ports.stores.SessionShares` on Redis or Valkey. Nothing is cached: a share that is revoked is gone.

    Args:
        now: the clock that shares expire by, in Unix seconds; Redis forgets them by its own.
    """

    def __init__(self, redis: Redis, keys: KeySpace, now: Callable[[], float]) -> None:
        self._redis = redis
        self._keys = keys
        self._now = now

    async def create(self, session_id: str, tenant: str, for_s: float, pictures: Sequence[str] = ()) -> SessionShare | None:
        """A new share, for so many seconds; None where the tenant has `MOST`."""
        index, now = self._keys.shares(tenant), self._now()
        async with redis_call(), self._redis.pipeline(transaction=False) as calls:
            calls.zremrangebyscore(index, "-inf", now)
            calls.zcard(index)
            if (await calls.execute())[1] >= MOST:
                return None
        share = SessionShare(_PREFIX + secrets.token_hex(8), session_id, tenant, now, now + for_s, tuple(pictures))
        async with redis_call(), self._redis.pipeline() as calls:
            calls.set(self._keys.share(share.id), json.dumps(asdict(share)), ex=math.ceil(for_s))
            calls.zadd(index, {_member(share): share.expires_at})
            # As long as the longest of them: one that is set to expire sooner leaves the others.
            calls.expire(index, math.ceil(for_s), nx=True)
            calls.expire(index, math.ceil(for_s), gt=True)
            await calls.execute()
        return share

    async def find(self, session_id: str, share_id: str) -> SessionShare | None:
        """A share of a session; None for one that is unknown, revoked or expired."""
        async with redis_call(repeatable=True):
            raw: Any = await self._redis.get(self._keys.share(share_id))
        share = None if raw is None else _load(raw)
        return share if share and share.session_id == session_id and share.expires_at > self._now() else None

    async def all(self, session_id: str, tenant: str) -> list[SessionShare]:
        """The shares of a session, the oldest first."""
        async with redis_call(repeatable=True):
            members: Any = await self._redis.zrange(self._keys.shares(tenant), 0, -1)
            ids = [name.decode().partition("/")[2] for name in members if name.startswith(f"{session_id}/".encode())]
            found: Any = await self._redis.mget([self._keys.share(share_id) for share_id in ids]) if ids else []
        shares = [_load(raw) for raw in found if raw is not None]
        return sorted((share for share in shares if share.expires_at > self._now()), key=lambda share: share.created_at)

    async def revoke(self, share: SessionShare) -> None:
        """End a share: nobody finds it any more, on any replica."""
        async with redis_call(repeatable=True), self._redis.pipeline() as calls:
            calls.delete(self._keys.share(share.id))
            calls.zrem(self._keys.shares(share.tenant), _member(share))
            await calls.execute()


def _member(share: SessionShare) -> str:
    return f"{share.session_id}/{share.id}"


def _load(raw: bytes) -> SessionShare:
    stored = json.loads(raw)
    return SessionShare(**{**stored, "pictures": tuple(stored["pictures"])})

"""API keys and quotas in Redis. A key's secret is shown once; only its SHA-256 is stored.

A secret has 256 random bits, so a fast hash protects it as well as a slow one would.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, Final, get_args

from redis.asyncio import Redis

from orchestrator.ports.stores import ApiKey, Quota, Scope, check_tenant
from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import KeySpace

SCOPES: Final = frozenset(get_args(Scope))
_PREFIX: Final = "et_"
_CACHE_S: Final = 0.5
"""How long an answer of Redis is cached: a revoked key stops working within that time on every replica."""
_CACHE_SIZE: Final = 10_000
_SECRET_CACHE_S: Final = 60.0


class ApiKeyStore:
    """`orchestrator.ports.stores.ApiKeys` on Redis or Valkey, and what the command line does with them.

    Args:
        now: the clock that keys expire by, in Unix seconds.
    """

    def __init__(self, redis: Redis, keys: KeySpace, now: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._now = now
        self._keys = f"{keys.prefix}keys"
        self._quotas = f"{keys.prefix}quotas"
        self._cache: OrderedDict[str, tuple[float, bytes | None]] = OrderedDict()
        self._secrets: dict[str, tuple[float, bytes]] = {}

    async def create(
        self, tenant: str, scopes: Iterable[str], *, name: str = "", expires_at: float | None = None
    ) -> tuple[str, ApiKey]:
        """Create a key; its secret is returned only here.

        Raises:
            ValueError: for a scope that does not exist, or a tenant's name that cannot be one.
        """
        check_tenant(tenant)
        wanted = frozenset(scopes)
        if not wanted or wanted - SCOPES:
            raise ValueError(f"scopes are {', '.join(sorted(SCOPES))}; at least one")
        secret = _PREFIX + secrets.token_urlsafe(32)
        digest = _digest(secret)
        key = ApiKey(f"key_{digest[:12]}", tenant, wanted, name, time.time(), expires_at)
        async with redis_call():
            await self._redis.hset(self._keys, digest, _dump(key))
        return secret, key

    async def find(self, secret: str) -> ApiKey | None:
        """The key of that secret; None for one that is unknown, revoked or expired."""
        digest = _digest(secret)
        raw = await self._cached(self._keys, digest)
        key = None if raw is None else _load(raw)
        return None if key is None or (key.expires_at is not None and key.expires_at <= self._now()) else key

    async def all(self) -> list[ApiKey]:
        """Every key, the oldest first."""
        async with redis_call(repeatable=True):
            raw: Any = await self._redis.hgetall(self._keys)
        return sorted((_load(value) for value in raw.values()), key=lambda key: key.created_at)

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key; False if there is none of that id."""
        async with redis_call():
            raw: Any = await self._redis.hgetall(self._keys)
            digests = [digest for digest, value in raw.items() if _load(value).id == key_id]
            return bool(digests) and bool(await self._redis.hdel(self._keys, *digests))

    async def quota(self, tenant: str) -> Quota | None:
        """What was set for a tenant; None if nothing was."""
        raw = await self._cached(self._quotas, tenant)
        return None if raw is None else _load_quota(raw)

    async def set_quota(self, tenant: str, quota: Quota) -> None:
        """Set what a tenant may use."""
        check_tenant(tenant)
        async with redis_call():
            await self._redis.hset(self._quotas, tenant, _dump_quota(quota))

    async def remove_quota(self, tenant: str) -> bool:
        """Remove a tenant's quota, so that the server's default applies; False if none was set."""
        async with redis_call():
            return bool(await self._redis.hdel(self._quotas, tenant))

    async def quotas(self) -> Mapping[str, Quota]:
        """The quotas that were set, by tenant."""
        async with redis_call(repeatable=True):
            raw: Any = await self._redis.hgetall(self._quotas)
        return {tenant.decode(): _load_quota(value) for tenant, value in raw.items()}

    async def shared_secret(self, name: str) -> bytes:
        """A random secret shared by all replicas; read again every minute, so that they agree even if Redis loses it."""
        key = f"{self._keys}:{name}"
        known, now = self._secrets.get(name), time.monotonic()
        if known is not None and now - known[0] < _SECRET_CACHE_S:
            return known[1]
        async with redis_call(repeatable=True):
            await self._redis.set(key, secrets.token_hex(32), nx=True)
            found: Any = await self._redis.get(key)
        self._secrets[name] = (now, bytes(found))
        return bytes(found)

    async def _cached(self, table: str, field: str) -> bytes | None:
        """A field of a hash, cached for `_CACHE_S`."""
        name, now = f"{table}/{field}", time.monotonic()
        known = self._cache.get(name)
        if known is not None and now - known[0] < _CACHE_S:
            return known[1]
        async with redis_call(repeatable=True):
            found: Any = await self._redis.hget(table, field)
        value = None if found is None else bytes(found)
        self._cache[name] = (now, value)
        self._cache.move_to_end(name)
        while len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return value


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _dump(key: ApiKey) -> str:
    return json.dumps({**asdict(key), "scopes": sorted(key.scopes)})


def _dump_quota(quota: Quota) -> str:
    # Without bounds that are not set: an earlier version refuses fields that it does not know.
    return json.dumps({name: value for name, value in asdict(quota).items() if value is not None})


def _load_quota(raw: bytes) -> Quota:
    known = {field.name for field in fields(Quota)}
    return Quota(**{name: value for name, value in json.loads(raw).items() if name in known})


def _load(raw: bytes) -> ApiKey:
    stored = json.loads(raw)
    return ApiKey(**{**stored, "scopes": frozenset(stored["scopes"])})

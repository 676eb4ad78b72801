"""API keys and quotas in Redis. A key's secret is shown once; only its SHA-256 is stored.

A secret has 256 random bits, so a fast hash protects it as well as a slow one would.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from redis.asyncio import Redis

from orchestrator.ports.stores import SCOPES, ApiKey, Quota, SignIn, check_tenant
from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import KeySpace

_PREFIX: Final = "et_"
_CACHE_S: Final = 0.5
"""How long an answer of Redis is cached: a revoked key stops working within that time on every replica."""
_CACHE_SIZE: Final = 10_000
_SECRET_CACHE_S: Final = 60.0
_MAX_SIGN_INS: Final = 100
"""Of one key at once."""


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
        return await self._key(_digest(secret))

    async def _key(self, digest: str) -> ApiKey | None:
        raw = await self._field(self._keys, digest)
        key = None if raw is None else _load(raw)
        return None if key is None or (key.expires_at is not None and key.expires_at <= self._now()) else key

    async def sign_in(self, secret: str, for_s: float) -> str:
        """A token that stands for the key of that secret, for so many seconds; only its SHA-256 is stored.

        A key has so many at once; the oldest end.
        """
        token = secrets.token_urlsafe(32)
        stored = json.dumps({"key": _digest(secret), "expires_at": self._now() + for_s})
        name, of_key, for_s = self._sign_in(token), f"{self._keys}:sign_ins:{_digest(secret)}", math.ceil(for_s)
        async with redis_call(), self._redis.pipeline() as calls:
            calls.set(name, stored, ex=for_s)
            calls.zadd(of_key, {name: self._now()})
            calls.zrange(of_key, 0, -_MAX_SIGN_INS - 1)
            calls.zremrangebyrank(of_key, 0, -_MAX_SIGN_INS - 1)
            calls.expire(of_key, for_s)
            oldest: list[bytes] = (await calls.execute())[2]
        if oldest:
            async with redis_call(repeatable=True):
                await self._redis.delete(*oldest)
        return token

    async def signed_in(self, token: str) -> SignIn | None:
        """The sign-in of that token; None for one that is unknown, signed out or expired, and once its key is not valid."""
        name = self._sign_in(token)
        raw = await self._cached(name, lambda: self._redis.get(name))
        stored = None if raw is None else json.loads(raw)
        if stored is None or stored["expires_at"] <= self._now():
            return None
        key = await self._key(stored["key"])
        return None if key is None else SignIn(key, stored["expires_at"])

    async def sign_out(self, token: str) -> None:
        """Forget a token."""
        async with redis_call(repeatable=True):
            await self._redis.delete(self._sign_in(token))

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
        raw = await self._field(self._quotas, tenant)
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

    def _sign_in(self, token: str) -> str:
        return f"{self._keys}:sign_in:{_digest(token)}"

    async def _field(self, table: str, field: str) -> bytes | None:
        """A field of a hash, cached."""
        return await self._cached(f"{table}/{field}", lambda: self._redis.hget(table, field))

    async def _cached(self, name: str, read: Callable[[], Any]) -> bytes | None:
        """What is read, cached for `_CACHE_S` under a name."""
        now = time.monotonic()
        known = self._cache.get(name)
        if known is not None and now - known[0] < _CACHE_S:
            return known[1]
        async with redis_call(repeatable=True):
            found: Any = await read()
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

"""API keys and what their tenants may use, in Redis. A key is shown once; what is kept of it is its SHA-256.

A secret has 256 random bits, so one round of a fast hash is as good as a slow one, and costs nothing per request.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final, get_args

from redis.asyncio import Redis

from orchestrator.ports import ApiKey, Quota, Scope, check_tenant
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import asking

SCOPES: Final = frozenset(get_args(Scope))
_PREFIX: Final = "et_"
_KNOWN_S: Final = 0.5
"""For which an answer of Redis is believed: a revoked key stops within it on every replica."""
_MOST_KNOWN: Final = 10_000
_SECRET_S: Final = 60.0


class ApiKeyStore:
    """The keys and quotas of every tenant."""

    def __init__(self, redis: Redis, keys: KeySpace) -> None:
        self._redis = redis
        self._keys = f"{keys.prefix}keys"
        self._quotas = f"{keys.prefix}quotas"
        self._known: OrderedDict[str, tuple[float, bytes | None]] = OrderedDict()
        self._secrets: dict[str, tuple[float, bytes]] = {}

    async def create(
        self, tenant: str, scopes: Iterable[str], *, name: str = "", expires_at: float | None = None
    ) -> tuple[str, ApiKey]:
        """A new key and its secret, which cannot be had again.

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
        async with asking():
            await self._redis.hset(self._keys, digest, _written(key))
        return secret, key

    async def find(self, secret: str) -> ApiKey | None:
        """The key of that secret; None for one that is unknown, revoked or expired."""
        digest = _digest(secret)
        raw = await self._recent(self._keys, digest)
        key = None if raw is None else _read(raw)
        return None if key is None or (key.expires_at is not None and key.expires_at <= time.time()) else key

    async def all(self) -> list[ApiKey]:
        """Every key, the oldest first."""
        async with asking():
            raw: Any = await self._redis.hgetall(self._keys)
        return sorted((_read(value) for value in raw.values()), key=lambda key: key.created_at)

    async def revoke(self, key_id: str) -> bool:
        """Make a key useless; False if there is none of that id."""
        async with asking():
            raw: Any = await self._redis.hgetall(self._keys)
            doomed = [digest for digest, value in raw.items() if _read(value).id == key_id]
            return bool(doomed) and bool(await self._redis.hdel(self._keys, *doomed))

    async def quota(self, tenant: str) -> Quota | None:
        """What was set for a tenant; None if nothing was."""
        raw = await self._recent(self._quotas, tenant)
        return None if raw is None else Quota(**json.loads(raw))

    async def set_quota(self, tenant: str, quota: Quota) -> None:
        """Set what a tenant may use."""
        check_tenant(tenant)
        async with asking():
            await self._redis.hset(self._quotas, tenant, json.dumps(asdict(quota)))

    async def remove_quota(self, tenant: str) -> bool:
        """Let the server's own quota hold for a tenant again; False if none was set."""
        async with asking():
            return bool(await self._redis.hdel(self._quotas, tenant))

    async def quotas(self) -> Mapping[str, Quota]:
        """By tenant, where one was set."""
        async with asking():
            raw: Any = await self._redis.hgetall(self._quotas)
        return {tenant.decode(): Quota(**json.loads(value)) for tenant, value in raw.items()}

    async def shared_secret(self, name: str) -> bytes:
        """A random secret that every replica gets alike; asked for once a minute, so that they agree should Redis lose it."""
        key = f"{self._keys}:{name}"
        known, now = self._secrets.get(name), time.monotonic()
        if known is not None and now - known[0] < _SECRET_S:
            return known[1]
        async with asking():
            await self._redis.set(key, secrets.token_hex(32), nx=True)
            found: Any = await self._redis.get(key)
        self._secrets[name] = (now, bytes(found))
        return bytes(found)

    async def _recent(self, table: str, field: str) -> bytes | None:
        """A field, asked for at most twice a second."""
        place, now = f"{table}/{field}", time.monotonic()
        known = self._known.get(place)
        if known is not None and now - known[0] < _KNOWN_S:
            return known[1]
        async with asking():
            found: Any = await self._redis.hget(table, field)
        value = None if found is None else bytes(found)
        self._known[place] = (now, value)
        self._known.move_to_end(place)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return value


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _written(key: ApiKey) -> str:
    return json.dumps({**asdict(key), "scopes": sorted(key.scopes)})


def _read(raw: bytes) -> ApiKey:
    fields = json.loads(raw)
    return ApiKey(**{**fields, "scopes": frozenset(fields["scopes"])})

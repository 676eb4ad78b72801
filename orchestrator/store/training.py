"""Consent to training in Redis: a grant for each tenant that gave it, and the sessions that are withheld all the same.

Nothing is cached: what is withdrawn is left out of the next line of every export, on every replica. If Redis loses its data,
the grants are gone, and with them the right to export any of the sessions that were made under them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from redis.asyncio import Redis

from orchestrator.ports.stores import TrainingGrant, check_tenant
from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import KeySpace

_PREFIX: Final = "grt_"


class TrainingStore:
    """`orchestrator.ports.stores.Training` on Redis or Valkey, and what the command line does with it.

    Args:
        now: the clock of new grants, in Unix seconds.
    """

    def __init__(self, redis: Redis, keys: KeySpace, now: Callable[[], float]) -> None:
        self._redis = redis
        self._keys = keys
        self._now = now

    async def allow(self, tenant: str, grant: str | None = None) -> TrainingGrant:
        """Give a tenant's consent; one that it has given stays.

        Args:
            grant: an earlier one that is to count again, with the sessions that were made under it; None makes a new one.

        Raises:
            ValueError: for a name that cannot be a tenant's or a grant's, and where the tenant has another grant.
        """
        check_tenant(tenant)
        if grant is not None and not (grant.startswith(_PREFIX) and grant[len(_PREFIX) :].isalnum()):
            raise ValueError(f"{grant!r} is not a grant; `training allow` and `training deny` print them, as grt_…")
        new = TrainingGrant(grant or _PREFIX + secrets.token_hex(8), self._now())
        async with redis_call(repeatable=True):
            await self._redis.hsetnx(self._keys.training, tenant, json.dumps(asdict(new)))
        found = await self.grant(tenant)
        if found is None or (grant is not None and found.id != grant):
            raise ValueError(f"{tenant!r} has another grant, or has just withdrawn it; `training list` shows it")
        return found

    async def deny(self, tenant: str) -> TrainingGrant | None:
        """Withdraw a tenant's consent: the grant that it had; None if it had none."""
        async with redis_call(repeatable=True), self._redis.pipeline() as calls:
            calls.hget(self._keys.training, tenant)
            calls.hdel(self._keys.training, tenant)
            raw, _ = await calls.execute()
        return None if raw is None else TrainingGrant(**json.loads(raw))

    async def grant(self, tenant: str) -> TrainingGrant | None:
        """The consent of a tenant; None where it has given none, or withdrawn it."""
        async with redis_call(repeatable=True):
            raw: Any = await self._redis.hget(self._keys.training, tenant)
        return None if raw is None else TrainingGrant(**json.loads(raw))

    async def grants(self) -> Mapping[str, TrainingGrant]:
        """The consents that are in effect, by tenant."""
        async with redis_call(repeatable=True):
            raw: Any = await self._redis.hgetall(self._keys.training)
        return {tenant.decode(): TrainingGrant(**json.loads(value)) for tenant, value in raw.items()}

    async def withhold(self, tenant: str, session_id: str) -> None:
        """Withdraw one session, for good."""
        async with redis_call(repeatable=True):
            await self._redis.sadd(self._keys.withheld(tenant), session_id)

    async def allows(self, tenant: str, session_id: str, grant: str | None) -> bool:
        """Whether a session may be used for training now.

        Args:
            grant: the one under which it was made; None if there was none.
        """
        if grant is None:
            return False
        async with redis_call(repeatable=True), self._redis.pipeline() as calls:
            calls.hget(self._keys.training, tenant)
            calls.sismember(self._keys.withheld(tenant), session_id)
            raw, withheld = await calls.execute()
        return raw is not None and not withheld and json.loads(raw)["id"] == grant

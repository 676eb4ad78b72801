"""Webhook endpoints and deliveries in Redis: a hash of endpoints for each tenant, and one of deliveries for each session.

A delivery's record says when it is due, and its timer only makes the sender look at it, so an early or repeated timer is
harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import CompareAndSet, KeySpace, Scripts
from orchestrator.webhooks.model import Delivery, Endpoint

_OWN: Final = "endpoint"
"""The field of a session's deliveries that holds its own endpoint; `lua/create.lua` writes it."""


class WebhookStore:
    """`orchestrator.webhooks.model.Endpoints` and `Deliveries` on Redis or Valkey.

    Args:
        retention_s: seconds for which the deliveries of a finished session are kept after the last of them is due.
    """

    def __init__(self, redis: Redis, keys: KeySpace, scripts: Scripts, retention_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._retention_ms = max(1, int(retention_s * 1000))

    # --- endpoints ---------------------------------------------------------------------------------------------------

    async def add(self, tenant: str, endpoint: Endpoint, check: Callable[[Sequence[Endpoint]], None]) -> None:
        """Store a new endpoint.

        Args:
            check: of the tenant's others; may be called again, and may raise to refuse.
        """
        record = endpoint.model_dump_json().encode()
        while True:
            others = [other for other in await self.endpoints(tenant) if other.id != endpoint.id]
            check(others)
            async with redis_call():
                if await self._scripts.add_endpoint(tenant, endpoint.id, record, [other.id for other in others]):
                    return

    async def remove(self, tenant: str, endpoint_id: str) -> bool:
        """Remove an endpoint, whose pending deliveries are dropped; False if there is none of that id."""
        async with redis_call():
            removed: Any = await self._redis.hdel(self._keys.hooks(tenant), endpoint_id)
        return bool(removed)

    async def endpoints(self, tenant: str) -> list[Endpoint]:
        """A tenant's endpoints, the oldest first."""
        async with redis_call(repeatable=True):
            raw: Any = await self._redis.hgetall(self._keys.hooks(tenant))
        found = [Endpoint.model_validate_json(value) for value in raw.values()]
        return sorted(found, key=lambda endpoint: (endpoint.created_at, endpoint.id))

    async def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """One of them; None if there is none of that id."""
        raw = await self._field(self._keys.hooks(tenant), endpoint_id)
        return None if raw is None else Endpoint.model_validate_json(raw)

    async def own_endpoint(self, session_id: str) -> Endpoint | None:
        """The endpoint that is notified of this session alone; None if it has none."""
        raw = await self._field(self._keys.deliveries(session_id), _OWN)
        return None if raw is None else Endpoint.model_validate_json(raw)

    async def enable(self, tenant: str, endpoint_id: str, *, disabled_at: float | None) -> None:
        """Disable an endpoint, or (None) enable it again; one that was removed stays removed."""
        await self.change(tenant, endpoint_id, lambda endpoint: endpoint.model_copy(update={"disabled_at": disabled_at}))

    async def change(self, tenant: str, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint | None:
        """Change an endpoint atomically; the endpoint afterwards, None if there is none of that id.

        Args:
            change: may be called again, and may raise to refuse.
        """
        key = self._keys.hooks(tenant)
        while (raw := await self._field(key, endpoint_id)) is not None:
            changed = change(Endpoint.model_validate_json(raw))
            if await self._compare_and_set(
                CompareAndSet(f"hooks:{tenant}", endpoint_id, raw, changed.model_dump_json().encode())
            ):
                return changed
        return None

    # --- deliveries --------------------------------------------------------------------------------------------------

    async def schedule(self, session_id: str, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries, each with a timer; those already scheduled are kept as they are."""
        records = {delivery.id: delivery.model_dump_json().encode() for delivery in deliveries}
        async with redis_call():
            await self._scripts.schedule_deliveries(session_id, self._retention_ms, records)

    async def find(self, session_id: str, delivery_id: str) -> tuple[Delivery, bytes] | None:
        """A delivery and its stored bytes; None if its session was deleted."""
        raw = await self._field(self._keys.deliveries(session_id), delivery_id)
        return None if raw is None else (Delivery.model_validate_json(raw), raw)

    async def replace(self, delivery: Delivery, stored: bytes) -> bool:
        """Replace a delivery and set or remove its timer, if the stored bytes are still the same."""
        due_ms: int | str = ""
        retention_ms = self._retention_ms
        if delivery.next_at is not None and delivery.attempts:
            due_ms = int(delivery.next_at * 1000) + 1
            retention_ms += due_ms - int(delivery.attempts[-1].at * 1000)
        name, timer = f"deliveries:{delivery.session_id}", _timer(delivery)
        new = delivery.model_dump_json().encode()
        return await self._compare_and_set(CompareAndSet(name, delivery.id, stored, new, timer, due_ms, retention_ms))

    async def postpone(self, delivery: Delivery, at: float) -> None:
        """Set its timer, in Unix seconds."""
        async with redis_call():
            await self._redis.zadd(self._keys.timers, {_timer(delivery): int(at * 1000) + 1})

    async def deliveries(self, session_id: str) -> list[Delivery]:
        """The deliveries of a session, in the order of its events."""
        async with redis_call(repeatable=True):
            raw: Any = await self._redis.hgetall(self._keys.deliveries(session_id))
        found = [Delivery.model_validate_json(value) for name, value in raw.items() if name.decode() != _OWN]
        return sorted(found, key=lambda delivery: (delivery.seq, delivery.webhook))

    # --- pieces ------------------------------------------------------------------------------------------------------

    async def _field(self, key: str, name: str) -> bytes | None:
        async with redis_call(repeatable=True):
            raw: Any = await self._redis.hget(key, name)
        return None if raw is None else bytes(raw)

    async def _compare_and_set(self, change: CompareAndSet) -> bool:
        async with redis_call():
            return await self._scripts.compare_and_set(change)


def _timer(delivery: Delivery) -> str:
    return f"deliver:{delivery.session_id}/{delivery.id}"

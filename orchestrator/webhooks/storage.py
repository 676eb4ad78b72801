"""Webhook endpoints and deliveries in Redis: a hash of endpoints for each tenant, and one of deliveries for each session.

A delivery's record says when it is due; its timer only brings it up. So a timer that comes too early does no harm, and one
that is set twice is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import CompareAndSet, KeySpace, Scripts
from orchestrator.webhooks.model import Delivery, Endpoint


class WebhookStore:
    """`orchestrator.webhooks.model.Deliveries` on Redis or Valkey.

    Args:
        keep_s: seconds for which the deliveries of a finished session are kept after the last of them is due.
    """

    def __init__(self, redis: Redis, keys: KeySpace, scripts: Scripts, keep_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts
        self._keep_ms = max(1, int(keep_s * 1000))

    # --- endpoints ---------------------------------------------------------------------------------------------------

    async def add(self, tenant: str, endpoint: Endpoint) -> None:
        """Keep a new endpoint."""
        async with redis_call():
            await self._redis.hset(self._keys.hooks(tenant), endpoint.id, endpoint.model_dump_json())

    async def remove(self, tenant: str, endpoint_id: str) -> bool:
        """Forget an endpoint; what is on its way to it is dropped. False if there is none of that id."""
        async with redis_call():
            gone: Any = await self._redis.hdel(self._keys.hooks(tenant), endpoint_id)
        return bool(gone)

    async def endpoints(self, tenant: str) -> list[Endpoint]:
        """A tenant's endpoints, the oldest first."""
        async with redis_call():
            raw: Any = await self._redis.hgetall(self._keys.hooks(tenant))
        found = [Endpoint.model_validate_json(value) for value in raw.values()]
        return sorted(found, key=lambda endpoint: (endpoint.created_at, endpoint.id))

    async def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """One of them; None if there is none of that id."""
        raw = await self._field(self._keys.hooks(tenant), endpoint_id)
        return None if raw is None else Endpoint.model_validate_json(raw)

    async def enable(self, tenant: str, endpoint_id: str, *, disabled_at: float | None) -> None:
        """Tell an endpoint nothing more, or (None) tell it again; one that was removed stays removed."""
        await self.change(tenant, endpoint_id, lambda endpoint: endpoint.model_copy(update={"disabled_at": disabled_at}))

    async def change(self, tenant: str, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint | None:
        """The endpoint after a change to what it is now; None if there is none of that id.

        Args:
            change: may be asked again, and may raise to refuse.
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

    async def plan(self, session_id: str, deliveries: Sequence[Delivery]) -> None:
        """Keep what is to be delivered, each with a timer; what is planned already stays as it is."""
        records = {delivery.id: delivery.model_dump_json().encode() for delivery in deliveries}
        async with redis_call():
            await self._scripts.schedule_deliveries(session_id, self._keep_ms, records)

    async def find(self, session_id: str, delivery_id: str) -> tuple[Delivery, bytes] | None:
        """A delivery, and how it is written; None if its session was deleted."""
        raw = await self._field(self._keys.deliveries(session_id), delivery_id)
        return None if raw is None else (Delivery.model_validate_json(raw), raw)

    async def replace(self, delivery: Delivery, written: bytes) -> bool:
        """Write it anew, and set its timer or remove it; False if it is no longer what was read."""
        due_ms: int | str = ""
        keep_ms = self._keep_ms
        if delivery.next_at is not None and delivery.attempts:
            due_ms = int(delivery.next_at * 1000) + 1
            keep_ms += due_ms - int(delivery.attempts[-1].at * 1000)
        name, timer = f"deliveries:{delivery.session_id}", _timer(delivery)
        new = delivery.model_dump_json().encode()
        return await self._compare_and_set(CompareAndSet(name, delivery.id, written, new, timer, due_ms, keep_ms))

    async def put_off(self, delivery: Delivery, at: float) -> None:
        """Set its timer, in Unix seconds."""
        async with redis_call():
            await self._redis.zadd(self._keys.timers, {_timer(delivery): int(at * 1000) + 1})

    async def deliveries(self, session_id: str) -> list[Delivery]:
        """What was, or is to be, delivered of a session, in the order of its events."""
        async with redis_call():
            raw: Any = await self._redis.hgetall(self._keys.deliveries(session_id))
        found = [Delivery.model_validate_json(value) for value in raw.values()]
        return sorted(found, key=lambda delivery: (delivery.seq, delivery.webhook))

    # --- pieces ------------------------------------------------------------------------------------------------------

    async def _field(self, key: str, name: str) -> bytes | None:
        async with redis_call():
            raw: Any = await self._redis.hget(key, name)
        return None if raw is None else bytes(raw)

    async def _compare_and_set(self, change: CompareAndSet) -> bool:
        async with redis_call():
            return await self._scripts.compare_and_set(change)


def _timer(delivery: Delivery) -> str:
    return f"deliver:{delivery.session_id}/{delivery.id}"

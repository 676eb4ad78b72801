"""Notifications through a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from redis.asyncio import Redis

from orchestrator.store.notifications import RedisNotifications
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process


async def received(writes: AsyncIterator[str], count: int) -> list[str]:
    """The next items, for a listener that does nothing else."""
    return [await anext(writes) for _ in range(count)]


async def test_a_burst_of_notifications_arrives_with_every_session_id(redis: Process) -> None:
    """After a gap a replica would have to read the log of every session that it drives."""
    keys, names = KeySpace(), [f"ses_{number}" for number in range(500)]
    pubsub = PubSubFanout(lambda: Redis(port=redis.port))
    await pubsub.start()
    writes = RedisNotifications(pubsub, keys).session_writes()
    try:
        async with asyncio.timeout(20), Redis(port=redis.port) as client:
            # A gap at the start, and another when the subscription is confirmed.
            assert [await anext(writes) for _ in range(2)] == ["", ""]
            arriving = asyncio.create_task(received(writes, len(names)))
            async with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.publish(keys.signal, name)
                await pipe.execute()
            assert await arriving == names
    finally:
        await pubsub.stop()

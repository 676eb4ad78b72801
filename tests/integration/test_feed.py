"""News on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from redis.asyncio import Redis

from orchestrator.store.notifications import RedisNotifications
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process


async def listened(signals: AsyncIterator[str], count: int) -> list[str]:
    """What a replica hears that does nothing else meanwhile."""
    return [await anext(signals) for _ in range(count)]


async def test_a_burst_of_signals_arrives_by_name(redis: Process) -> None:
    """Told only that some were missed, a replica would read the log of every session that it drives."""
    keys, names = KeySpace(), [f"ses_{number}" for number in range(500)]
    feed = PubSubFanout(lambda: Redis(port=redis.port))
    await feed.start()
    signals = RedisNotifications(feed, keys).session_writes()
    try:
        async with asyncio.timeout(20), Redis(port=redis.port) as client:
            # At first, and once the subscription stands: something may have been missed before.
            assert [await anext(signals) for _ in range(2)] == ["", ""]
            heard = asyncio.create_task(listened(signals, len(names)))
            async with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.publish(keys.signal, name)
                await pipe.execute()
            assert await heard == names
    finally:
        await feed.stop()

"""Notifications through a real Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from orchestrator.store.notifications import RedisNotifications
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process, free_port, redis_server


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
        async with asyncio.timeout(60), Redis(port=redis.port) as client:
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


async def test_a_redis_that_is_away_is_told_once_and_its_return_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not at each of the attempts in between."""
    attempts, port = 0, free_port()

    def connect() -> Redis:
        nonlocal attempts
        attempts += 1
        return Redis(port=port)

    caplog.set_level(logging.INFO, "orchestrator.store.pubsub")
    pubsub = PubSubFanout(connect)
    await pubsub.start()
    try:
        async with asyncio.timeout(60):
            while attempts < 4:
                await asyncio.sleep(0.01)
            with redis_server(tmp_path, port):
                while not pubsub.connected:
                    await asyncio.sleep(0.01)
    finally:
        await pubsub.stop()
    told = [record.getMessage().partition(":")[0] for record in caplog.records]

    assert told[:2] == ["the pub/sub connection was lost and is made again", "the pub/sub connection is back"]
    assert told.count("the pub/sub connection was lost and is made again") <= 2  # the second when the server was stopped

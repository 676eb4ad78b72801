"""What goes round in the background goes on after an exception that nobody foresaw."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, ResponseError

from orchestrator.metrics import Metrics
from orchestrator.ports import StorageUnavailableError
from orchestrator.store import pubsub
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.sessions import asking
from orchestrator.upstreams import pool
from orchestrator.upstreams.pool import UpstreamPool, http_client
from orchestrator.upstreams.registry import Registry
from services.serving.background import run_forever
from tests.unit.orchestrator.test_runner import until


@pytest.mark.parametrize(
    "exc",
    [
        RedisConnectionError("gone"),
        ResponseError("OOM"),
        RedisClusterException("Please provide at least one reachable node"),
        TimeoutError("too slow"),
        OSError("no route"),
    ],
)
async def test_whatever_keeps_redis_from_answering_is_told_alike(exc: Exception) -> None:
    """The cluster's exceptions are no `RedisError`."""
    with pytest.raises(StorageUnavailableError, match=str(exc)):
        async with asking():
            raise exc


async def test_a_loop_that_does_nothing_but_fail_ends() -> None:
    """One that fails now and then does not."""
    fates = iter([1, 1, 0, 1, 1, 0, 1, 1, 1])

    async def step() -> None:
        if next(fates):
            raise KeyError("nobody foresaw this")

    with pytest.raises(KeyError):
        await run_forever("it", step, pause_s=0, most=3)
    assert next(fates, None) is None


async def test_the_feed_goes_on_after_what_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the feed connects again."""
    monkeypatch.setattr(pubsub, "_PAUSE_S", 0.01)
    tries = 0

    def connect() -> Any:
        nonlocal tries
        tries += 1
        raise KeyError("nobody foresaw this") if tries == 1 else RedisConnectionError("away")

    listening = PubSubFanout(connect)
    await listening.start()
    await until(lambda: tries > 2)

    assert listening.alive()
    assert caplog.text.count("because of a bug") == 1
    await listening.stop()


async def test_the_registry_is_followed_after_what_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays as it was, and the next version is read."""
    monkeypatch.setattr(pool, "_POLL_S", 0.01)

    def named(editor: str) -> Registry:
        thinker = {"url": "http://t/v1", "model": "m"}
        return Registry.model_validate({"editors": {editor: {"url": "http://e/v1"}}, "thinkers": {"t": thinker}})

    reads = itertools.count(1)

    def read() -> Registry:
        number = next(reads)
        if number == 2:
            raise KeyError("nobody foresaw this")
        return named("one" if number == 1 else "two")

    async with http_client() as client:
        held = UpstreamPool(read, client, Metrics(CollectorRegistry()))
        following = asyncio.create_task(held.follow())
        await until(lambda: "two" in held.editors or following.done())
        following.cancel()

    assert list(held.editors) == ["two"]
    assert caplog.text.count("because of a bug") == 1

"""Background loops go on after an unexpected exception."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import AuthenticationError, RedisClusterException, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from orchestrator.metrics import Metrics
from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.store import pubsub
from orchestrator.store.connection import redis_call
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.upstreams import pool
from orchestrator.upstreams.pool import UpstreamPool, http_client
from orchestrator.upstreams.registry import Registry
from services.serving.background import run_forever
from tests.doubles.decoding import InProcessPool
from tests.doubles.waiting import until


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
async def test_all_failures_of_redis_are_reported_as_unavailable_storage(exc: Exception) -> None:
    """A cluster's exceptions are not RedisErrors."""
    with pytest.raises(StorageUnavailableError, match=str(exc)):
        async with redis_call():
            raise exc


@pytest.mark.parametrize(
    "exc",
    [
        AuthenticationError("invalid username-password pair or user is disabled."),
        ResponseError("HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH …"),
    ],
)
async def test_a_password_that_redis_refuses_is_named_by_its_setting(exc: Exception) -> None:
    """Redis' own text is about its protocol."""
    with pytest.raises(StorageUnavailableError, match="EDITTHINKER_REDIS_PASSWORD"):
        async with redis_call():
            raise exc


async def test_a_loop_that_only_fails_ends() -> None:
    """One that fails occasionally does not."""
    fates = iter([1, 1, 0, 1, 1, 0, 1, 1, 1])

    async def step() -> None:
        if next(fates):
            raise KeyError("unexpected")

    with pytest.raises(KeyError):
        await run_forever("it", step, pause_s=0, max_failures=3)
    assert next(fates, None) is None


async def test_pubsub_reconnects_after_an_unexpected_exception(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception is logged."""
    monkeypatch.setattr(pubsub, "_PAUSE_S", 0.01)
    attempts = 0

    def connect() -> Any:
        nonlocal attempts
        attempts += 1
        raise KeyError("unexpected") if attempts == 1 else RedisConnectionError("away")

    listening = PubSubFanout(connect)
    await listening.start()
    await until(lambda: attempts > 2)

    assert listening.alive()
    assert caplog.text.count("because of a bug") == 1
    await listening.stop()


async def test_the_registry_is_followed_after_an_unexpected_exception(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The registry stays unchanged until the next version is read."""
    monkeypatch.setattr(pool, "_POLL_S", 0.01)

    def named(editor: str) -> Registry:
        thinker = {"url": "http://t/v1", "model": "m"}
        return Registry.model_validate({"editors": {editor: {"url": "http://e/v1"}}, "thinkers": {"t": thinker}})

    reads = itertools.count(1)

    def read() -> Registry:
        number = next(reads)
        if number == 2:
            raise KeyError("unexpected")
        return named("one" if number == 1 else "two")

    async with http_client() as client:
        held = UpstreamPool(read, client, Metrics(CollectorRegistry()), InProcessPool())
        following = asyncio.create_task(held.follow())
        await until(lambda: "two" in held.editors or following.done())
        following.cancel()

    assert list(held.editors) == ["two"]
    assert caplog.text.count("because of a bug") == 1

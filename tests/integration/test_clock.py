"""The clock of all replicas is Redis', not a replica's own."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import pytest
import redis as redis_client
from redis.asyncio import Redis

from orchestrator.store.clock import RedisClock
from orchestrator.store.scripts import KeySpace, Scripts
from tests.doubles.processes import Process, free_port, start, wait_ready
from tests.doubles.tcp_proxy import Fault, TcpProxy
from tests.doubles.upstreams import Script
from tests.integration.conftest import settings
from tests.integration.test_sessions import create

_AHEAD = """
import time
real = time.time
time.time = lambda: real() + 900
from orchestrator.__main__ import main
main()
"""


@pytest.fixture
async def scripts(redis: Process) -> AsyncGenerator[Scripts]:
    """On a real Redis."""
    client = Redis(port=redis.port, db=7)
    yield Scripts(client, KeySpace())
    await client.aclose()


@pytest.mark.parametrize("ahead_s", [900.0, -40.0])
async def test_a_wrong_clock_is_measured_and_not_used(scripts: Scripts, ahead_s: float, caplog: pytest.LogCaptureFixture) -> None:
    """One warning, however often it is measured."""
    skews: list[float] = []
    clock = RedisClock(scripts.clock, skews.append, wall=lambda: time.time() + ahead_s)
    assert abs(clock.now() - time.time() - ahead_s) < 30
    async with asyncio.timeout(60):
        # An answer that is slow, as on a busy machine, is no measurement.
        while len(skews) < 3:
            await clock.measure()

    assert abs(clock.now() - time.time()) < 30
    assert [round(skew_s / 30) for skew_s in skews] == [round(ahead_s / 30)] * 3
    assert caplog.text.count("is NTP running?") == 1


async def test_without_redis_the_clock_goes_on(redis: Process) -> None:
    """As it did with the last answer; a slow answer is no measurement."""
    async with TcpProxy("127.0.0.1", redis.port) as proxy:
        client = Redis(port=proxy.port, db=7)
        skews: list[float] = []
        clock = RedisClock(Scripts(client, KeySpace()).clock, skews.append, wall=lambda: time.time() + 900)
        await clock.measure()
        proxy.set(Fault("delay", seconds=0.4))
        await clock.measure()
        proxy.set(Fault("reset"))
        await clock.measure()
        assert len(skews) == 1
        assert abs(clock.now() - time.time()) < 30
        await client.aclose()


@pytest.fixture
def replica_ahead(redis: Process, upstreams: str, tmp_path: Path) -> Iterator[Process]:
    """A replica whose clock is a quarter of an hour ahead."""
    redis_client.Redis(port=redis.port, db=7).flushdb()
    env = settings(redis, upstreams, tmp_path / "blobs", EDITTHINKER_REDIS_URL=f"redis://127.0.0.1:{redis.port}/7")
    port = free_port()
    process = start([sys.executable, "-c", _AHEAD, "--port", str(port)], port, tmp_path / "log", env)
    wait_ready(process)
    yield process
    process.stop()


def test_a_replica_whose_clock_is_ahead_ends_no_session_early(replica_ahead: Process, script: Script) -> None:
    """The difference is a metric."""
    with httpx.Client(base_url=replica_ahead.url, timeout=30, trust_env=False) as api:
        session = create(api, wait=20, deadline_s=60).json()
        [skew] = [line for line in api.get("/metrics").text.splitlines() if line.startswith("editthinker_clock_skew_seconds ")]

    assert session["finish_reason"] == "satisfied"
    assert abs(session["created_at"] - time.time()) < 60
    assert round(float(skew.split()[1]) / 30) == 30

"""A real Valkey, a real orchestrator process, and scriptable upstreams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.doubles.processes import READY_S, Process, free_port, module, redis_server, wait_ready
from tests.doubles.upstreams import Script, application, serving


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One Valkey for each test worker."""
    with redis_server(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture
def script() -> Script:
    """What the doubles of this test do."""
    return Script()


@pytest.fixture
def upstreams(script: Script) -> Iterator[str]:
    """The doubles' base URL."""
    with serving(application(script)) as url:
        yield url
        script.release.set()


Start = Callable[..., Process]


@pytest.fixture
def start_orchestrator(redis: Process, upstreams: str, tmp_path: Path) -> Iterator[Start]:
    """Starts orchestrator processes on this test's blobs and Redis; stops them at the end."""
    running: list[Process] = []
    database = f"redis://127.0.0.1:{redis.port}/0"
    with httpx.Client(trust_env=False):
        import redis as client  # noqa: PLC0415 - only to empty the database between tests

        client.Redis(port=redis.port).flushall()

    def start(port: int | None = None, **extra: str) -> Process:
        env = {
            "EDITTHINKER_REDIS_URL": database,
            "EDITTHINKER_BLOBS": str(tmp_path / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps({"double": {"url": f"{upstreams}/editor/v1", "attempts": 3}}),
            "EDITTHINKER_THINKERS": json.dumps({"double": {"url": f"{upstreams}/thinker/v1", "model": "double", "attempts": 2}}),
            "EDITTHINKER_LEASE_S": "1.5",
            **extra,
        }
        process = module("orchestrator", port or free_port(), tmp_path / "orchestrator.log", env=env)
        running.append(process)
        wait_ready(process, seconds=float(extra.get("TEST_READY_S", READY_S)))
        return process

    yield start
    for process in running:
        process.stop()


@pytest.fixture
def orchestrator(start_orchestrator: Start) -> Process:
    """One orchestrator."""
    return start_orchestrator()


@pytest.fixture
def api(orchestrator: Process) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as client:
        yield client

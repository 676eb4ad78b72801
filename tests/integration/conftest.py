"""A real Valkey, a real orchestrator process, and scriptable upstreams."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis as redis_client

from tests.doubles import leftovers
from tests.doubles.processes import READY_S, Process, free_port, module, redis_server, wait_ready
from tests.doubles.upstreams import Script, application, serving


@pytest.fixture(autouse=True)
def kept_processes() -> None:
    """See `tests.doubles.leftovers`."""
    leftovers.begin()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One Valkey for each test worker."""
    with redis_server(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture(scope="session")
def shared_script() -> Script:
    """What the doubles do; one object for all tests of a worker, reset by `script`."""
    return Script()


@pytest.fixture(scope="session")
def upstreams(shared_script: Script) -> Iterator[str]:
    """The doubles' base URL."""
    with serving(application(shared_script)) as url:
        yield url
        shared_script.release.set()


@pytest.fixture
def script(shared_script: Script) -> Script:
    """What the doubles of this test do."""
    shared_script.begin()
    return shared_script


def settings(redis: Process, upstreams: str, blobs: Path, **extra: str) -> dict[str, str]:
    """An orchestrator's environment: one editor, and the same thinker asked in each format."""
    thinker = {"url": f"{upstreams}/thinker/v1", "model": "double", "attempts": 2}
    thinkers = {
        "double": thinker,
        "double-json": {**thinker, "format": "json_schema"},
        "double-checklist": {**thinker, "format": "checklist"},
    }
    return {
        "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "EDITTHINKER_BLOBS": str(blobs),
        "EDITTHINKER_EDITORS": json.dumps({"double": {"url": f"{upstreams}/editor/v1", "attempts": 3}}),
        "EDITTHINKER_THINKERS": json.dumps(thinkers),
        "EDITTHINKER_JUDGES": json.dumps({"strict": {"url": f"{upstreams}/judge/v1", "model": "strict", "attempts": 2}}),
        "EDITTHINKER_LEASE_S": "3",
        # Scripts of the doubles say what each critique of a session is; tests of choosing set it.
        "EDITTHINKER_CONFIRMATIONS": "0",
        "EDITTHINKER_JUDGE_CHECK": "off",
        **extra,
    }


Start = Callable[..., Process]


@pytest.fixture
def start_orchestrator(redis: Process, upstreams: str, script: Script, tmp_path: Path) -> Iterator[Start]:
    """Starts orchestrator processes of this test's own, in a Redis database of its own; stops them at the end."""
    running: list[Process] = []
    database = f"redis://127.0.0.1:{redis.port}/1"
    redis_client.Redis(port=redis.port, db=1).flushdb()

    def start(port: int | None = None, **extra: str) -> Process:
        env = settings(redis, upstreams, tmp_path / "blobs", **{"EDITTHINKER_REDIS_URL": database, **extra})
        process = module("orchestrator", port or free_port(), tmp_path / "orchestrator.log", env=env)
        running.append(process)
        wait_ready(process, seconds=float(extra.get("TEST_READY_S", READY_S)))
        return process

    yield start
    for process in running:
        process.stop()


@pytest.fixture(scope="session")
def orchestrator(redis: Process, upstreams: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One orchestrator for every test that does not harm it."""
    folder = tmp_path_factory.mktemp("orchestrator")
    # Nobody takes over from it: a machine that is busy for longer than a short lease would make it repeat edits.
    env = settings(redis, upstreams, folder / "blobs", EDITTHINKER_LEASE_S="20")
    process = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
    wait_ready(process)
    yield process
    process.stop()


@pytest.fixture
def api(orchestrator: Process, redis: Process, script: Script) -> Iterator[httpx.Client]:
    """A client of it; sessions that a test leaves running are cancelled, and all are forgotten."""
    # Another test may just have made the shared Redis refuse writes, which the orchestrator notices every second.
    wait_ready(orchestrator)
    with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as client:
        yield client
        ends = time.monotonic() + 60
        while unfinished := [s["id"] for s in client.get("/v1/sessions?limit=100").json()["data"] if not s["finished_at"]]:
            assert time.monotonic() < ends, "a cancelled session does not end"
            for session_id in unfinished:
                client.post(f"/v1/sessions/{session_id}/cancel")
    redis_client.Redis(port=redis.port, db=0).flushdb()

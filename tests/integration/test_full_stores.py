"""Redis at its maxmemory, Redis that refuses writes, and a full disk: what ends sessions works, and the reason is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client
from redis.asyncio import Redis

from orchestrator.loop import events as ev
from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.ports.stores import Claim
from tests.doubles.processes import Process, free_port, redis_server
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_queues import Queues
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until


@pytest.fixture(scope="module")
def small_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A Valkey of this module's own, whose configuration the tests change."""
    with redis_server(tmp_path_factory.mktemp("small"), None, "--maxmemory-policy", "noeviction") as process:
        yield process


@pytest.fixture
def database(small_redis: Process) -> Iterator[Any]:
    """A client that may change the configuration; untyped, as the library is."""
    client: Any = redis_client.Redis(port=small_redis.port)
    yield client
    client.replicaof("NO", "ONE")
    for name in ("maxmemory", "min-replicas-to-write"):
        client.config_set(name, 0)
    client.flushall()


@pytest.fixture
async def queues(small_redis: Process, database: Any) -> AsyncGenerator[Queues]:
    client = Redis(port=small_redis.port)
    queues = Queues(client)
    await queues.wait(0)
    yield queues
    await client.aclose()


def finished() -> ev.Finished:
    return ev.Finished(at=1, reason="cancelled", best=None, totals=ev.Totals())


async def claimed(queues: Queues, name: str) -> Claim:
    await queues.create(name=name)
    return (await queues.claim()).claims[0]


async def test_what_ends_a_session_is_recorded_when_redis_is_full(queues: Queues, database: Any) -> None:
    """Cancelling, claiming, finishing, the lease, archiving and deleting; nothing new, and no turn."""
    claim, other = await claimed(queues, "ses"), await claimed(queues, "other")
    await queues.create(name="queued")
    database.config_set("maxmemory", 1)

    with pytest.raises(StorageUnavailableError, match=r"refuses writes \(out of memory\)"):
        await queues.create()
    turn = ev.TurnStarted(at=1, turn=1, instruction="x", author="caller", candidates=1, first_seed=0)
    with pytest.raises(StorageUnavailableError, match="out of memory"):
        await queues.store.append("ses", 1, [turn], claim.fence)
    assert await queues.store.append("ses", 1, [ev.CancelRequested(at=1)], None)
    assert await queues.store.append("ses", 2, [finished()], claim.fence)
    assert await queues.store.renew_lease("r")
    assert await queues.store.suspend(other, 1, queues.now / 1000 + 60)
    assert await queues.store.append("queued", 1, [ev.CancelRequested(at=1)], None)
    [cancelled] = (await queues.claim(0)).claims
    assert cancelled.session_id == "queued"
    assert await queues.store.append("queued", 2, [finished()], cancelled.fence)
    assert await queues.store.expire("queued", "ann", 60, None)
    assert await queues.store.delete("ses", "ann")
    assert [entry.event.type for entry in await queues.store.read("queued")] == [
        "session_created",
        "cancel_requested",
        "finished",
    ]
    stats = await queues.store.queue_stats()
    assert stats.unfinished == 1


async def test_a_refused_script_has_changed_nothing(queues: Queues, database: Any) -> None:
    claim = await claimed(queues, "ses")
    before = {key: database.dump(key) for key in database.scan_iter()}
    database.config_set("maxmemory", 1)

    edited = ev.Edited(
        at=1,
        turn=1,
        candidate=1,
        image=ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=1, height=1),
        editor_seconds=1,
    )
    with pytest.raises(StorageUnavailableError):
        await queues.store.append("ses", 1, [edited], claim.fence)
    with pytest.raises(StorageUnavailableError):
        await queues.create()
    database.config_set("maxmemory", 0)
    assert {key: database.dump(key) for key in database.scan_iter()} == before


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("maxmemory", "out of memory"), ("min-replicas-to-write", "too few of its replicas are connected")],
)
async def test_the_reason_of_a_refusal_is_told(queues: Queues, database: Any, setting: str, reason: str) -> None:
    assert (await queues.store.probe()).percent == 0
    database.config_set(setting, 1)

    with pytest.raises(StorageUnavailableError) as told:
        await queues.store.probe()
    assert told.value.shown == f"the session store refuses writes ({reason})"


async def test_a_server_that_became_a_replica_is_told_as_read_only(queues: Queues, database: Any) -> None:
    database.replicaof("127.0.0.1", 1)

    with pytest.raises(StorageUnavailableError, match="read-only"):
        await queues.store.probe()


def running(database: Any, **extra: str) -> dict[str, str]:
    return {"EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{database.connection_pool.connection_kwargs['port']}/0", **extra}


def samples(api: httpx.Client) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in api.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_a_full_redis_refuses_new_sessions_and_lets_others_end(start_orchestrator: Start, database: Any, script: Script) -> None:
    """With the reason in the answer, in /readyz and in the metrics; afterwards everything is as before."""
    script.hold_every = True
    process = start_orchestrator(**running(database))
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        held = create(api).json()
        waiting = create(api, review="each_turn").json()
        database.config_set("maxmemory", 1)
        until(lambda: api.get("/readyz").status_code == 503)

        assert "redis (the session store refuses writes (out of memory))" in api.get("/readyz").json()["error"]["message"]
        assert samples(api)['editthinker_storage_writable{store="redis"}'] == 0
        assert samples(api)['editthinker_storage_writable{store="blobs"}'] == 1
        refused = create(api)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
        assert "out of memory" in refused.json()["error"]["message"] and int(refused.headers["retry-after"]) > 1
        assert samples(api)['editthinker_sessions_refused_total{code="storage_unavailable"}'] == 1
        for session in (held, waiting):
            assert api.post(session["urls"]["cancel"]).status_code == 200
            until(lambda session=session: api.get(session["urls"]["self"]).json()["status"] == "cancelled")  # type: ignore[misc]
            assert api.delete(session["urls"]["self"]).status_code == 204

        database.config_set("maxmemory", 0)
        script.release.set()
        until(lambda: api.get("/readyz").status_code == 200)
        assert create(api, wait=20, max_turns=1).json()["status"] == "succeeded"


def test_new_sessions_are_refused_before_redis_is_full(start_orchestrator: Start, database: Any, script: Script) -> None:
    """Those that run are completed in the memory that is left; the replica stays ready."""
    script.hold_every = True
    process = start_orchestrator(**running(database))
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        held = create(api).json()
        # What is used to begin it would count against the limit.
        until(lambda: script.edits)
        used = int(database.info("memory")["used_memory"])
        database.config_set("maxmemory", int(used / 0.95))
        until(lambda: samples(api)["editthinker_redis_memory_percent"] > 90)

        refused = create(api)
        assert refused.status_code == 503 and "% full" in refused.json()["error"]["message"]
        assert api.get("/readyz").status_code == 200
        script.release.set()
        until(lambda: api.get(held["urls"]["self"]).json()["status"] == "succeeded")


def test_a_full_disk_is_told(start_orchestrator: Start, database: Any) -> None:
    """A limit on free bytes that no disk has stands for it."""
    process = start_orchestrator(EDITTHINKER_BLOBS_FREE_BYTES="0", **running(database))
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        assert api.get("/readyz").json()["checks"]["blobs"] is True
    process.stop()
    with pytest.raises(AssertionError, match="not ready"):
        start_orchestrator(EDITTHINKER_BLOBS_FREE_BYTES=str(10**18), TEST_READY_S="3", **running(database))


def test_a_redis_that_evicts_is_refused_at_the_start(start_orchestrator: Start, database: Any, tmp_path: Path) -> None:
    """The reason is in the log."""
    database.config_set("maxmemory", 10**9)
    database.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(AssertionError, match="not ready"):
            start_orchestrator(**running(database))
        assert "maxmemory-policy is allkeys-lru" in (tmp_path / "orchestrator.log").read_text()
    finally:
        database.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_redis_that_refuses_the_password_is_told_as_that(
    start_orchestrator: Start, tmp_path: Path, password: str | None
) -> None:
    """By /readyz; "cannot be reached" would send its operator to the network."""
    port = free_port()
    given = {"EDITTHINKER_REDIS_PASSWORD": password} if password else {}
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis", None, "--requirepass", "right") as redis:
        url = f"redis://127.0.0.1:{redis.port}/0"
        with pytest.raises(AssertionError, match="not ready"):
            start_orchestrator(port, EDITTHINKER_REDIS_URL=url, TEST_READY_S="2", **given)
        with httpx.Client(trust_env=False, timeout=20, transport=httpx.HTTPTransport(retries=8)) as api:
            ready = f"http://127.0.0.1:{port}/readyz"
            # Not before it has tried to write, for the first time after its start.
            until(lambda: "redis (the session store refuses this server: wrong password" in api.get(ready).text, 60)
            assert api.get(ready).status_code == 503
        until(lambda: "set EDITTHINKER_REDIS_PASSWORD" in (tmp_path / "orchestrator.log").read_text("utf-8"))

"""Sessions that cannot be driven: one that kills its drivers, and one whose log cannot be read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client

from orchestrator.loop import events as ev
from orchestrator.ports.stores import Claim
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.doubles.redis_fleet import until
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start, settings
from tests.integration.test_queues import LEASE_MS, Queues, queues  # noqa: F401 - a fixture
from tests.integration.test_sessions import create

KEYS = KeySpace()


async def _die(queues: Queues, dead: str) -> Claim:  # noqa: F811
    """Claim the only session, and die; another replica is heard all the time."""
    (claim,) = (await queues.claim(replica=dead)).claims
    for _ in range(4):
        await queues.wait(LEASE_MS // 3)
        await queues.claim(0, urgent=0, replica="living")
    return claim


async def test_claims_of_replicas_that_died_are_counted(queues: Queues) -> None:  # noqa: F811
    """An event of a driver restarts the count; a caller's does not."""
    await queues.create()
    died = [await _die(queues, f"r{number}") for number in range(3)]
    (fourth,) = (await queues.claim()).claims
    assert [claim.attempts for claim in (*died, fourth)] == [1, 2, 3, 4]
    assert (fourth.seq, fourth.at, fourth.deadline_at) == (
        1,
        queues.now / 1000,
        (queues.now - 3 * 4 * (LEASE_MS // 3)) / 1000 + 600.001,
    )

    feedback = ev.FeedbackGiven(at=1, action="go_on")
    assert await queues.store.append("ann-001", 1, [feedback], None)
    for _ in range(4):
        await queues.wait(LEASE_MS // 3)
        await queues.claim(0, urgent=0, replica="living")
    (fifth,) = (await queues.claim(replica="other")).claims
    assert fifth.attempts == 5
    started = ev.TurnStarted(at=1, turn=1, instruction="x", author="caller", candidates=1, first_seed=0)
    assert await queues.store.append("ann-001", 2, [started], fifth.fence)
    for _ in range(4):
        await queues.wait(LEASE_MS // 3)
        await queues.claim(0, urgent=0, replica="living")
    (sixth,) = (await queues.claim()).claims
    assert sixth.attempts == 1


async def test_claims_that_no_driver_died_of_are_not_counted(queues: Queues) -> None:  # noqa: F811
    """A lost answer, a session that was given back before it was driven; a driver that failed because of a bug is counted."""
    await queues.create()
    await queues.claim()
    await queues.store.release("r", "ann-001")
    (second,) = (await queues.claim()).claims
    assert second.attempts == 1
    await queues.store.release("r", "ann-001", failed=True)
    (third,) = (await queues.claim()).claims
    assert third.attempts == 2
    assert await queues.store.suspend(third, 1, 0, untried=True)
    await queues.wait(250)
    (fourth,) = (await queues.claim()).claims
    assert fourth.attempts == 2
    assert await queues.store.suspend(fourth, 1, None)
    assert (await queues.claim()).claims[0].attempts == 1


@contextmanager
def _replica(redis: Process, upstreams: str, folder: Path) -> Iterator[Process]:
    """A replica that is killed by driving a session with the instruction "poison"."""
    url = f"redis://127.0.0.1:{redis.port}/6"
    env = settings(redis, upstreams, folder / "blobs", EDITTHINKER_REDIS_URL=url, EDITTHINKER_LEASE_S="1")
    port = free_port()
    process = module("tests.doubles.replica", port, folder / "log", env=env)
    try:
        yield process
    finally:
        process.stop()


def test_a_session_that_kills_its_drivers_is_finished_after_three(
    redis: Process, upstreams: str, script: Script, tmp_path: Path
) -> None:
    """With an error and a metric. The fourth replica lives, and other sessions succeed."""
    redis_client.Redis(port=redis.port, db=6).flushdb()
    script.hold_every = True
    with _replica(redis, upstreams, tmp_path) as first:
        wait_ready(first)
        with httpx.Client(base_url=first.url, timeout=30, trust_env=False) as api:
            innocent = create(api, max_turns=1).json()["id"]
            until(lambda: script.edits, "the innocent session is driven")
            with contextlib.suppress(httpx.RemoteProtocolError):  # it may die before it answers
                create(api, prompt="poison")
        first.popen.wait(120)
    for _ in range(2):
        with _replica(redis, upstreams, tmp_path) as process:
            process.popen.wait(120)
    script.release.set()
    with _replica(redis, upstreams, tmp_path) as last:
        wait_ready(last)
        with httpx.Client(base_url=last.url, timeout=30, trust_env=False) as api:
            listed = api.get("/v1/sessions").json()["data"]
            (poison,) = (session["id"] for session in listed if session["id"] != innocent)
            until(lambda: api.get(f"/v1/sessions/{poison}").json()["finished_at"], "the poison session ends")
            until(lambda: api.get(f"/v1/sessions/{innocent}").json()["finished_at"], "the innocent one ends")
            ended, other = (api.get(f"/v1/sessions/{name}").json() for name in (poison, innocent))
            metrics = api.get("/metrics").text
        assert last.popen.poll() is None

    assert (ended["status"], ended["error"]["code"]) == ("failed", "driver_crashed")
    assert other["status"] == "succeeded"
    assert 'editthinker_sessions_quarantined_total{code="driver_crashed"} 1.0' in metrics


def _write(database: redis_client.Redis, session_id: str, text: str) -> None:
    """Append to a log what no version of this server writes."""
    seq = database.hincrby(KEYS.meta(session_id), "seq", 1)
    database.xadd(KEYS.log(session_id), {"e": text}, id=f"{seq}-0")


@pytest.mark.parametrize(
    "text", ['{"type":"from_the_future","at":1}', "not JSON", '{"type":"turn_started","at":1,"instruction_at":99}']
)
def test_a_session_whose_log_cannot_be_read_is_seen_cancelled_and_deleted(
    redis: Process, start_orchestrator: Start, script: Script, text: str
) -> None:
    """It shows what came before, ends without being read when it is cancelled, is archived as it is, and can be deleted."""
    script.hold_every = True
    orchestrator = start_orchestrator()
    database = redis_client.Redis(port=redis.port, db=1)
    with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as api:
        session_id = create(api).json()["id"]
        until(lambda: script.edits, "it is driven")
        _write(database, session_id, text)
        path = f"/v1/sessions/{session_id}"
        seen = api.get(path)
        listed = api.get("/v1/sessions").json()
        running = [session["id"] for session in api.get("/v1/sessions?status=running").json()["data"]]
        early = api.delete(path)
        cancelled = api.post(f"{path}/cancel")
        until(lambda: api.get(path).json()["status"] == "failed", "it ends")
        until(lambda: database.get(KEYS.unfinished) == b"0", "it is no longer counted")
        until(lambda: database.pttl(KEYS.log(session_id)) > 0, "it is archived")
        database.delete(KEYS.log(session_id), KEYS.meta(session_id))
        archived = api.get(path)
        failed = [session["id"] for session in api.get("/v1/sessions?status=failed").json()["data"]]
        feedback = api.post(f"{path}/feedback", json={"action": "go_on"})
        deleted = api.delete(path)
        after = api.get(path)
        metrics = api.get("/metrics").text

    assert (seen.status_code, seen.json()["status"], seen.json()["error"]["code"]) == (200, "running", "session_unreadable")
    assert [(session["id"], session["error"]["code"], session["turns"]) for session in listed["data"]] == [
        (session_id, "session_unreadable", [])
    ]
    assert (running, failed, listed["unreadable"]) == ([session_id], [session_id], [])
    assert early.status_code == 409
    assert (cancelled.status_code, cancelled.json()["error"]["code"]) == (200, "session_unreadable")
    assert (archived.status_code, archived.json()["error"]["code"]) == (200, "session_unreadable")
    assert (feedback.status_code, feedback.json()["error"]["code"]) == (500, "session_unreadable")
    assert (deleted.status_code, after.status_code) == (204, 404)
    assert 'editthinker_sessions_quarantined_total{code="session_unreadable"} 1.0' in metrics


def test_a_first_event_that_cannot_be_read_is_an_error_for_its_tenant(
    redis: Process, start_orchestrator: Start, script: Script
) -> None:
    """There is nothing to show. It ends at its deadline, which Redis knows, and can be deleted."""
    script.hold_every = True
    orchestrator = start_orchestrator()
    database: Any = redis_client.Redis(port=redis.port, db=1)  # untyped, as the library is
    with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as api:
        session_id = create(api, deadline_s=5).json()["id"]
        until(lambda: script.edits, "it is driven")
        log = database.xrange(KEYS.log(session_id))
        database.delete(KEYS.log(session_id))
        for number, _ in log:
            database.xadd(KEYS.log(session_id), {"e": json.dumps({"type": "session_created"})}, id=number)
        seen = api.get(f"/v1/sessions/{session_id}")
        listed = [api.get("/v1/sessions", params=params).json() for params in ({}, {"status": "running"})]
        until(lambda: database.get(KEYS.unfinished) == b"0", "it ends")
        deleted = api.delete(f"/v1/sessions/{session_id}")

    assert (seen.status_code, seen.json()["error"]["code"]) == (500, "session_unreadable")
    assert [(page["data"], page["unreadable"]) for page in listed] == [([], [session_id]), ([], [])]
    assert deleted.status_code == 204

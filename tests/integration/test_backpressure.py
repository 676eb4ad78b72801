"""A full editor: what waits is in Redis, knows its place, and needs no editor to be cancelled or to run out of time."""

from __future__ import annotations

import json

import httpx
import pytest
import redis as redis_client

from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until


@pytest.fixture
def full(start_orchestrator: Start, upstreams: str, script: Script) -> Process:
    """An orchestrator that keeps one edit in flight, at an editor that holds every edit."""
    script.hold_every = True
    editor = {"url": f"{upstreams}/editor/v1", "attempts": 3, "max_in_flight": 1}
    # A lease that a busy machine does not lose, which would make it repeat edits.
    return start_orchestrator(EDITTHINKER_EDITORS=json.dumps({"double": editor}), EDITTHINKER_LEASE_S="20")


def fill(api: httpx.Client, script: Script, count: int, **fields: object) -> list[str]:
    """Ids of so many sessions: the first one's edit is in flight, the second one waits for its place, the others are queued."""
    ids = [create(api, **fields).json()["id"]]
    until(lambda: len(script.edits) == 1)
    ids += [create(api, **fields).json()["id"] for _ in range(count - 1)]
    until(lambda: "editthinker_sessions_driving 2.0" in api.get("/metrics").text)
    return ids


def test_a_queued_session_knows_its_place(full: Process, script: Script) -> None:
    """One edit is in flight, one session waits in the replica, and the others stand in line in the order of their arrival."""
    with httpx.Client(base_url=full.url, timeout=30, trust_env=False) as api:
        ids = fill(api, script, 6)
        sessions = [api.get(f"/v1/sessions/{name}").json() for name in ids]
        metrics = api.get("/metrics").text
        script.release.set()
        until(lambda: all(api.get(f"/v1/sessions/{name}").json()["finished_at"] for name in ids))

    assert [session["queue"] and session["queue"]["ahead"] for session in sessions] == [None, None, 0, 1, 2, 3]
    assert [session["status"] for session in sessions[2:]] == ["queued"] * 4
    assert 'editthinker_sessions_queued{editor="double"} 4.0' in metrics
    assert 'editthinker_edits_in_flight{editor="double"} 1.0' in metrics


def test_what_began_is_finished_before_anything_new_begins(full: Process, script: Script) -> None:
    """Of ten sessions few are under way at a time: one edit, one queued for it, and those whose reply is checked or judged."""
    script.scores = [(3, 9)]
    with httpx.Client(base_url=full.url, timeout=30, trust_env=False) as api:
        ids = [create(api, max_turns=3, patience=9).json()["id"] for _ in range(10)]
        script.release.set()
        until(lambda: all(api.get(f"/v1/sessions/{name}").json()["finished_at"] for name in ids), 60)
    order = [edit["key"].partition("/")[0] for edit in script.edits]
    under_way = [sum(name in order[: i + 1] and name in order[i + 1 :] for name in ids) for i in range(len(order))]

    assert sorted(order) == sorted(ids * 3)
    assert max(under_way) <= 6


def test_a_queued_session_is_cancelled_at_once(full: Process, script: Script) -> None:
    """Although the editor is full and stays so."""
    with httpx.Client(base_url=full.url, timeout=30, trust_env=False) as api:
        ids = fill(api, script, 5)
        api.post(f"/v1/sessions/{ids[3]}/cancel")
        until(lambda: api.get(f"/v1/sessions/{ids[3]}").json()["status"] == "cancelled")
        behind = api.get(f"/v1/sessions/{ids[4]}").json()
        for name in reversed(ids):
            api.post(f"/v1/sessions/{name}/cancel")
            until(lambda name=name: api.get(f"/v1/sessions/{name}").json()["status"] == "cancelled")  # type: ignore[misc]
        until(lambda: all(api.get(f"/v1/sessions/{name}").json()["status"] == "cancelled" for name in ids))
        spent = [api.get(f"/v1/sessions/{name}").json()["totals"]["editor_seconds"] for name in ids]

    assert spent[0] > 0
    assert spent[1:] == [0, 0, 0, 0]  # the second had begun, but waited for its place at the editor
    assert behind["queue"]["ahead"] == 1
    assert len(script.edits) == 1


def test_a_queued_session_ends_at_its_deadline(full: Process, script: Script) -> None:
    """Nobody finds it still in line afterwards."""
    with httpx.Client(base_url=full.url, timeout=30, trust_env=False) as api:
        ids = fill(api, script, 3)
        late = create(api, deadline_s=1).json()["id"]
        until(lambda: api.get(f"/v1/sessions/{late}").json()["finished_at"])
        session = api.get(f"/v1/sessions/{late}").json()
        for name in ids:
            api.post(f"/v1/sessions/{name}/cancel")

    assert session["finish_reason"] == "deadline"
    assert session["totals"]["edits"] == 0


def test_who_would_wait_beyond_the_deadline_is_refused(full: Process, redis: Process, script: Script) -> None:
    """429 with the time after which it is worth trying again; nothing is left of the session."""
    keys = KeySpace()
    with httpx.Client(base_url=full.url, timeout=30, trust_env=False) as api:
        ids = fill(api, script, 5)
        # The pace of a minute with a line: a session every twenty seconds.
        server = redis_client.Redis(port=redis.port, db=1)
        now = server.time()[0] * 1000
        server.hset(f"{keys.prefix}pace:double", mapping={"ms": 20_000, "at": now})
        told = api.get(f"/v1/sessions/{ids[4]}").json()["queue"]
        refused = create(api, deadline_s=30)
        taken = create(api, deadline_s=600)
        count = len(api.get("/v1/sessions").json()["data"])
        for name in [*ids, taken.json()["id"]]:
            api.post(f"/v1/sessions/{name}/cancel")

    assert told == {"ahead": 2, "wait_s": 60.0}
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "overloaded"
    assert "beyond the deadline of 30 s" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "50"
    assert taken.status_code == 202
    assert count == 6

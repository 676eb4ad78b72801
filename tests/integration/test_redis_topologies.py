"""A cluster and a sentinel in place of one server: the same sessions, and another server takes over in the middle of one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from orchestrator.store.connect import parse
from tests.doubles.redis_fleet import RedisFleet, cluster, until, watched
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create


@pytest.mark.parametrize("topology", [cluster, watched])
def test_a_session_outlives_the_server_that_held_it(
    topology: Callable[[Path], AbstractContextManager[RedisFleet]], tmp_path: Path, start_orchestrator: Start, script: Script
) -> None:
    """kill -9 in turn 2; its replica takes over, and the session goes on without a gap or a step done twice."""
    script.hold_edit = 2
    with topology(tmp_path) as fleet:
        orchestrator = start_orchestrator(EDITTHINKER_REDIS_URL=fleet.url)
        with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as api:
            session_id = create(api).json()["id"]
            until(lambda: len(script.edits) == 2, "turn 2's edit is asked for")
            fleet.master.kill()
            until(fleet.promoted, "the replica takes over")
            script.release.set()
            until(lambda: api.get(f"/v1/sessions/{session_id}").json().get("finished_at"), "the session is finished")
            session = api.get(f"/v1/sessions/{session_id}").json()
            events = api.get(f"/v1/sessions/{session_id}/events")
        orchestrator.stop()

    ids = [int(line[4:]) for line in events.text.splitlines() if line.startswith("id: ")]
    assert session["finish_reason"] == "satisfied"
    assert ids == list(range(1, session["last_event"] + 1))
    assert [len(turn["candidates"]) for turn in session["turns"]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://127.0.0.1:6379", "must begin with"),
        ("redis+raft://127.0.0.1:6379", "not known"),
        ("redis+sentinel://127.0.0.1:26379", "needs the name"),
        ("redis+sentinel://127.0.0.1:26379/name/x", "no number"),
        ("redis+cluster://127.0.0.1:6379/0", "takes no path"),
        ("redis+cluster://:pass@", "is no host"),
        ("redis+cluster://127.0.0.1:6379,,", "is no host"),
    ],
)
def test_a_wrong_address_is_explained(url: str, complaint: str) -> None:
    """Before anything connects."""
    with pytest.raises(ValueError, match=complaint):
        parse(url)


def test_every_part_of_an_address_is_read() -> None:
    """Hosts with and without port, IPv6, credentials, database, TLS."""
    address = parse("rediss+sentinel://us%40er:p%3Aw@one,[::1]:7/shop/3")

    assert address.kind == "sentinel"
    assert address.hosts == (("one", 26379), ("::1", 7))
    assert address.service == "shop"
    assert dict(address.options) == {"ssl": True, "username": "us@er", "password": "p:w", "db": 3}

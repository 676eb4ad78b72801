"""A cluster and a sentinel in place of one server: the same sessions, and another server takes over in the middle of one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from orchestrator.store.connect import client, parse
from orchestrator.store.keys import RedisKeys
from orchestrator.store.rates import RedisRates
from orchestrator.store.scripts import Keys
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


@pytest.mark.parametrize("topology", [cluster, watched])
async def test_keys_and_rates_work_there_too(
    topology: Callable[[Path], AbstractContextManager[RedisFleet]], tmp_path: Path
) -> None:
    """Whatever is asked for lies in the one slot that is ours."""
    with topology(tmp_path) as fleet:
        redis = client(parse(fleet.url))
        try:
            keys, rates = RedisKeys(redis, Keys()), RedisRates(redis, Keys())
            secret, key = await keys.create("ann", ["read"])
            assert await keys.find(secret) == key == (await keys.all())[0]
            assert await keys.shared_secret("links") == await RedisKeys(redis, Keys()).shared_secret("links")
            waits = [await rates.hit("2/hour;100/day", "ann") for _ in range(3)]
            assert waits[:2] == [None, None]
            assert waits[2] is not None and 1 <= waits[2] <= 3600
            assert await rates.hit("2/hour", "bob") is None
            assert await keys.revoke(key.id)
            assert await RedisKeys(redis, Keys()).find(secret) is None
        finally:
            await redis.aclose()
            # The library leaves its own connections to sentinels open.
            manager = getattr(getattr(redis, "connection_pool", None), "sentinel_manager", None)
            for sentinel in manager.sentinels if manager else ():
                await sentinel.aclose()


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

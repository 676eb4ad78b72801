"""A cluster and a sentinel in place of one server: the same sessions, and another server takes over in the middle of one."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from orchestrator.api.intake import Intake
from orchestrator.loop.events import Limits
from orchestrator.ports.stores import Bounds, Idempotency
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.connection import client, listeners, parse, redis_call
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.rates import RedisRateLimiter
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions
from tests.doubles.images import checked
from tests.doubles.processes import free_port
from tests.doubles.redis_fleet import RedisFleet, alone, cluster, until, watched
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create
from tests.unit.orchestrator.test_intake import EVENT, Folders


@pytest.mark.parametrize("topology", [cluster, watched])
def test_a_session_outlives_the_server_that_held_it(
    topology: Callable[[Path], AbstractContextManager[RedisFleet]], tmp_path: Path, start_orchestrator: Start, script: Script
) -> None:
    """kill -9 in turn 2; its replica takes over, and the session continues without a gap or a repeated step."""
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
    """All keys lie in one cluster slot."""
    with topology(tmp_path) as fleet:
        redis = client(parse(fleet.url))
        try:
            keys, rates = ApiKeyStore(redis, KeySpace()), RedisRateLimiter(redis, KeySpace())
            secret, key = await keys.create("ann", ["read"])
            assert await keys.find(secret) == key == (await keys.all())[0]
            assert await keys.shared_secret("links") == await ApiKeyStore(redis, KeySpace()).shared_secret("links")
            hits = [await rates.hit("2/hour;100/day", "ann") for _ in range(3)]
            assert [within for within, _ in hits] == [True, True, False]
            hour, day = hits[2][1]
            assert (hour.name, hour.limit, hour.window_s, hour.remaining) == ("hour", 2, 3600, 0)
            assert 1 <= hour.reset_s <= 3600
            assert (day.name, day.limit, day.window_s, day.remaining) == ("day", 100, 86_400, 98)
            assert (await rates.hit("2/hour", "bob"))[0]
            assert await keys.revoke(key.id)
            assert await ApiKeyStore(redis, KeySpace()).find(secret) is None
        finally:
            await redis.aclose()
            # The library leaves its own connections to sentinels open.
            manager = getattr(getattr(redis, "connection_pool", None), "sentinel_manager", None)
            for sentinel in manager.sentinels if manager else ():
                await sentinel.aclose()


def test_a_cluster_without_any_node_for_a_while_ends_nothing(tmp_path: Path, start_orchestrator: Start, script: Script) -> None:
    """Its client raises exceptions that are not RedisErrors. Once a node is back, sessions are claimed and driven as before."""
    with alone(tmp_path) as node:
        orchestrator = start_orchestrator(EDITTHINKER_REDIS_URL=node.url)
        with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as api:
            node.kill()
            until(lambda: "reachable node" in orchestrator.log.read_text(), "no node can be reached")
            until(lambda: "cannot renew the lease" in orchestrator.log.read_text(), "nor the lease renewed")
            node.start()
            until(lambda: api.get("/readyz").status_code == 200, "the orchestrator is ready again")
            session = create(api, wait=20).json()
            health = api.get("/healthz")
        orchestrator.stop()

    assert session["finish_reason"] == "satisfied"
    assert health.status_code == 200


class Forgetful:
    """A proxy between client and server that loses the answer to the next script, and the connection, on demand."""

    def __init__(self, server: int) -> None:
        self.server = server
        self.losing = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self.server)
        asked = b""

        async def ask() -> None:
            nonlocal asked
            while asked := await reader.read(65_536):
                forth.write(asked)

        async def answer() -> None:
            while answered := await back.read(65_536):
                if self.losing and b"EVALSHA" in asked:
                    self.losing = False
                    return
                writer.write(answered)

        tasks = {asyncio.create_task(ask()), asyncio.create_task(answer())}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for stream in (writer, forth):
            stream.close()


async def test_a_create_whose_answer_is_lost_keeps_its_source(tmp_path: Path) -> None:
    """A cluster's client repeats it on its own; under an idempotency key it finds itself and is not taken for a repeat."""
    listening = free_port()
    with alone(tmp_path, announced=listening) as node:
        between = Forgetful(node.port)
        server = await asyncio.start_server(between.serve, "127.0.0.1", listening)
        redis = client(parse(node.url))
        folders = Folders()
        store = RedisSessions(redis, PubSubFanout(listeners(parse(node.url))), KeySpace())
        intake = Intake(store, folders, None, None, None, None)  # type: ignore[arg-type]  # what recording needs
        try:
            event = EVENT.model_copy(update={"limits": Limits(deadline_at=time.time() + 600)})
            await intake._record([checked()], event, None, Bounds())  # the scripts are loaded
            between.losing = True
            created = await intake._record([checked()], event, Idempotency("key", "f"), Bounds())
            again = await intake._record([checked()], event, Idempotency("key", "f"), Bounds())
        finally:
            await redis.aclose()
            server.close()

    assert not between.losing
    assert created.fresh and not again.fresh
    assert again.session_id == created.session_id
    assert len(folders.there) == 2 and created.session_id in folders.there


@pytest.mark.parametrize(("asked", "user"), [("sesame", ""), ("", ""), ("", "shop")])
async def test_sentinels_are_asked_with_the_servers_password_or_without(tmp_path: Path, asked: str, user: str) -> None:
    """Both are common: one password for everything, and one for the servers alone, whose users a sentinel does not know."""
    with watched(tmp_path, password="sesame", asked=asked) as fleet:
        if user:
            server = Redis(port=fleet.master.port, password="sesame")
            server.execute_command("ACL", "SETUSER", user, "on", ">sesame", "+@all")  # type: ignore[no-untyped-call]  # as the library has it
        redis = client(parse(fleet.url.replace(":sesame@", f"{user}:sesame@")))
        try:
            assert await redis.ping()
        finally:
            await redis.aclose()
            pool: Any = redis.connection_pool  # the sentinels' own connections are left open by the library
            await pool.sentinel_manager.aclose()


async def test_an_unresponsive_sentinel_does_not_use_up_the_time(tmp_path: Path) -> None:
    """The next one is asked within the timeout of a call."""
    with watched(tmp_path) as fleet, socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        redis = client(parse(fleet.url.replace("://", f"://{host},", 1)))
        try:
            async with redis_call():
                assert await redis.ping()
        finally:
            await redis.aclose()
            pool: Any = redis.connection_pool  # the sentinels' own connections are left open by the library
            await pool.sentinel_manager.aclose()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://127.0.0.1:6379", "must begin with"),
        ("redis+raft://127.0.0.1:6379", "not known"),
        ("redis+sentinel://127.0.0.1:26379", "needs the name"),
        ("redis+sentinel://127.0.0.1:26379/name/x", "not a number"),
        ("redis+cluster://127.0.0.1:6379/0", "takes no path"),
        ("redis+cluster://:pass@", "is not a host"),
        ("redis+cluster://127.0.0.1:6379,,", "is not a host"),
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

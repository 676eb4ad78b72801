"""A Redis that failed over to a replica behind it: what followers are told, and what waiting for replicas costs and saves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client
from redis.asyncio import Redis

from editthinker import EditThinker
from orchestrator.api import live
from orchestrator.api.live import HistoryLostError, SessionDeletedError, follow, until_finished
from orchestrator.loop import events as ev
from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.ports.stores import Recorded, Wanted
from orchestrator.store.connection import client, parse
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions, SessionsOptions
from tests.doubles.processes import Process
from tests.doubles.redis_fleet import OUR_SLOT, _server, cluster, until
from tests.doubles.tcp_proxy import Fault, ThreadProxy, running
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_driver_under_faults import IMAGE
from tests.integration.test_sessions import create

KEYS = KeySpace()


class Following:
    """A store whose log is replaced while it is followed."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.pubsub = PubSubFanout(lambda: redis)
        self.store = RedisSessions(redis, self.pubsub, KEYS)

    async def write(self, *events: ev.Event) -> None:
        await self.redis.delete(KEYS.log("a"))
        for number, event in enumerate(events, 1):
            await self.redis.xadd(KEYS.log("a"), {"e": event.model_dump_json()}, id=f"{number}-0")

    async def gap(self) -> None:
        """As after a reconnect."""
        self.pubsub._deliver(KEYS.live("a"), b"")


CREATED = ev.SessionCreated(at=1, source=IMAGE, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=9e9))
TURN = ev.TurnStarted(at=2, turn=1, instruction="x", author="caller", candidates=1, first_seed=0)
STARTED = ev.EditStarted(at=3, turn=1, candidate=1, attempt=1, key="a/1/1", seed=0)
FINISHED = ev.Finished(at=4, reason="cancelled", best=None, totals=ev.Totals())


@pytest.fixture
async def following(redis: Process) -> AsyncGenerator[Following]:
    """In a database of its own."""
    db = Redis(port=redis.port, db=8)
    await db.flushdb()
    yield Following(db)
    await db.aclose()


@pytest.mark.parametrize("rest", [[], [CREATED], [CREATED, TURN.model_copy(update={"at": 2.5})], [CREATED, STARTED, STARTED]])
async def test_a_follower_is_told_that_its_log_is_gone(following: Following, rest: list[ev.Event]) -> None:
    """It was deleted; it is shorter than what was sent; it is as long, or longer, with other events."""
    await following.write(CREATED, TURN)
    events = follow(following.store, "a")
    assert [(await anext(events)).seq for _ in range(2)] == [1, 2]  # type: ignore[union-attr]  # no heartbeat yet
    await following.write(*rest)
    await following.gap()
    with pytest.raises(HistoryLostError if rest else SessionDeletedError):
        await anext(events)


async def test_a_log_that_goes_on_is_followed(following: Following) -> None:
    """After a gap, too, and when nothing is new."""
    await following.write(CREATED, TURN)
    events = follow(following.store, "a", 1)
    assert (await anext(events)).seq == 2  # type: ignore[union-attr]  # as above
    await following.gap()
    assert await anext(events) is None
    await following.write(CREATED, TURN, STARTED, FINISHED)
    await following.gap()
    assert [event.seq async for event in events if event] == [3, 4]


async def test_a_caller_who_waits_gets_the_end_of_the_log_that_there_is(following: Following) -> None:
    """Not a mixture of both."""
    await following.write(CREATED, TURN, STARTED)
    waiting = asyncio.create_task(until_finished(following.store, "a"))
    while not following.pubsub._queues:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await following.write(CREATED, FINISHED)
    while not waiting.done():
        await following.gap()
        await asyncio.sleep(0.01)
    session, seq = await waiting

    assert (session.turns, seq) == ((), 2)


async def test_an_outage_is_counted_from_its_own_beginning(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from that of the call, which may wait for minutes."""
    monkeypatch.setattr(live, "_OUTAGE_S", 0.2)
    await following.write(CREATED, TURN)
    waiting = asyncio.create_task(live.until_finished(following.store, "a"))
    await asyncio.sleep(0.4)  # longer than an outage may take
    read, failures = following.store.read, iter([True])

    async def failing(session_id: str, after: int = 0) -> list[Recorded]:
        if next(failures, False):
            raise StorageUnavailableError("Redis is away")
        return await read(session_id, after)

    monkeypatch.setattr(following.store, "read", failing)
    await following.write(CREATED, TURN, FINISHED)
    await following.gap()

    assert (await waiting)[1] == 3


def test_clients_start_again_when_events_were_lost(start_orchestrator: Start, redis: Process, script: Script) -> None:
    """The stream says so and ends; ours, and a browser, come back without an id and get the events that there are."""
    script.hold_every = True
    orchestrator = start_orchestrator()
    database: Any = redis_client.Redis(port=redis.port, db=1)  # untyped, as the library is
    with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as api:
        session = create(api, max_turns=1).json()
        until(lambda: script.edits, "it is driven")
        ahead = api.get(session["urls"]["events"], headers={"Last-Event-ID": "9"}).text
        with EditThinker(orchestrator.url) as ours:
            events = ours.sessions.events(session["id"])
            seen = [next(events).type for _ in range(3)]
            kept = database.xrange(KEYS.log(session["id"]), max="2-0")
            database.delete(KEYS.log(session["id"]))
            for number, fields in kept:
                database.xadd(KEYS.log(session["id"]), fields, id=number)
            database.hset(KEYS.meta(session["id"]), "seq", 2)
            database.publish(KEYS.live(session["id"]), "")
            seen += [next(events).type for _ in range(3)]
            script.release.set()
            seen += [event.type for event in events]

    assert ahead == 'retry: 1000\n\nid: 0\nevent: reset\ndata: {"seq":0,"type":"reset"}\n\n'
    assert seen[:6] == ["session_created", "turn_started", "edit_started", "reset", "session_created", "turn_started"]
    assert seen[-1] == "finished"
    assert seen.count("edited") == 1


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[tuple[Process, ThreadProxy]]:
    """A server, and the network between it and its replica."""
    with ExitStack() as stack:
        master = _server(tmp_path)
        stack.callback(master.stop)
        proxy = stack.enter_context(running("127.0.0.1", master.port))
        replica = _server(tmp_path, "--replicaof", "127.0.0.1", str(proxy.port))
        stack.callback(replica.stop)
        replied: Any = redis_client.Redis(port=replica.port)
        until(lambda: replied.info("replication")["master_link_status"] == "up", "the replica follows")
        yield master, proxy


async def test_a_new_session_waits_for_replicas_where_that_is_asked_for(replicated: tuple[Process, ThreadProxy]) -> None:
    """Without their confirmation it is recorded but not acknowledged, and a repeat under its key finds it."""
    master, proxy = replicated
    redis = client(parse(f"redis://127.0.0.1:{master.port}"))
    plain = RedisSessions(redis, PubSubFanout(lambda: redis), KEYS)
    careful = RedisSessions(redis, PubSubFanout(lambda: redis), KEYS, SessionsOptions(replicas=1, replicas_s=0.2))
    patient = RedisSessions(redis, PubSubFanout(lambda: redis), KEYS, SessionsOptions(replicas=1, replicas_s=20))
    event = CREATED.model_copy(update={"limits": ev.Limits(deadline_at=time.time() + 600)})
    await patient.create("a", event, None)
    proxy.set(Fault("stall"))
    assert (await plain.create("b", event, None)).fresh
    with pytest.raises(StorageUnavailableError, match="did not confirm it in time"):
        await careful.create("c", event, None)
    assert not await careful.confirm()
    proxy.set(Fault())
    while not await patient.confirm():
        pass
    assert (await patient.create("c", event, None)).fresh
    assert (await careful.queue_stats()).unfinished == 3
    await redis.aclose()


async def test_scripts_wait_while_a_cluster_moves_their_slot(tmp_path: Path) -> None:
    """Half of the keys here, half there: nothing runs that would make one of them again. Afterwards everything is there."""
    with cluster(tmp_path) as fleet:
        source: Any = redis_client.Redis(port=fleet.master.port)
        port = int(fleet.url.rpartition(":")[2])
        target: Any = redis_client.Redis(port=port)
        names = [node.execute_command("CLUSTER", "MYID").decode() for node in (source, target)]
        redis = client(parse(fleet.url))
        store = RedisSessions(redis, PubSubFanout(lambda: redis), KEYS)
        event = CREATED.model_copy(update={"limits": ev.Limits(deadline_at=time.time() + 600)})
        for number in range(5):
            await store.create(f"s-{number}", event, None)
        keys = sorted(source.execute_command("CLUSTER", "GETKEYSINSLOT", OUR_SLOT, 1000))
        target.execute_command("CLUSTER", "SETSLOT", OUR_SLOT, "IMPORTING", names[0])
        source.execute_command("CLUSTER", "SETSLOT", OUR_SLOT, "MIGRATING", names[1])

        def move(some: list[bytes]) -> None:
            source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *some)

        for moved in (0, len(keys) // 2, len(keys)):
            move(keys[:moved]) if moved else None
            keys_now = sorted([*source.keys("*"), *target.keys("*")])
            claim = store.claim("r", Wanted({"e": 9}, urgent=9))
            for call in (store.create("new", event, None), claim, store.renew_lease("r")):
                with pytest.raises(StorageUnavailableError):
                    await call
            assert sorted([*source.keys("*"), *target.keys("*")]) == keys_now == keys
            keys_left = keys[moved:]
            assert len(await store.read("s-0")) == 1
        assert not keys_left
        for node in (target, source):
            node.execute_command("CLUSTER", "SETSLOT", OUR_SLOT, "NODE", names[1])
        taken = await store.claim("r", Wanted({"e": 9}, urgent=9))
        await redis.aclose()

    assert len(taken.claims) == 5

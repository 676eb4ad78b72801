"""The network between the orchestrator and a real Redis: reset connections, dead ones that do not say so, and silence."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client
import uvloop
from redis.asyncio import Redis

from orchestrator.loop import events as ev
from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.ports.stores import Idempotency
from orchestrator.store import connection, silence
from orchestrator.store.connection import client, listeners, parse, redis_call
from orchestrator.store.pubsub import QUIET, PubSubFanout
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions
from tests.doubles.processes import Process
from tests.doubles.redis_fleet import until
from tests.doubles.tcp_proxy import Fault, TcpProxy, ThreadProxy, running
from tests.doubles.upstreams import Script
from tests.doubles.waiting import turns
from tests.integration.conftest import Start
from tests.integration.test_queues import IMAGE
from tests.integration.test_sessions import create

_ROUNDS = 30


async def _reset_while_asked(url: str, proxy: ThreadProxy) -> Counter[type[BaseException] | None]:
    """What callers meet while all pooled connections are reset again and again, in the middle of what they send and receive."""
    redis = client(parse(url))
    met: Counter[type[BaseException] | None] = Counter()
    over = asyncio.Event()

    async def ask(number: int) -> None:
        while not over.is_set():
            try:
                async with redis_call():
                    if number % 2:
                        await redis.get("large")
                    else:
                        await redis.set(f"key {number}", b"x" * 200_000)
                met[None] += 1
            except Exception as exc:  # noqa: BLE001 - counted
                met[type(exc)] += 1
                await asyncio.sleep(0)

    await redis.set("large", b"x" * 3_000_000)
    callers = [asyncio.create_task(ask(number)) for number in range(12)]
    for _ in range(_ROUNDS):
        answered = met[None]
        while met[None] < answered + 3:
            await asyncio.sleep(0.001)
        proxy.set(Fault("reset", scope="open"))
    over.set()
    await asyncio.gather(*callers)
    await redis.aclose()
    return met


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_reset_connection_is_an_unreachable_store_on_every_event_loop(
    loop: Callable[[], asyncio.AbstractEventLoop], redis: Process
) -> None:
    """uvloop raises RuntimeError for a write to a closed connection. It is no bug, and callers may try again."""
    with running("127.0.0.1", redis.port) as proxy, asyncio.Runner(loop_factory=loop) as runner:
        met = runner.run(_reset_while_asked(f"redis://127.0.0.1:{proxy.port}/3", proxy))

    assert set(met) == {None, StorageUnavailableError}


async def _write_to_a_closed_connection(url: str, proxy: ThreadProxy) -> None:
    redis = client(parse(url))
    await redis.ping()
    pool: Any = redis.connection_pool  # untyped, as the library is
    taken = await pool.get_connection()
    proxy.set(Fault("reset", scope="open"))
    while not taken._writer.transport.is_closing():
        await asyncio.sleep(0)
    await turns()
    try:
        async with redis_call():
            await taken.send_command("PING")
    finally:
        await redis.aclose()


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_write_to_a_connection_that_was_just_reset_is_no_bug(
    loop: Callable[[], asyncio.AbstractEventLoop], redis: Process
) -> None:
    """The reset came between the pool's check and the write."""
    with (
        running("127.0.0.1", redis.port) as proxy,
        asyncio.Runner(loop_factory=loop) as runner,
        pytest.raises(StorageUnavailableError),
    ):
        runner.run(_write_to_a_closed_connection(f"redis://127.0.0.1:{proxy.port}/3", proxy))


async def _calls_after_a_reset(url: str, proxy: ThreadProxy) -> None:
    redis = client(parse(url))
    pool: Any = redis.connection_pool  # untyped, as the library is
    await asyncio.gather(*(redis.ping() for _ in range(8)))
    idle = list(pool._available_connections)
    proxy.set(Fault("reset", scope="open"))
    while not all(one._writer.transport.is_closing() for one in idle):
        await asyncio.sleep(0)
    await turns()
    try:
        await asyncio.gather(*(redis.ping() for _ in range(len(idle))))
    finally:
        await redis.aclose()


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_connections_that_were_reset_while_idle_fail_no_call(
    loop: Callable[[], asyncio.AbstractEventLoop], redis: Process
) -> None:
    """Or else as many calls as there are connections would, whenever the pool comes to hand them out."""
    with running("127.0.0.1", redis.port) as proxy, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_calls_after_a_reset(f"redis://127.0.0.1:{proxy.port}/3", proxy))


async def _pooled(redis: Redis, count: int) -> list[Any]:
    """So many connections that are open and idle."""
    await asyncio.gather(*(redis.ping() for _ in range(count)))
    pool: Any = redis.connection_pool  # untyped, as the library is
    return [one for one in pool._available_connections if one.is_connected]


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_connections_that_died_without_a_word_hold_up_the_first_calls_only(
    loop: Callable[[], asyncio.AbstractEventLoop], redis: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not each call until each of them was met. What may be done twice is done on a new one; the rest may be tried again."""
    monkeypatch.setattr(connection, "_ANSWER_S", 600)

    async def met(proxy: ThreadProxy) -> list[str]:
        store = client(parse(f"redis://127.0.0.1:{proxy.port}/3"))
        assert len(await _pooled(store, 16)) == 16
        proxy.set(Fault("half-open", scope="open"))

        async def caller(number: int) -> list[str]:
            answers = []
            for _ in range(10):
                try:
                    async with redis_call(repeatable=number < 5):
                        await store.ping()
                    answers.append("answered")
                except StorageUnavailableError as exc:
                    answers.append(exc.message)
            return answers

        async with asyncio.timeout(60):
            found = await asyncio.gather(*(caller(number) for number in range(6)))
        await store.aclose()
        assert all(answers == ["answered"] * 10 for answers in found[:5])
        return found[5]

    with running("127.0.0.1", redis.port) as proxy, asyncio.Runner(loop_factory=loop) as runner:
        answers = runner.run(met(proxy))

    assert answers[1:] == ["answered"] * 9
    assert "was silent" in answers[0]


async def test_a_redis_that_stands_still_loses_no_connection(redis: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new connection is not answered either: the old ones are waited for."""
    monkeypatch.setattr(silence, "_PROBE_S", 0.05)
    async with TcpProxy("127.0.0.1", redis.port) as proxy:
        store = client(parse(f"redis://127.0.0.1:{proxy.port}/3"))
        (pooled,) = await _pooled(store, 1)
        monkeypatch.setattr(pooled.silences, "_late_s", 0.05)
        transport = pooled._writer.transport
        proxy.set(Fault("stall"))
        call = asyncio.ensure_future(store.ping())
        while proxy.connections < 4:  # three attempts at least
            await asyncio.sleep(0.01)
        proxy.set(Fault())
        async with asyncio.timeout(60):
            assert await call
        assert pooled._writer.transport is transport
        await store.aclose()


async def test_a_repeat_whose_answer_was_lost_joins_the_same_session(redis: Process) -> None:
    """Of two that were handed over: the command is sent again, and the other one is left for the other caller."""
    made = ev.SessionCreated(
        at=1, source=IMAGE, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=time.time() + 600)
    )
    same = Idempotency("", "digest")
    async with TcpProxy("127.0.0.1", redis.port) as proxy:
        address = parse(f"redis://127.0.0.1:{proxy.port}/3")
        store = client(address)
        await store.flushdb()
        sessions = RedisSessions(store, PubSubFanout(listeners(address)), KeySpace())
        for name in ("first", "second"):
            await sessions.create(name, made, same)
        for name in ("first", "second", "second"):
            await sessions.hand_over(name, made.tenant, "digest", 60.0)
        proxy.set(Fault("cut", bytes=1, scope="open"))
        joined = await sessions.create("repeat", made, same)
        assert proxy.hit == 1
        others = [await sessions.create(name, made, same) for name in ("other", "new")]
        await store.aclose()

    assert [created.session_id for created in (joined, *others)] == ["first", "second", "new"]


async def test_an_answer_that_is_on_its_way_is_waited_for(redis: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one over a slow line, and one that Redis holds back because it was asked to."""
    async with TcpProxy("127.0.0.1", redis.port) as proxy:
        store = client(parse(f"redis://127.0.0.1:{proxy.port}/3"))
        async with redis_call():
            await store.set("large", b"x" * 40_000)
        (pooled,) = await _pooled(store, 1)
        monkeypatch.setattr(pooled.silences, "_late_s", 0.2)
        proxy.set(Fault("drip", bytes=1_000, seconds=0.02, direction="down", scope="open"))
        async with redis_call():
            assert await store.get("large") == b"x" * 40_000
        proxy.set(Fault())
        async with redis_call(blocks_s=1.0):
            assert await store.blpop(["nothing here"], 0.8) is None
        assert pooled._gave_up is False
        await store.aclose()


async def test_an_exception_on_an_open_connection_stays_what_it_is(redis: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport decides, not the type of the exception."""
    store = client(parse(f"redis://127.0.0.1:{redis.port}/3"), connections=1)
    await store.ping()
    pooled: Any = store.connection_pool._available_connections[0]

    async def buggy(**_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(pooled._parser, "read_response", buggy)
    with pytest.raises(RuntimeError, match="a bug"):
        async with redis_call():
            await store.ping()
    await store.aclose()


async def test_a_dead_subscription_is_noticed_and_made_again(redis: Process) -> None:
    """Its other end vanished without a word. Listeners are told to read the log, and get messages again."""
    async with TcpProxy("127.0.0.1", redis.port) as proxy, Redis(port=redis.port) as direct:
        pubsub = PubSubFanout(listeners(parse(f"redis://127.0.0.1:{proxy.port}")), heartbeat_s=600, ping_s=0.2)
        await pubsub.start()
        messages = pubsub.listen("channel")
        assert [await anext(messages) for _ in range(2)] == [(0, b"")] * 2  # the start, and the confirmed subscription
        await direct.publish("channel", "1 before")
        assert await anext(messages) == (1, b"before")
        proxy.set(Fault("half-open", scope="open"))
        await direct.publish("channel", "2 lost")
        async with asyncio.timeout(60):
            assert await anext(messages) == (0, b"")
        await direct.publish("channel", "3 after")
        async with asyncio.timeout(60):
            assert await anext(messages) == (3, b"after")
        await messages.aclose()
        await pubsub.stop()


async def test_a_quiet_subscription_is_not_a_dead_one(redis: Process, caplog: pytest.LogCaptureFixture) -> None:
    """Redis answers the PING."""
    pubsub = PubSubFanout(listeners(parse(f"redis://127.0.0.1:{redis.port}")), heartbeat_s=0.5, ping_s=0.2)
    await pubsub.start()
    messages = pubsub.listen("quiet")
    seen = [await anext(messages) for _ in range(5)]
    assert pubsub.connected
    await messages.aclose()
    await pubsub.stop()

    assert [number for number, _ in seen].count(QUIET) >= 2
    assert "is made again" not in caplog.text


def test_a_cancel_arrives_although_the_subscription_died(
    redis: Process, start_orchestrator: Start, script: Script, tmp_path: Path
) -> None:
    """A cancel reaches the driver through the subscription that is made again."""
    script.hold_edit = 1
    with running("127.0.0.1", redis.port) as proxy:
        orchestrator = start_orchestrator(EDITTHINKER_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/1")
        database = redis_client.Redis(port=redis.port, db=1)
        with httpx.Client(base_url=orchestrator.url, timeout=60, trust_env=False) as api:
            session_id = create(api).json()["id"]
            until(lambda: len(script.edits) == 1, "the edit is asked for")
            subscriptions = len([1 for c in database.client_list() if int(c["sub"]) > 0])
            proxy.set(Fault("half-open", only="SUBSCRIBE", scope="open"))
            api.post(f"/v1/sessions/{session_id}/cancel")
            until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "cancelled", "the session is cancelled")
        log = orchestrator.log.read_text()
        orchestrator.stop()

    assert subscriptions
    assert "the pub/sub connection was lost" in log

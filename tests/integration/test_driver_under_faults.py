"""The driver on a real Redis whose answers get lost: every event is recorded once."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from orchestrator.execution.driver import Driver
from orchestrator.execution.performer import Performer
from orchestrator.loop import events as ev
from orchestrator.loop.session import Session, fold
from orchestrator.ports.collaborators import (
    ChecklistOrder,
    ChecklistReply,
    CritiqueOrder,
    CritiqueReply,
    EditOrder,
    EditorUsage,
    EditReply,
)
from orchestrator.ports.errors import FencedError, StorageUnavailableError
from orchestrator.ports.stores import Appended, Blob, Bounds, Claim, Recorded, Wanted
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions
from tests.doubles.images import checked
from tests.doubles.processes import Process

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)


class Flaky:
    """The store, whose appends fail before they arrive or after they were done, and whose reads fail."""

    def __init__(self, inner: RedisSessions, dice: random.Random) -> None:
        self.inner = inner
        self.dice = dice

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def append(self, session_id: str, expected: int, events: Sequence[ev.Event], fence: int | None) -> Appended | None:
        fate = self.dice.random()
        if fate < 0.2:
            raise StorageUnavailableError("lost on the way")
        done = await self.inner.append(session_id, expected, events, fence)
        if fate < 0.4:
            raise StorageUnavailableError("the answer was lost")
        return done

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        if self.dice.random() < 0.2:
            raise StorageUnavailableError("lost")
        return await self.inner.read(session_id, after)


class InstantEditor:
    def __init__(self) -> None:
        self.keys: list[str] = []

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        self.keys.append(order.key)
        return EditReply(checked())

    async def ready(self) -> bool:
        return True


class StepByStep:
    """One point more every turn."""

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        turn = order.turn_instruction.count("+") + 1
        return CritiqueReply(3.0 + turn, 9.0, "", f"{order.turn_instruction}+")

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        return ChecklistReply(())

    async def ready(self) -> bool:
        return True


class Memory:
    async def put(self, session_id: str, image: Blob) -> None:
        """Nothing is kept."""

    async def get(self, session_id: str, sha256: str) -> bytes:
        return b"x"


class Now:
    def now(self) -> float:
        return time.time()


class Silent:
    def recorded(self, session_id: str, recorded: Recorded, session: Session) -> None:
        """Nothing to tell."""

    def forgotten(self, session_id: str, events: int) -> None:
        """As above."""


@pytest.fixture
async def store(redis: Process) -> AsyncGenerator[RedisSessions]:
    """The real store in a database of its own."""
    client = Redis(port=redis.port, db=2)
    await client.flushdb()
    yield RedisSessions(client, PubSubFanout(lambda: client), KeySpace())
    await client.aclose()


async def new_session(store: RedisSessions, name: str, quota: Bounds | None = None, **limits: float) -> Claim:
    bounds = ev.Limits.model_validate({"deadline_at": time.time() + 60, **limits})
    created = ev.SessionCreated(at=1.0, source=IMAGE, instruction="x", editor="e", thinker="t", limits=bounds)
    await store.create(name, created, None, quota)
    taken = await store.claim("r", Wanted({"e": 100}))
    return next(claim for claim in taken.claims if claim.session_id == name)


def driver(claim: Claim, sessions: object, log: list[Recorded], editor: InstantEditor) -> Driver:
    performer = Performer({"e": editor}, {"t": StepByStep()}, Memory(), Now())
    return Driver(claim, sessions, performer, Now(), Silent(), log)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(25))
async def test_lost_answers_record_nothing_twice(store: RedisSessions, seed: int) -> None:
    """Appends that were lost, or done although their answer was lost: a dense log with every step once."""
    claim = await new_session(store, "a")
    editor = InstantEditor()
    await driver(claim, Flaky(store, random.Random(seed)), await store.read("a"), editor).run()
    log = await store.read("a")
    types = [recorded.event.type for recorded in log]

    assert [recorded.seq for recorded in log] == list(range(1, len(log) + 1))
    assert types == [
        "session_created",
        *["turn_started", "edit_started", "edited", "critiqued"] * 5,
        "finished",
    ]
    assert len(editor.keys) == len(set(editor.keys)) == 5


async def test_two_drivers_by_mistake_record_every_step_once(store: RedisSessions) -> None:
    """The one without the fence writes nothing and lets go."""
    old = await new_session(store, "b")
    log = await store.read("b")
    await store.release("r", "b")
    (new,) = (await store.claim("r2", Wanted({"e": 10}))).claims
    assert new.fence > old.fence

    results = await asyncio.gather(
        driver(old, store, log, InstantEditor()).run(),
        driver(new, store, log, InstantEditor()).run(),
        return_exceptions=True,
    )

    assert isinstance(results[0], FencedError)
    assert results[1] is None
    events = [recorded.event for recorded in await store.read("b")]
    places = [(e.type, e.turn) for e in events if isinstance(e, ev.Edited | ev.Critiqued | ev.TurnStarted)]
    assert len(places) == len(set(places))
    assert fold(events).finished


async def test_others_may_write_between_any_two_steps(store: RedisSessions) -> None:
    """A person's words that land between decide and append move the driver's events behind them, and lose none."""
    claim = await new_session(store, "c", max_turns=5)
    editor = InstantEditor()
    running = asyncio.create_task(driver(claim, store, await store.read("c"), editor).run())
    for number in itertools.count():
        log = await store.read("c")
        if isinstance(log[-1].event, ev.Finished):
            break
        word = ev.FeedbackGiven(at=2.0, action="instruct", instruction=f"blue {number}") if number < 4 else None
        if word:
            await store.append("c", log[-1].seq, [word], None)
        await asyncio.sleep(0)
    await running
    log = await store.read("c")
    session = fold(recorded.event for recorded in log)

    assert [recorded.seq for recorded in log] == list(range(1, len(log) + 1))
    assert session.finished
    started = [r.event.key for r in log if isinstance(r.event, ev.EditStarted)]
    assert len(started) == len(set(started))


async def test_a_redis_that_came_back_older_is_caught_up_with(store: RedisSessions) -> None:
    """What an older file forgot is done again; the driver neither spins nor leaves a gap."""
    claim = await new_session(store, "d", max_turns=3)
    editor = InstantEditor()
    rolled = False

    class Forgetful(Flaky):
        async def append(self, session_id: str, expected: int, events: Sequence[ev.Event], fence: int | None) -> Appended | None:
            nonlocal rolled
            if expected > 6 and not rolled:
                rolled = True
                keys = KeySpace()
                kept: Any = await self.inner._redis.xrange(keys.log("d"), max="3-0")
                await self.inner._redis.delete(keys.log("d"))
                for name, fields in kept:
                    await self.inner._redis.xadd(keys.log("d"), fields, id=name)
                await self.inner._redis.hset(keys.meta("d"), "seq", "3")
            return await self.inner.append(session_id, expected, events, fence)

    await asyncio.wait_for(driver(claim, Forgetful(store, random.Random(1)), await store.read("d"), editor).run(), 20)
    log = await store.read("d")

    assert rolled
    assert [recorded.seq for recorded in log] == list(range(1, len(log) + 1))
    assert isinstance(log[-1].event, ev.Finished)
    assert [recorded.event.turn for recorded in log if isinstance(recorded.event, ev.Edited)] == [1, 2, 3]


async def test_a_redis_that_refuses_writes_is_not_asked_without_end(store: RedisSessions) -> None:
    """Full, with `noeviction`: it answers at once, and reads still work."""
    claim = await new_session(store, "f", max_turns=1)
    times: list[float] = []

    class Full(Flaky):
        async def append(self, session_id: str, expected: int, events: Sequence[ev.Event], fence: int | None) -> Appended | None:
            times.append(time.monotonic())
            if len(times) == 4:
                await self.inner._redis.config_set("maxmemory", "0")
            return await self.inner.append(session_id, expected, events, fence)

        async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
            return await self.inner.read(session_id, after)

    log = await store.read("f")
    await store._redis.config_set("maxmemory", "1")
    try:
        await asyncio.wait_for(driver(claim, Full(store, random.Random(1)), log, InstantEditor()).run(), 20)
    finally:
        await store._redis.config_set("maxmemory", "0")
    log = await store.read("f")

    assert isinstance(log[-1].event, ev.Finished)
    assert times[3] - times[0] >= 0.05 + 0.1 + 0.2


async def test_a_session_ends_with_its_best_when_the_tenants_images_take_all_they_may(store: RedisSessions) -> None:
    """Other sessions of the tenant have filled the disk since."""
    claim = await new_session(store, "g", Bounds(blob_bytes=2), max_turns=20, patience=20)
    editor = InstantEditor()
    await asyncio.wait_for(driver(claim, store, await store.read("g"), editor).run(), 20)
    end = (await store.read("g"))[-1].event

    assert isinstance(end, ev.Finished) and (end.reason, end.best and end.best.turn) == ("budget", 1)
    assert len(editor.keys) == 1


async def test_a_cancelled_driver_stops_even_while_it_stops_its_jobs(store: RedisSessions) -> None:
    """Its own cancellation is not taken for that of a job."""
    claim = await new_session(store, "e")

    class Slow(InstantEditor):
        async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
            raise AssertionError

    running = asyncio.create_task(driver(claim, store, await store.read("e"), Slow()).run())
    while not [r for r in await store.read("e") if r.event.type == "edit_started"]:
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=20)

    assert done
    assert running.cancelled()

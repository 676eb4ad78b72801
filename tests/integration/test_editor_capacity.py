"""Capacity of an editor as claims use it: a real runner on a real Redis, with an editor behind a real limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from orchestrator.execution.driver import Driver
from orchestrator.execution.performer import Performer
from orchestrator.execution.runner import Replica, Runner
from orchestrator.loop import events as ev
from orchestrator.ports.collaborators import EditOrder, EditorUsage, EditReply
from orchestrator.ports.stores import Claim, Recorded
from orchestrator.store.notifications import RedisNotifications
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit, AdaptiveLimits
from tests.doubles.processes import Process
from tests.integration.test_driver_under_faults import IMAGE, InstantEditor, Memory, Now, Silent, StepByStep

SLOTS = 4


class LimitedEditor(InstantEditor):
    """An editor behind a limit that finishes once `go_on` is set."""

    def __init__(self, limit: AdaptiveLimit) -> None:
        super().__init__()
        self.limit = limit
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        async with self.limit.slot(later=order.later, session_id=order.session_id, tenant=order.tenant):
            self.begun.set()
            await self.go_on.wait()
            return await super().edit(order, usage)


class Unwatched:
    def recovered(self, sessions: int) -> None:
        """Nothing to tell."""

    def orphaned(self, sessions: int) -> None:
        """As above."""

    def quarantined(self, session_id: str, code: str) -> None:
        """As above."""


async def done(_: str) -> bool:
    """A chore."""
    return True


class Site:
    """A store, and one replica that is not started yet."""

    def __init__(self, redis: Redis) -> None:
        pubsub = PubSubFanout(lambda: redis)
        self.store = RedisSessions(redis, pubsub, KeySpace())
        self.limit = AdaptiveLimit(fixed=SLOTS)
        self.editor = LimitedEditor(self.limit)
        performer = Performer({"e": self.editor}, {"t": StepByStep()}, Memory(), Now())

        def drive(claim: Claim, log: list[Recorded]) -> Driver:
            return Driver(claim, self.store, performer, Now(), Silent(), log)

        replica = Replica("r", 1000, 3.0)
        notifications = RedisNotifications(pubsub, KeySpace())
        self.runner = Runner(
            replica,
            self.store,
            drive,
            notifications,
            editors=AdaptiveLimits({"e": self.limit}),
            chore=done,
            observer=Unwatched(),
        )
        self.limit.on_capacity = self.runner.wake

    async def create(self, name: str, **limits: float) -> None:
        bounds = ev.Limits.model_validate({"deadline_at": time.time() + 60, "max_turns": 1, **limits})
        event = ev.SessionCreated(at=time.time(), source=IMAGE, instruction="x", editor="e", thinker="t", limits=bounds)
        await self.store.create(name, event, None)

    async def ends(self, *names: str) -> list[str]:
        """How sessions ended, once all have."""
        async with asyncio.timeout(20):
            while True:
                tails = [await self.store.tail(name) for name in names]
                ends: list[str] = [tail.event.reason for tail in tails if tail and isinstance(tail.event, ev.Finished)]
                if len(ends) == len(names):
                    return ends
                await asyncio.sleep(0.01)


@pytest.fixture
async def site(redis: Process) -> AsyncGenerator[Site]:
    client = Redis(port=redis.port, db=6)
    await client.flushdb()
    site = Site(client)
    yield site
    await site.runner.stop()
    await client.aclose()


async def test_sessions_cancelled_while_queued_leave_their_capacity_to_others(site: Site) -> None:
    """At once, as do those that were past their deadline when they were claimed."""
    cancelled = [f"cancelled-{number}" for number in range(20)]
    for name in cancelled:
        await site.create(name)
        assert await site.store.append(name, 1, [ev.CancelRequested(at=time.time())], None)
    late = [f"late-{number}" for number in range(20)]
    for name in late:
        await site.create(name, deadline_at=time.time() - 1)
    await site.runner.start()

    assert await site.ends(*cancelled) == ["cancelled"] * 20
    assert await site.ends(*late) == ["deadline"] * 20
    async with asyncio.timeout(20):
        while site.runner.driving:
            await asyncio.sleep(0.01)
    assert site.limit.spare() == SLOTS + 1
    await site.create("next")
    await site.editor.begun.wait()
    site.editor.go_on.set()
    assert await site.ends("next") == ["max_turns"]
    assert site.limit.spare() == SLOTS + 1

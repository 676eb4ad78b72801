"""Whose turn it is: how many webhook attempts are under way, for one receiver and in all."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.app import SystemClock
from orchestrator.ports import StorageUnavailableError
from orchestrator.webhooks import model
from orchestrator.webhooks import sender as sending
from tests.unit.orchestrator.test_webhooks import Counted, Kept, delivery, endpoint, receiver, reply, sender, settled


async def test_a_slow_receiver_holds_up_nobody_else() -> None:
    """Eight attempts at it at a time; the others are put off, and another receiver is told at once."""
    release, busy = asyncio.Event(), 0

    async def slowly(_: bytes) -> bytes:
        nonlocal busy
        busy += 1
        await release.wait()
        return reply(204)

    async def at_once(_: bytes) -> bytes:
        return reply(204)

    kept, counted = Kept(), Counted()
    async with receiver(slowly) as slow, receiver(at_once) as fast:
        kept.hooks = {"slow": endpoint("slow", slow), "fast": endpoint("fast", fast)}
        many = [delivery(f"msg_{number}", "slow") for number in range(30)]
        kept.kept = {one.id: one for one in [*many, delivery("msg_fast", "fast")]}
        hooks = sender(kept, counted, allow_private=True)
        now = SystemClock().now()
        for name in kept.kept:
            assert await hooks.chore(f"deliver:ses_1/{name}") is False
        await settled(lambda: busy == 8 and kept.kept["msg_fast"].state == "delivered")
        postpone = [kept.timers[one.id] for one in many[8:]]
        release.set()
        await settled(lambda: len(counted.outcomes) == 9)

    assert busy == 8
    assert postpone == sorted(postpone) and postpone[0] > now
    assert {one.state for one in kept.kept.values()} == {"pending", "delivered"}


class Waiting(Kept):
    """One whose timers are set when it is let go on."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.go_on, self.error, self.asked = asyncio.Event(), error, 0

    async def postpone(self, delivery: model.Delivery, at: float) -> None:
        self.asked += 1
        await self.go_on.wait()
        if self.error:
            raise self.error
        await super().postpone(delivery, at)


@pytest.mark.parametrize(("endpoints", "most"), [(1, 8), (8, 20)])
async def test_what_comes_in_the_same_moment_is_counted(monkeypatch: pytest.MonkeyPatch, endpoints: int, most: int) -> None:
    """No more at a time for one receiver, nor in all, when all are due at once and the store takes its time."""
    monkeypatch.setattr(sending, "_MAX_IN_FLIGHT", 20)
    release, busy = asyncio.Event(), 0

    async def slowly(_: bytes) -> bytes:
        nonlocal busy
        busy += 1
        await release.wait()
        return reply(204)

    kept, counted = Waiting(), Counted()
    async with receiver(slowly) as url, asyncio.TaskGroup() as tasks:
        kept.hooks = {f"whk_{number}": endpoint(f"whk_{number}", url) for number in range(endpoints)}
        kept.kept = {f"msg_{number}": delivery(f"msg_{number}", f"whk_{number % endpoints}") for number in range(64)}
        hooks = sender(kept, counted, allow_private=True)
        begun = [tasks.create_task(hooks.chore(f"deliver:ses_1/{name}")) for name in kept.kept]
        await settled(lambda: kept.asked == len(begun))
        kept.go_on.set()
        await asyncio.wait(begun)
        await settled(lambda: busy >= most)
        release.set()
        await settled(lambda: not hooks._tasks)

    assert len(counted.outcomes) == busy == most


async def test_what_could_not_be_put_off_leaves_its_room() -> None:
    """A store that is away for a moment must not close the line for good."""
    away = Waiting(StorageUnavailableError("away"))
    away.go_on.set()

    async def at_once(_: bytes) -> bytes:
        return reply(204)

    async with receiver(at_once) as url:
        away.hooks = {"whk_1": endpoint(url=url)}
        away.kept = {f"msg_{number}": delivery(f"msg_{number}") for number in range(9)}
        hooks = sender(away, allow_private=True)
        for name in away.kept:
            with pytest.raises(StorageUnavailableError):
                await hooks.chore(f"deliver:ses_1/{name}")
        away.error = None
        await hooks.chore("deliver:ses_1/msg_1")
        await settled(lambda: away.kept["msg_1"].state == "delivered")


async def test_a_receiver_that_asks_for_a_pause_gets_it_for_every_delivery() -> None:
    """After 429 the others are not tried either."""
    kept = Kept()

    async def answer(_: bytes) -> bytes:
        return reply(429, "retry-after: 30")

    async with receiver(answer) as url:
        kept.hooks = {"whk_1": endpoint(url=url)}
        kept.kept = {"msg_1": delivery("msg_1"), "msg_2": delivery("msg_2")}
        hooks = sender(kept, allow_private=True)
        await hooks.chore("deliver:ses_1/msg_1")
        await settled(lambda: kept.kept["msg_1"].attempts and not hooks._tasks)
        await hooks.chore("deliver:ses_1/msg_2")

    assert kept.kept["msg_2"].attempts == ()
    assert kept.timers["msg_2"] > SystemClock().now() + 25

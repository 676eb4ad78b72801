"""The queues of webhook endpoints: attempts in flight are bounded for one receiver and in all."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.webhooks import model
from orchestrator.webhooks import sender as sending
from tests.component.orchestrator.test_webhooks import MemoryStore, Outcomes, delivery, endpoint, receiver, reply, sender
from tests.doubles.clock import SystemClock
from tests.doubles.waiting import until


class Holding:
    """A receiver that answers nobody until it is let go."""

    def __init__(self) -> None:
        self.release, self.busy = asyncio.Event(), 0

    async def __call__(self, _: bytes) -> bytes:
        self.busy += 1
        await self.release.wait()
        return reply(204)


async def test_a_slow_receiver_does_not_delay_others() -> None:
    """It gets eight attempts at a time; its other deliveries are postponed, and another receiver gets its delivery at once."""
    slowly = Holding()

    async def at_once(_: bytes) -> bytes:
        return reply(204)

    store, counted = MemoryStore(), Outcomes()
    async with receiver(slowly) as slow, receiver(at_once) as fast:
        store.known_endpoints = {"slow": endpoint("slow", slow), "fast": endpoint("fast", fast)}
        many = [delivery(f"msg_{number}", "slow") for number in range(30)]
        store.known_deliveries = {one.id: one for one in [*many, delivery("msg_fast", "fast")]}
        webhooks = sender(store, counted, allow_private=True)
        now = SystemClock().now()
        for name in store.known_deliveries:
            assert await webhooks.chore(f"deliver:ses_1/{name}") is False
        await until(lambda: slowly.busy == 8 and store.known_deliveries["msg_fast"].state == "delivered")
        postponed = [store.timers[one.id] for one in many[8:]]
        slowly.release.set()
        await until(lambda: len(counted.outcomes) == 9)

    assert slowly.busy == 8
    assert postponed == sorted(postponed) and postponed[0] > now
    assert {one.state for one in store.known_deliveries.values()} == {"pending", "delivered"}


async def test_one_host_gets_a_bounded_number_of_requests_from_all_webhooks() -> None:
    """Sixteen webhooks that name one host, which asked for none of them; a test counts as well."""
    slowly = Holding()
    store, counted = MemoryStore(), Outcomes()
    async with receiver(slowly) as url:
        store.known_endpoints = {f"whk_{number}": endpoint(f"whk_{number}", url) for number in range(16)}
        many = [delivery(f"msg_{number}", f"whk_{number % 16}", host="127.0.0.1") for number in range(96)]
        store.known_deliveries = {one.id: one for one in many}
        webhooks = sender(store, counted, allow_private=True)
        for one in many:
            assert await webhooks.chore(f"deliver:ses_1/{one.id}") is False
        await until(lambda: slowly.busy == 32)
        test = await webhooks.test("ann", store.known_endpoints["whk_0"], "msg_test")
        slowly.release.set()
        await until(lambda: len(counted.outcomes) == 32)

    assert (slowly.busy, test.status, test.error) == (32, None, "too many requests to this host are under way; try again later")


async def test_a_tenant_leaves_attempts_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its receivers never answer, and it deletes webhooks and makes others."""
    monkeypatch.setattr(sending, "_MAX_PER_TENANT", 10)
    slowly = Holding()
    store, counted = MemoryStore(), Outcomes()
    async with receiver(slowly) as url:
        store.known_endpoints = {f"whk_{number}": endpoint(f"whk_{number}", url) for number in range(21)}
        many = [delivery(f"msg_{number}", f"whk_{number}") for number in range(20)]
        other = delivery("msg_bob", "whk_20").model_copy(update={"tenant": "bob"})
        store.known_deliveries = {one.id: one for one in [*many, other]}
        webhooks = sender(store, counted, allow_private=True)
        for one in store.known_deliveries:
            await webhooks.chore(f"deliver:ses_1/{one}")
        await until(lambda: slowly.busy == 11)
        slowly.release.set()
        await until(lambda: len(counted.outcomes) == 11)

    assert store.known_deliveries["msg_bob"].state == "delivered"


def test_a_delivery_knows_the_host_of_its_webhook() -> None:
    assert model.host_of("https://user@Hooks.Example.com.:8443/x") == "hooks.example.com"
    assert endpoint(url="https://[2001:DB8::1]/x").host == "2001:db8::1"


class Waiting(MemoryStore):
    """A store that sets timers only once it is released."""

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
async def test_simultaneous_deliveries_are_bounded(monkeypatch: pytest.MonkeyPatch, endpoints: int, most: int) -> None:
    """For one receiver and in all, also when all are due at once and the store is slow."""
    monkeypatch.setattr(sending, "_MAX_IN_FLIGHT", 20)
    slowly = Holding()
    store, counted = Waiting(), Outcomes()
    async with receiver(slowly) as url, asyncio.TaskGroup() as tasks:
        store.known_endpoints = {f"whk_{number}": endpoint(f"whk_{number}", url) for number in range(endpoints)}
        store.known_deliveries = {f"msg_{number}": delivery(f"msg_{number}", f"whk_{number % endpoints}") for number in range(64)}
        webhooks = sender(store, counted, allow_private=True)
        begun = [tasks.create_task(webhooks.chore(f"deliver:ses_1/{name}")) for name in store.known_deliveries]
        await until(lambda: store.asked == len(begun))
        store.go_on.set()
        await asyncio.wait(begun)
        await until(lambda: slowly.busy >= most)
        slowly.release.set()
        await until(lambda: not webhooks._tasks)

    assert len(counted.outcomes) == slowly.busy == most


async def test_a_delivery_that_could_not_be_postponed_releases_its_capacity() -> None:
    """A short outage of the store must not block the endpoint."""
    away = Waiting(StorageUnavailableError("away"))
    away.go_on.set()

    async def at_once(_: bytes) -> bytes:
        return reply(204)

    async with receiver(at_once) as url:
        away.known_endpoints = {"whk_1": endpoint(url=url)}
        away.known_deliveries = {f"msg_{number}": delivery(f"msg_{number}") for number in range(9)}
        webhooks = sender(away, allow_private=True)
        for name in away.known_deliveries:
            with pytest.raises(StorageUnavailableError):
                await webhooks.chore(f"deliver:ses_1/{name}")
        away.error = None
        await webhooks.chore("deliver:ses_1/msg_1")
        await until(lambda: away.known_deliveries["msg_1"].state == "delivered")


async def test_a_pause_that_a_receiver_asks_for_holds_for_all_its_deliveries() -> None:
    """After a 429 no other delivery is attempted."""
    store = MemoryStore()

    async def answer(_: bytes) -> bytes:
        return reply(429, "retry-after: 30")

    async with receiver(answer) as url:
        store.known_endpoints = {"whk_1": endpoint(url=url)}
        store.known_deliveries = {"msg_1": delivery("msg_1"), "msg_2": delivery("msg_2")}
        webhooks = sender(store, allow_private=True)
        await webhooks.chore("deliver:ses_1/msg_1")
        await until(lambda: store.known_deliveries["msg_1"].attempts and not webhooks._tasks)
        await webhooks.chore("deliver:ses_1/msg_2")

    assert store.known_deliveries["msg_2"].attempts == ()
    assert store.timers["msg_2"] > SystemClock().now() + 25

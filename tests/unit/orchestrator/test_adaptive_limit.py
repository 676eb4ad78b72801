"""The adaptive limit of an editor: its bounds, the order of its queue, and both against simulated pools in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.ports.stores import Share
from orchestrator.upstreams.adaptive_limit import (
    AdaptiveLimit,
    CompletedEdit,
    LimitState,
    Slot,
    after_completion,
    after_idle,
    after_rejection,
    in_flight_at_start,
)
from tests.doubles.clock import ManualTime
from tests.doubles.waiting import LIMIT_S, turns, until
from tests.unit.orchestrator.pools import World

# --- the limit -----------------------------------------------------------------------------------------------------

seconds = st.floats(0, 1e6) | st.sampled_from([0.0, 0.01, 1.0, 4.0])
queue_times = st.none() | seconds
completions = st.builds(CompletedEdit, seconds, queue_times, st.none() | st.floats(1, 5000), st.booleans())
observations = st.lists(completions | st.tuples(seconds, st.booleans()) | st.floats(0, 1e5), max_size=60)


Observation = CompletedEdit | tuple[float, bool] | float


def after(state: LimitState, seen: Observation) -> LimitState:
    if isinstance(seen, CompletedEdit):
        return after_completion(state, seen)
    return after_rejection(state, seen[0], reports_queue=seen[1]) if isinstance(seen, tuple) else after_idle(state, seen)


@given(initial=st.integers(1, 100), maximum=st.integers(1, 5000), observed=observations)
@settings(max_examples=200, deadline=None)
def test_the_limit_stays_within_its_bounds(initial: int, maximum: int, observed: list[Observation]) -> None:
    """It is finite, rejections and idle times never raise it, and an unused limit does not grow."""
    state = LimitState(min(initial, maximum), min(initial, maximum), maximum)
    for seen in observed:
        following = after(state, seen)
        assert 1 <= following.limit <= maximum and math.isfinite(following.size)
        if not isinstance(seen, CompletedEdit) or not seen.limit_in_use:
            assert following.size <= state.size
        if isinstance(seen, tuple):
            assert following.size >= state.size * 0.7 or following.size == 1
        state = following


def edit(elapsed_s: float = 4.0, queue_s: float | None = 0.0, n: float = 8.0, *, in_use: bool = True) -> CompletedEdit:
    return CompletedEdit(elapsed_s, queue_s, n, in_use)


@given(count=st.integers(1, 30))
def test_rejections_of_edits_sent_before_a_decrease_count_once(count: int) -> None:
    """After a round trip they count again."""
    state = after_completion(LimitState(100.0, 8.0, 4096.0), edit(8.0, None, 100.0, in_use=False))
    for number in range(count):
        state = after_rejection(state, 50 + number / 10, reports_queue=False)
    assert state.size == pytest.approx(100 * 0.7, rel=0.02)
    assert after_rejection(state, 59.0, reports_queue=False).size == pytest.approx(state.size * 0.7)


def test_without_a_queue_the_limit_doubles_per_round_trip() -> None:
    state = LimitState(8.0, 8.0, 4096.0)
    for trip in range(1, 5):
        for _ in range(state.limit):
            state = after_completion(state, edit(n=state.size))
        assert 8 * 2**trip * 0.75 <= state.size <= 8 * 2**trip


def test_without_queue_times_the_limit_grows_by_one_after_the_first_rejection() -> None:
    """Per round trip; before it, slow start."""
    state = LimitState(8.0, 8.0, 4096.0)
    for _ in range(8):
        state = after_completion(state, edit(queue_s=None))
    assert state.size == 16
    state = after_rejection(state, 10.0, reports_queue=False)
    before = state.size
    for _ in range(state.limit):
        state = after_completion(state, edit(queue_s=None))
    assert before + 0.8 < state.size <= before + 1


def test_batched_edits_are_not_taken_for_a_queue() -> None:
    """A batch makes each of its edits slower: that is service time."""
    state = LimitState(8.0, 8.0, 4096.0)
    for _ in range(100):
        state = after_completion(state, edit(elapsed_s=state.size, n=state.size))
    assert state.size > 50


def test_network_latency_is_not_a_queue() -> None:
    """A fast editor spends more time on the network than on edits."""
    state = LimitState(8.0, 8.0, 4096.0)
    for _ in range(100):
        state = after_completion(state, edit(elapsed_s=0.05, queue_s=0.04, n=state.size))
    assert state.size > 100


def test_an_unused_limit_decays() -> None:
    """Slowly while few edits are in flight, by half per minute when idle; not below where it started."""
    state = replace(LimitState(8.0, 8.0, 4096.0), size=512.0)
    for _ in range(200):
        state = after_completion(state, edit(n=3, in_use=False))
    assert 8 <= state.size < 20
    assert after_idle(replace(state, size=512.0), 60).size == 256
    assert after_idle(replace(state, size=512.0), 1e5).size == 8
    assert after_idle(replace(state, size=3.0), 1e5).size == 3


def test_the_fraction_of_a_limit_counts_only_at_the_limit() -> None:
    state = replace(LimitState(8.0, 8.0, 4096.0), size=3.9)
    assert [in_flight_at_start(state, n, 0) for n in (1, 2, 3)] == [1, 2, 3.9]
    assert in_flight_at_start(state, 3, 2) == pytest.approx(1.9) and in_flight_at_start(state, 1, 5) == 1


# --- the queue ------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), fixed=st.none() | st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_no_slot_is_lost_or_granted_twice(seed: int, fixed: int | None) -> None:
    """Nor beyond the limit, with edits cancelled while queued, holding or in between, and a limit that changes."""
    asyncio.run(_traffic(random.Random(seed), fixed))


class Strict(AdaptiveLimit):
    def _take_slot(self, tenant: Any) -> Slot:
        assert self.in_flight < self.limit
        return super()._take_slot(tenant)


async def _traffic(chance: random.Random, fixed: int | None) -> None:
    limit = Strict(fixed=fixed, initial=3, maximum=6)
    holding = 0
    served: list[int] = []

    async def hold(number: int) -> None:
        nonlocal holding
        async with limit.slot(later=chance.random() < 0.5, tenant=chance.choice("abc")) as slot:
            holding += 1
            assert holding <= limit.in_flight
            try:
                for _ in range(chance.randrange(4)):
                    await turns(1)
                    if chance.random() < 0.2:
                        slot.rejected(chance.random() * 100)
                slot.completed(elapsed_s=1.0, queue_s=chance.choice([None, 0.0, 0.5]))
                served.append(number)
            finally:
                holding -= 1

    tasks: list[asyncio.Task[None]] = []
    for number in range(60):
        tasks.append(asyncio.create_task(hold(number)))
        if chance.random() < 0.5:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await turns(1)
        assert limit.in_flight <= max(6, fixed or 0) and limit.queued <= len(tasks)
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LIMIT_S)
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
    assert len(served) == sum(end is None for end in ends)
    assert limit.in_flight == limit.queued == limit._backing_off == holding == 0


async def _queue(limit: AdaptiveLimit, log: list[str], wanted: list[tuple[str, bool]]) -> list[asyncio.Task[None]]:
    async def hold(name: str, *, later: bool) -> None:
        async with limit.slot(later=later):
            log.append(name)
            await turns(1)

    tasks = [asyncio.create_task(hold(name, later=later)) for name, later in wanted]
    await turns(1)
    return tasks


async def test_later_turns_go_first_and_in_order() -> None:
    """First come, first served within each; cancelled edits do not hold up others."""
    limit, log = AdaptiveLimit(fixed=1), list[str]()
    async with limit.slot(later=False):
        names = [("a", False), ("B", True), ("c", False), ("gone", True), ("D", True), ("lost", False), ("E", True)]
        tasks = await _queue(limit, log, names)
        tasks[3].cancel()
        tasks[5].cancel()
        await turns(1)
        assert limit.queued == 5 and log == []
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log == ["B", "D", "E", "a", "c"]


async def _served(limit: AdaptiveLimit, clock: ManualTime, wanted: dict[str, tuple[int, float]]) -> list[str]:
    """The order in which edits of tenants get the only slot, if each wants so many of so many seconds."""
    order: list[str] = []

    async def edit(tenant: str, seconds: float) -> None:
        async with limit.slot(later=False, tenant=tenant):
            order.append(tenant)
            clock.advance(seconds)

    async with limit.slot(later=False, tenant="first"):
        edits = [asyncio.create_task(edit(name, seconds)) for name, (n, seconds) in wanted.items() for _ in range(n)]
        await until(lambda: limit.queued == len(edits))
        clock.advance(1.0)
    await asyncio.gather(*edits)
    return order


async def test_the_tenant_that_got_least_editor_time_comes_next() -> None:
    """Sixteen candidates of one turn do not stand before a single edit, and work counts, not edits."""
    clock = ManualTime()
    limit = AdaptiveLimit(fixed=1, clock=clock.monotonic)
    assert "".join(await _served(limit, clock, {"a": (16, 1.0), "b": (3, 1.0)})) == "ab" * 3 + "a" * 13
    order = await _served(limit, clock, {"a": (16, 4.0), "b": (16, 1.0)})
    assert 3.0 <= order[:20].count("b") / order[:20].count("a") <= 5.0


async def test_idle_time_is_no_credit() -> None:
    """A tenant that comes after a long time starts level with those that are here."""
    clock = ManualTime()
    limit = AdaptiveLimit(fixed=1, clock=clock.monotonic)
    order: list[str] = []

    async def edit(tenant: str) -> None:
        async with limit.slot(later=False, tenant=tenant):
            order.append(tenant)
            clock.advance(1.0)

    async with limit.slot(later=False, tenant="a"):
        busy = [asyncio.create_task(edit("a")) for _ in range(60)]
        await until(lambda: limit.queued == 60)
    await until(lambda: len(order) >= 30)
    late = [asyncio.create_task(edit("b")) for _ in range(10)]
    await asyncio.gather(*busy, *late)
    seen = order[order.index("b") :][:10]
    assert 4 <= seen.count("b") <= 6


async def test_a_newcomer_is_next_unless_it_had_more_than_its_share() -> None:
    """A single edit waits for one slot; a tenant with one heavy edit after the other gets none after each of others'."""
    clock = ManualTime()
    limit = AdaptiveLimit(fixed=1, clock=clock.monotonic)
    order: list[str] = []

    async def edit(tenant: str, seconds: float) -> None:
        async with limit.slot(later=False, tenant=tenant):
            order.append(tenant)
            clock.advance(seconds)

    async def heavy() -> None:
        for _ in range(3):
            await edit("heavy", 10.0)

    async with limit.slot(later=False, tenant="many"):
        edits = [asyncio.create_task(edit("many", 1.0)) for _ in range(40)]
        await until(lambda: limit.queued == 40)
        edits.append(asyncio.create_task(heavy()))
        await until(lambda: limit.queued == 41)
    await asyncio.gather(*edits)
    at = [n for n, tenant in enumerate(order) if tenant == "heavy"]

    assert at[0] <= 1
    assert all(9 <= later - earlier <= 12 for earlier, later in itertools.pairwise(at)), at


async def test_a_share_is_the_slots_beyond_one_for_each_tenant() -> None:
    """However many edits one of them has."""
    limit = AdaptiveLimit(fixed=4)
    assert limit.share() == Share(4, 4)
    async with limit.slot(later=False, tenant="a"), limit.slot(later=False, tenant="a"), limit.slot(later=False, tenant="b"):
        assert limit.share() == Share(2, 4)
    assert limit.share() == Share(4, 4)


async def test_a_slot_granted_to_a_cancelled_edit_goes_to_the_next() -> None:
    limit, log = AdaptiveLimit(fixed=1), list[str]()
    async with limit.slot(later=False):
        tasks = await _queue(limit, log, [("cancelled", False), ("next", False)])
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log == ["next"] and limit.in_flight == 0


async def test_one_free_slot_wakes_one_of_thousands() -> None:
    limit, log = AdaptiveLimit(fixed=1), list[str]()
    async with limit.slot(later=False):
        tasks = await _queue(limit, log, [(str(number), False) for number in range(5000)])
        assert limit.queued == 5000
    assert limit.queued == 4999 and limit.in_flight == 1
    await asyncio.gather(*tasks)
    assert log == [str(number) for number in range(5000)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_spare_capacity_is_the_free_slots_and_a_short_queue() -> None:
    """While that queue is full there is none."""
    limit, log = AdaptiveLimit(fixed=8), list[str]()
    assert limit.spare() == 10
    release = asyncio.Event()

    async def hold() -> None:
        async with limit.slot(later=False):
            await release.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(9)]
    await turns(1)
    assert (limit.in_flight, limit.queued, limit.spare()) == (8, 1, 1)
    tasks += await _queue(limit, log, [("later", True), ("first", False)])
    assert limit.spare() == 0
    release.set()
    await asyncio.gather(*tasks)
    assert AdaptiveLimit(fixed=1).spare() == 2


async def test_claimed_sessions_use_up_spare_capacity() -> None:
    """Until they ask for a slot in any turn, end without one, or have not asked for one in seconds."""
    clock = Clock()
    limit = AdaptiveLimit(fixed=8, clock=clock)
    notified = []
    limit.on_capacity = lambda: notified.append(limit.spare())
    for number in range(7):
        limit.add_claimed(f"ses_{number}")
    assert limit.spare() == 3
    async with limit.slot(later=True, session_id="of others"):
        assert limit.spare() == 2
    async with limit.slot(later=False, session_id="ses_0"):
        assert limit.spare() == 3
    async with limit.slot(later=True, session_id="ses_1"):
        assert limit.spare() == 4
    assert limit.spare() == 5
    notified.clear()
    limit.remove_claimed("ses_2")
    limit.remove_claimed("ses_2")
    assert notified == [6]
    clock.now = 4.9
    limit.add_claimed("ses_3")
    assert limit.spare() == 6
    clock.now = 5.1
    assert limit.spare() == 9


async def test_an_idle_limit_decays() -> None:
    clock = Clock()
    limit = AdaptiveLimit(clock=clock)
    limit._state = replace(limit._state, size=512.0)
    clock.now = 120.0
    async with limit.slot(later=False):
        assert limit.limit == 128


# --- pools, in virtual time -----------------------------------------------------------------------------------

Service = Callable[[random.Random], float]
SERVICES: dict[str, Service] = {
    "1 s": lambda _: 1.0,
    "4 s": lambda _: 4.0,
    "1 to 8 s": lambda chance: chance.uniform(1, 8),
    "1, 2, 4 or 8 s": lambda chance: chance.choice([1.0, 2.0, 4.0, 8.0]),
}
POOLS: dict[int, list[tuple[int, float]]] = {1: [(1, 16)], 4: [(4, 16)], 16: [(4, 16)] * 4, 64: [(8, 16)] * 8}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("slots", POOLS)
def test_a_saturated_pool_is_kept_busy_with_a_short_queue(slots: int, replicas: int, service: str) -> None:
    """No edit is rejected, and replicas get equal shares; they cannot go below one edit, nor share 4 slots evenly."""
    unit = 1 if service == "1 s" else 4
    world = World(POOLS[slots], replicas=replicas, service=SERVICES[service]).run(50 * unit).run(100 * unit)
    done = [replica.done for replica in world.replicas]
    mean = sum(done) / replicas

    assert world.used >= 0.99
    assert world.standing * slots <= max(0.6 * slots, replicas, 0.85 * slots if replicas > 1 and slots == 4 else 0)
    assert sum(replica.rejections for replica in world.replicas) == 0
    if slots >= 16:
        assert max(abs(count / mean - 1) for count in done) <= 0.25


@pytest.mark.parametrize("service", ["4 s", "1 to 8 s"])
def test_the_limit_follows_workers_that_join_and_leave(service: str) -> None:
    """From 1 to 16 and to 8, within a few round trips of 4 to 4.5 seconds."""
    world = World([(1, 16)], service=SERVICES[service]).run(200)
    for _ in range(15):
        world.join(1)
    assert world.run(9 * 4.5).run(4.5).used >= 0.95
    assert world.run(60).used >= 0.97 and world.run(60).standing <= 0.6
    world.leave(8)
    assert world.run(9 * 4.5).used >= 0.97
    world.run(60)
    assert world.used >= 0.99 and world.standing <= 0.6


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("queue", [1, 2, 8])
def test_a_pool_that_rejects_is_kept_busy(queue: int, replicas: int) -> None:
    """Each of 4 workers has 4 slots and a bounded queue."""
    world = World([(4, queue)] * 4, replicas=replicas, service=SERVICES["1 to 8 s"]).run(200).run(400)
    assert world.used >= 0.99
    assert sum(replica.rejections for replica in world.replicas) <= 0.5 * sum(replica.done for replica in world.replicas)


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_pool_that_rejects_and_reports_no_queue_times_is_kept_busy(replicas: int) -> None:
    """As other servers do: then rejections alone bound the limit."""
    world = World([(4, 2)] * 4, replicas=replicas, service=SERVICES["1 to 8 s"], reports_queue=False).run(200).run(400)
    assert world.used >= 0.97
    assert sum(replica.rejections for replica in world.replicas) <= 0.2 * sum(replica.done for replica in world.replicas)


def test_a_replica_that_joins_later_gets_its_share() -> None:
    """Within minutes, while the pool stays busy."""
    world = World(POOLS[16], replicas=2, service=SERVICES["1 to 8 s"])
    world.replicas[1].demand = 0
    world.run(200)
    world.replicas[1].demand = math.inf
    assert world.run(250).used >= 0.99
    world.run(200)
    first, second = (replica.done for replica in world.replicas)
    assert 0.7 <= second / first <= 1.4


def test_a_replica_with_little_to_do_does_not_lose_its_share() -> None:
    """Its few edits go through, and when it has more to send, it gets its share."""
    world = World(POOLS[16], replicas=2, service=SERVICES["1 to 8 s"])
    world.replicas[1].demand = 2
    world.run(300).run(100)
    assert world.used >= 0.99 and world.replicas[1].done >= 0.8 * 2 * 100 / 6
    world.replicas[1].demand = math.inf
    world.run(200).run(200)
    first, second = (replica.done for replica in world.replicas)
    assert 0.7 <= second / first <= 1.4


def test_edit_s_covers_most_edits() -> None:
    """It is the mean where all take the same time, well above it where they differ, and includes queue times."""
    alike = even = late = LimitState(8.0, 8.0, 64.0)
    for number in range(400):
        alike = after_completion(alike, CompletedEdit(4.0, 0.0, 8.0, limit_in_use=True))
        even = after_completion(even, CompletedEdit(1.0 + 7.0 * (number % 8) / 7, 0.0, 8.0, limit_in_use=True))
        late = after_completion(late, CompletedEdit(6.1, 2.1, 8.0, limit_in_use=True))
    limits = [AdaptiveLimit(), AdaptiveLimit(), AdaptiveLimit()]
    for limit, state in zip(limits, (alike, even, late), strict=True):
        limit._state = state

    assert limits[0].edit_s == pytest.approx(4.0, abs=0.05)
    assert 6.0 < limits[1].edit_s < 8.5
    assert limits[2].edit_s == pytest.approx(6.0, abs=0.2)
    assert AdaptiveLimit().edit_s == 0


async def test_edit_s_is_that_of_an_edit_in_full() -> None:
    """Between drafts, which take an eighth of it, an edit in full is not started too late."""
    limit = AdaptiveLimit(fixed=1)
    for number in range(40):
        async with limit.slot(later=True) as slot:
            draft = number % 4 < 3
            slot.completed(elapsed_s=1.0 if draft else 8.0, queue_s=0.0, draft=draft)
        # Until one has come back, drafts stand for it.
        assert limit.edit_s == pytest.approx(1.0 if number < 3 else 8.0)

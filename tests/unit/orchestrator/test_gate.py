"""The gate before an editor: its law's bounds, its line's order and honesty, and what both do to pools in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.upstreams.adaptive_limit import AdaptiveLimit, Answer, Pace, Slot, answered, beside, refused, rested
from tests.unit.orchestrator.pools import World

# --- the law --------------------------------------------------------------------------------------------------

seconds = st.floats(0, 1e6) | st.sampled_from([0.0, 0.01, 1.0, 4.0])
waits = st.none() | seconds
answers = st.builds(Answer, seconds, waits, st.none() | st.floats(1, 5000), st.booleans())
news = st.lists(answers | st.tuples(seconds, st.booleans()) | st.floats(0, 1e5), max_size=60)


News = Answer | tuple[float, bool] | float


def told(pace: Pace, thing: News) -> Pace:
    if isinstance(thing, Answer):
        return answered(pace, thing)
    return refused(pace, thing[0], told=thing[1]) if isinstance(thing, tuple) else rested(pace, thing)


@given(first=st.integers(1, 100), most=st.integers(1, 5000), news=news)
@settings(max_examples=200, deadline=None)
def test_the_limit_stays_within_its_bounds_whatever_comes(first: int, most: int, news: list[News]) -> None:
    """And finite; a refusal or a rest never raises it, and an unused limit does not grow."""
    pace = Pace(min(first, most), min(first, most), most)
    for thing in news:
        after = told(pace, thing)
        assert 1 <= after.limit <= most and math.isfinite(after.size)
        if not isinstance(thing, Answer) or not thing.in_use:
            assert after.size <= pace.size
        if isinstance(thing, tuple):
            assert after.size >= pace.size * 0.7 or after.size == 1
        pace = after


def answer(elapsed_s: float = 4.0, waited_s: float | None = 0.0, n: float = 8.0, *, in_use: bool = True) -> Answer:
    return Answer(elapsed_s, waited_s, n, in_use)


@given(count=st.integers(1, 30))
def test_refusals_of_what_was_sent_before_count_once(count: int) -> None:
    """A round trip later they count again."""
    pace = answered(Pace(100.0, 8.0, 4096.0), answer(8.0, None, 100.0, in_use=False))
    for number in range(count):
        once = refused(pace, 50 + number / 10, told=False)
        pace = once
    assert pace.size == pytest.approx(100 * 0.7, rel=0.02)
    assert refused(pace, 59.0, told=False).size == pytest.approx(pace.size * 0.7)


def test_without_waits_the_limit_doubles_per_round_trip() -> None:
    pace = Pace(8.0, 8.0, 4096.0)
    for trip in range(1, 5):
        for _ in range(pace.limit):
            pace = answered(pace, answer(n=pace.size))
        assert 8 * 2**trip * 0.75 <= pace.size <= 8 * 2**trip


def test_an_editor_that_tells_nothing_is_asked_for_one_more_after_its_first_refusal() -> None:
    """Per round trip; before it, slow start."""
    pace = Pace(8.0, 8.0, 4096.0)
    for _ in range(8):
        pace = answered(pace, answer(waited_s=None))
    assert pace.size == 16
    pace = refused(pace, 10.0, told=False)
    before = pace.size
    for _ in range(pace.limit):
        pace = answered(pace, answer(waited_s=None))
    assert before + 0.8 < pace.size <= before + 1


def test_edits_that_share_their_steps_are_not_taken_for_a_queue() -> None:
    """A batch makes every edit of it slower, which is work and no wait."""
    pace = Pace(8.0, 8.0, 4096.0)
    for _ in range(100):
        pace = answered(pace, answer(elapsed_s=pace.size, n=pace.size))
    assert pace.size > 50


def test_what_the_network_takes_is_no_queue() -> None:
    """An editor of milliseconds spends more on the wire than on its edits."""
    pace = Pace(8.0, 8.0, 4096.0)
    for _ in range(100):
        pace = answered(pace, answer(elapsed_s=0.05, waited_s=0.04, n=pace.size))
    assert pace.size > 100


def test_a_limit_that_is_not_in_use_is_forgotten() -> None:
    """Slowly while few edits are under way, by half a minute's idleness each time; not below where it began."""
    pace = replace(Pace(8.0, 8.0, 4096.0), size=512.0)
    for _ in range(200):
        pace = answered(pace, answer(n=3, in_use=False))
    assert 8 <= pace.size < 20
    assert rested(replace(pace, size=512.0), 60).size == 256
    assert rested(replace(pace, size=512.0), 1e5).size == 8
    assert rested(replace(pace, size=3.0), 1e5).size == 3


def test_the_fraction_of_a_limit_counts_only_at_the_limit() -> None:
    pace = replace(Pace(8.0, 8.0, 4096.0), size=3.9)
    assert [beside(pace, n, 0) for n in (1, 2, 3)] == [1, 2, 3.9]
    assert beside(pace, 3, 2) == pytest.approx(1.9) and beside(pace, 1, 5) == 1


# --- the line -------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), fixed=st.none() | st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_no_place_is_lost_or_given_twice(seed: int, fixed: int | None) -> None:
    """Nor beyond the limit: whoever is cancelled, waiting, holding or in between, and however the limit moves meanwhile."""
    asyncio.run(_traffic(random.Random(seed), fixed))


class Strict(AdaptiveLimit):
    def _take(self) -> Slot:
        assert self.in_flight < self.limit
        return super()._take()


async def _traffic(chance: random.Random, fixed: int | None) -> None:
    gate = Strict(fixed=fixed, first=3, most=6)
    holding = 0
    served: list[int] = []

    async def hold(number: int) -> None:
        nonlocal holding
        async with gate.place(later=chance.random() < 0.5) as place:
            holding += 1
            assert holding <= gate.in_flight
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                    if chance.random() < 0.2:
                        place.refused(chance.random() * 100)
                place.answered(elapsed_s=1.0, waited_s=chance.choice([None, 0.0, 0.5]), now=0.0)
                served.append(number)
            finally:
                holding -= 1

    tasks: list[asyncio.Task[None]] = []
    for number in range(60):
        tasks.append(asyncio.create_task(hold(number)))
        if chance.random() < 0.5:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        assert gate.in_flight <= max(6, fixed or 0) and gate.waiting <= len(tasks)
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
    assert len(served) == sum(end is None for end in ends)
    assert gate.in_flight == gate.waiting == gate._resting == holding == 0


async def _queue(gate: AdaptiveLimit, log: list[str], wanted: list[tuple[str, bool]]) -> list[asyncio.Task[None]]:
    async def hold(name: str, *, later: bool) -> None:
        async with gate.place(later=later):
            log.append(name)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(hold(name, later=later)) for name, later in wanted]
    await asyncio.sleep(0)
    return tasks


async def test_later_turns_go_first_and_in_order() -> None:
    """First come, first served within each; whoever leaves the line holds nobody up."""
    gate, log = AdaptiveLimit(fixed=1), list[str]()
    async with gate.place(later=False):
        names = [("a", False), ("B", True), ("c", False), ("gone", True), ("D", True), ("lost", False), ("E", True)]
        tasks = await _queue(gate, log, names)
        tasks[3].cancel()
        tasks[5].cancel()
        await asyncio.sleep(0)
        assert gate.waiting == 5 and log == []
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log == ["B", "D", "E", "a", "c"]


async def test_a_place_that_comes_in_the_moment_of_a_cancel_goes_to_the_next() -> None:
    gate, log = AdaptiveLimit(fixed=1), list[str]()
    async with gate.place(later=False):
        tasks = await _queue(gate, log, [("cancelled", False), ("next", False)])
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log == ["next"] and gate.in_flight == 0


async def test_one_free_place_wakes_one_of_thousands() -> None:
    gate, log = AdaptiveLimit(fixed=1), list[str]()
    async with gate.place(later=False):
        tasks = await _queue(gate, log, [(str(number), False) for number in range(5000)])
        assert gate.waiting == 5000
    assert gate.waiting == 4999 and gate.in_flight == 1
    await asyncio.gather(*tasks)
    assert log == [str(number) for number in range(5000)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_room_is_the_free_places_and_a_few_to_wait() -> None:
    """Nothing more while those wait, however often it is asked for."""
    gate, log = AdaptiveLimit(fixed=8), list[str]()
    assert gate.room() == 10
    release = asyncio.Event()

    async def hold() -> None:
        async with gate.place(later=False):
            await release.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(9)]
    await asyncio.sleep(0)
    assert (gate.in_flight, gate.waiting, gate.room()) == (8, 1, 1)
    tasks += await _queue(gate, log, [("later", True), ("first", False)])
    assert gate.room() == 0
    release.set()
    await asyncio.gather(*tasks)
    assert AdaptiveLimit(fixed=1).room() == 2


async def test_sessions_on_their_way_take_their_room_with_them() -> None:
    """Until they ask for a place, of whatever turn, or end without one, or are not heard of for seconds."""
    clock = Clock()
    gate = AdaptiveLimit(fixed=8, clock=clock)
    nudges = []
    gate.on_room = lambda: nudges.append(gate.room())
    for number in range(7):
        gate.expect(f"ses_{number}")
    assert gate.room() == 3
    async with gate.place(later=True, session_id="of others"):
        assert gate.room() == 2
    async with gate.place(later=False, session_id="ses_0"):
        assert gate.room() == 3
    async with gate.place(later=True, session_id="ses_1"):
        assert gate.room() == 4
    assert gate.room() == 5
    nudges.clear()
    gate.forget("ses_2")
    gate.forget("ses_2")
    assert nudges == [6]
    clock.now = 4.9
    gate.expect("ses_3")
    assert gate.room() == 6
    clock.now = 5.1
    assert gate.room() == 9


async def test_a_gate_that_was_idle_begins_with_less() -> None:
    clock = Clock()
    gate = AdaptiveLimit(clock=clock)
    gate._pace = replace(gate._pace, size=512.0)
    clock.now = 120.0
    async with gate.place(later=False):
        assert gate.limit == 128


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
def test_a_saturated_pool_is_kept_busy_with_a_short_line(slots: int, replicas: int, service: str) -> None:
    """Nobody is refused, and replicas get about as much each; they cannot go below one edit, nor share 4 places evenly."""
    unit = 1 if service == "1 s" else 4
    world = World(POOLS[slots], replicas=replicas, service=SERVICES[service]).run(50 * unit).run(100 * unit)
    done = [replica.done for replica in world.replicas]
    mean = sum(done) / replicas

    assert world.used >= 0.99
    assert world.standing * slots <= max(0.6 * slots, replicas, 0.85 * slots if replicas > 1 and slots == 4 else 0)
    assert sum(replica.refusals for replica in world.replicas) == 0
    if slots >= 16:
        assert max(abs(count / mean - 1) for count in done) <= 0.25


@pytest.mark.parametrize("service", ["4 s", "1 to 8 s"])
def test_new_workers_are_found_and_lost_ones_are_not_missed(service: str) -> None:
    """From 1 to 16 and to 8, in round trips of the work's 4 to 4.5 seconds."""
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
def test_a_pool_that_refuses_is_kept_busy(queue: int, replicas: int) -> None:
    """Each of 4 workers has 4 places and room for so many more."""
    world = World([(4, queue)] * 4, replicas=replicas, service=SERVICES["1 to 8 s"]).run(200).run(400)
    assert world.used >= 0.99
    assert sum(replica.refusals for replica in world.replicas) <= 0.5 * sum(replica.done for replica in world.replicas)


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_pool_that_only_refuses_and_tells_nothing_is_kept_busy(replicas: int) -> None:
    """As other servers do: then their own bounds are the line."""
    world = World([(4, 2)] * 4, replicas=replicas, service=SERVICES["1 to 8 s"], tells=False).run(200).run(400)
    assert world.used >= 0.97
    assert sum(replica.refusals for replica in world.replicas) <= 0.2 * sum(replica.done for replica in world.replicas)


def test_a_replica_that_joins_later_gets_its_share() -> None:
    """In some minutes; the pool is as busy meanwhile."""
    world = World(POOLS[16], replicas=2, service=SERVICES["1 to 8 s"])
    world.replicas[1].demand = 0
    world.run(200)
    world.replicas[1].demand = math.inf
    assert world.run(250).used >= 0.99
    world.run(200)
    first, second = (replica.done for replica in world.replicas)
    assert 0.7 <= second / first <= 1.4


def test_a_replica_with_little_to_do_does_not_lose_its_share() -> None:
    """Its few edits go through, and when it has more to send it gets there."""
    world = World(POOLS[16], replicas=2, service=SERVICES["1 to 8 s"])
    world.replicas[1].demand = 2
    world.run(300).run(100)
    assert world.used >= 0.99 and world.replicas[1].done >= 0.8 * 2 * 100 / 6
    world.replicas[1].demand = math.inf
    world.run(200).run(200)
    first, second = (replica.done for replica in world.replicas)
    assert 0.7 <= second / first <= 1.4


def test_how_long_most_edits_take_is_known() -> None:
    """The mean where all take the same; well above it where they differ; their wait in the pool is part of it."""
    alike = even = late = Pace(8.0, 8.0, 64.0)
    for number in range(400):
        alike = answered(alike, Answer(4.0, 0.0, 8.0, in_use=True))
        even = answered(even, Answer(1.0 + 7.0 * (number % 8) / 7, 0.0, 8.0, in_use=True))
        late = answered(late, Answer(6.1, 2.1, 8.0, in_use=True))
    gates = [AdaptiveLimit(), AdaptiveLimit(), AdaptiveLimit()]
    for gate, pace in zip(gates, (alike, even, late), strict=True):
        gate._pace = pace

    assert gates[0].edit_s == pytest.approx(4.0, abs=0.05)
    assert 6.0 < gates[1].edit_s < 8.5
    assert gates[2].edit_s == pytest.approx(6.0, abs=0.2)
    assert AdaptiveLimit().edit_s == 0

"""Whose turn it is: limits kept, nobody starves, urgent and short edits first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from services.editor.engine.scheduler import (
    HEAD_START_S,
    Choice,
    Entry,
    Limits,
    choose,
    crowded,
    dispensable,
    due,
    expired,
    next_expiry,
)

limits = st.builds(
    Limits,
    active=st.integers(1, 5),
    batch=st.integers(1, 4),
    cost=st.one_of(st.none(), st.integers(1, 30)),
    marginal=st.one_of(st.just(0.0), st.floats(0, 1)),
)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    number = draw(st.integers(0, 12))
    return [
        Entry(
            place,
            draw(st.floats(0, 100)),
            started := draw(st.booleans()),
            draw(st.sampled_from([None, "a", "b"])) if started else None,
            draw(st.integers(1, 20)),
            draw(st.sampled_from([None, None, None, 5.0])),
            draw(st.sampled_from([False, False, False, True])),
        )
        for place in range(number)
    ]


@given(there=entries(), limit=limits, just=st.booleans())
def test_a_choice_keeps_every_limit(*, there: list[Entry], limit: Limits, just: bool) -> None:
    """Places, batch size, cost, one group, and those that must be alone."""
    choice = choose(there, limit, just_started=just)
    free = [entry for entry in there if entry.held_until is None]
    if choice is None:
        assert not free
        return
    chosen = [there[number] for number in choice.ids]
    assert all(entry.held_until is None for entry in chosen)
    assert len(set(choice.ids)) == len(chosen)
    active = sum(entry.started for entry in free)
    if choice.start:
        assert len(chosen) == 1 and not chosen[0].started and active < limit.active
        assert not active or not any(entry.alone for entry in (*chosen, *free) if entry.started or entry in chosen)
        return
    assert all(entry.started for entry in chosen)
    if len(chosen) > 1:
        assert len(chosen) <= limit.batch
        assert limit.cost is None or sum(entry.cost for entry in chosen) <= limit.cost
        assert {entry.group for entry in chosen} == {chosen[0].group} != {None}
        assert not any(entry.alone for entry in chosen)


@given(there=entries(), limit=limits, just=st.booleans())
def test_the_earliest_due_leads(*, there: list[Entry], limit: Limits, just: bool) -> None:
    """Among those to start, and among those started."""
    choice = choose(there, limit, just_started=just)
    if choice is not None:
        lead = there[choice.ids[0]]
        rivals = [entry for entry in there if entry.held_until is None and entry.started == lead.started]
        assert lead.due == min(entry.due for entry in rivals)


@given(entries(), limits)
def test_somebody_always_moves(there: list[Entry], limit: Limits) -> None:
    """Whatever is there and not set aside leads to work: the device is never idle beside it."""
    free = [entry for entry in there if entry.held_until is None]
    assert (choose(there, limit) is None) == (not free)


@dataclass
class World:
    """Edits that arrive at given turns, and a device that has one turn at a time."""

    limit: Limits
    arrivals: list[tuple[int, int, int, str]]  # (turn, calls, urgency, group)

    def done(self) -> tuple[dict[int, int], list[Choice]]:
        """When each was done, and every choice."""
        there: dict[int, Entry] = {}
        left = {number: 1 + calls for number, (_, calls, _, _) in enumerate(self.arrivals)}
        ends: dict[int, int] = {}
        choices: list[Choice] = []
        turn, just = 0, False
        while len(ends) < len(self.arrivals):
            for number, (at, calls, urgency, _) in enumerate(self.arrivals):
                if at == turn:
                    there[number] = Entry(number, due(at, 1 + calls, urgency))
            choice = choose(there.values(), self.limit, just_started=just)
            turn += 1
            if choice is None:
                continue
            choices.append(choice)
            just = choice.start
            for number in choice.ids:
                left[number] -= 1
                there[number] = replace(there[number], started=True, group=self.arrivals[number][3])
                if left[number] == 0:
                    ends[number] = turn
                    del there[number]
        return ends, choices


arrivals = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 12), st.integers(0, 1), st.sampled_from("ab")), min_size=1, max_size=14
)


@given(arrivals, limits)
def test_nobody_starves(arriving: list[tuple[int, int, int, str]], limit: Limits) -> None:
    """An edit waits at most for the work of those due before it and of those it found on the device, and between two turns of
    these for one other edit's start.
    """
    ends, _ = World(limit, arriving).done()
    dues = [due(at, 1 + calls, urgency) for at, calls, urgency, _ in arriving]
    for number, (at, _, _, _) in enumerate(arriving):
        before = [
            other
            for other in range(len(arriving))
            if dues[other] <= dues[number] or (arriving[other][0] <= at and ends[other] > at)
        ]
        bound = sum(1 + arriving[other][1] for other in {*before, number})
        assert ends[number] - at <= 2 * bound


@given(arrivals, limits)
def test_at_most_one_start_between_two_steps_of_a_running_batch(arriving: list[tuple[int, int, int, str]], limit: Limits) -> None:
    """Encoding stalls those who run for no longer than one edit's worth."""
    running: set[int] = set()
    left = [1 + calls for _, calls, _, _ in arriving]
    started_before = False
    for choice in World(limit, arriving).done()[1]:
        if choice.start:
            assert not (started_before and running)
        started_before = choice.start
        for number in choice.ids:
            left[number] -= 1
            running.add(number)
            if left[number] == 0:
                running.discard(number)


def test_a_short_edit_overtakes_a_long_one_but_not_for_ever() -> None:
    """It may pass who would be done later than itself, and nobody who was there long before."""
    long_one = due(0, 50)
    assert due(100, 5) < long_one < due(200, 5)


def test_an_urgent_edit_counts_as_having_come_earlier() -> None:
    """Half a minute a level, backwards too."""
    assert due(100, 5, urgency=1) == due(100 - HEAD_START_S, 5)
    assert due(100, 5, urgency=-1) > due(100, 5)


def test_a_batch_grows_with_the_line_where_batching_gains_little() -> None:
    """And at once where it gains much."""
    running = [Entry(number, number, True, "a") for number in range(3)]
    waiting = [Entry(number, number) for number in range(3, 15)]
    little, much = Limits(3, 8, 100, marginal=0.8), Limits(3, 8, 100, marginal=0.1)

    def size(there: list[Entry], limit: Limits) -> int:
        choice = choose(there, limit)
        assert choice is not None and not choice.start
        return len(choice.ids)

    assert [size([*running, *waiting[:behind]], little) for behind in (0, 3, 8)] == [1, 2, 3]
    assert [size([*running, *waiting[:behind]], much) for behind in (0, 3, 8)] == [3, 3, 3]


def test_an_edit_that_must_be_alone_waits_for_an_empty_device_and_keeps_it() -> None:
    """Those due before it still go first, and nobody who came later passes it."""
    alone, running, later = Entry(2, 2, alone=True), Entry(1, 1, True, "a"), Entry(3, 3)
    limit = Limits(8, 8, None)
    assert choose([running, alone, later], limit) == Choice((1,), start=False)
    assert choose([running, alone, later, Entry(0, 0)], limit) == Choice((0,), start=True)
    assert choose([alone, later], limit) == Choice((2,), start=True)
    assert choose([replace(alone, started=True, group="a"), later, Entry(0, 0)], limit) == Choice((2,), start=False)


def test_without_a_limit_of_cost_only_their_number_counts() -> None:
    """As an operator's MAX_BATCH has it."""
    there = [Entry(number, number, True, "a", cost=1000) for number in range(4)]
    assert choose(there, Limits(4, 3, None)) == Choice((0, 1, 2), start=False)
    assert choose(there, Limits(4, 3, 2000)) == Choice((0, 1), start=False)


def test_edits_set_aside_take_part_in_the_memory_and_go_in_the_order_of_their_expiry() -> None:
    """Those that were never started keep nothing."""
    there = [Entry(1, 0, True, held_until=9.0), Entry(2, 1, True, held_until=7.0), Entry(3, 2, held_until=5.0), Entry(4, 3, True)]
    assert [crowded(there, Limits(8, 8, None, room=room)) for room in (3, 4, None)] == [True, False, False]
    assert dispensable(there) == 2
    assert dispensable(there[2:]) is None


def test_what_is_set_aside_is_left_alone_until_it_expires() -> None:
    """And the executor knows how long it may sleep."""
    there = [Entry(1, 0, held_until=7.0), Entry(2, 1, held_until=5.0), Entry(3, 2)]
    assert choose(there, Limits(1, 1, 1)) == Choice((3,), start=True)
    assert expired(there, 4.9) == [] and expired(there, 6) == [2] and expired(there, 7) == [1, 2]
    assert next_expiry(there) == 5.0 and next_expiry([there[2]]) is None

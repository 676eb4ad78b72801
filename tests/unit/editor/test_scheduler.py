"""The scheduler keeps its limits, starves no request, and runs urgent and short requests first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from services.editor.engine.cost_model import CostModel, Knot
from services.editor.engine.scheduler import (
    HEAD_START_S,
    Limits,
    Request,
    SchedulerOutput,
    Work,
    backlog_s,
    due_time,
    eviction_candidate,
    expired,
    memory_full,
    next_expiry,
    schedule,
)

limits = st.builds(
    Limits,
    active=st.integers(1, 5),
    batch=st.integers(1, 4),
    cost=st.one_of(st.none(), st.integers(1, 30)),
    always_batch=st.booleans(),
    overlap=st.booleans(),
)

knots = st.builds(
    Knot, tokens=st.integers(1, 40), alone_s=st.floats(0.001, 10), marginal=st.floats(0, 1.3), ends_s=st.floats(0, 10)
)
models = st.lists(knots, min_size=1, max_size=3, unique_by=lambda one: one.tokens).map(CostModel.of)
FREE = CostModel.of([Knot(1, 1.0, marginal=0.0)])


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    number = draw(st.integers(0, 12))
    return [
        Request(
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


@given(present=requests(), limit=limits, model=models, just=st.booleans())
def test_a_scheduled_batch_keeps_every_limit(*, present: list[Request], limit: Limits, model: CostModel, just: bool) -> None:
    """Running requests, batch size, cost, one group, and exclusive requests."""
    output = schedule(present, limit, model, just_started=just)
    free = [request for request in present if request.preempted_until is None]
    if output is None:
        assert not free
        return
    chosen = [present[number] for number in output.ids]
    assert all(request.preempted_until is None for request in chosen)
    assert len(set(output.ids)) == len(chosen)
    active = sum(request.started for request in free)
    if output.start:
        assert len(chosen) == 1 and not chosen[0].started and active < limit.active
        assert not active or not any(request.exclusive for request in (*chosen, *free) if request.started or request in chosen)
        return
    assert all(request.started for request in chosen)
    if len(chosen) > 1:
        assert len(chosen) <= limit.batch
        assert limit.cost is None or sum(request.cost for request in chosen) <= limit.cost
        assert {request.group for request in chosen} == {chosen[0].group} != {None}
        assert not any(request.exclusive for request in chosen)


@given(present=requests(), limit=limits, model=models, just=st.booleans())
def test_the_request_due_first_leads(*, present: list[Request], limit: Limits, model: CostModel, just: bool) -> None:
    """Among the waiting and among the running requests."""
    output = schedule(present, limit, model, just_started=just)
    if output is not None:
        lead = present[output.ids[0]]
        rivals = [request for request in present if request.preempted_until is None and request.started == lead.started]
        assert lead.due == min(request.due for request in rivals)


@given(requests(), limits)
def test_the_device_is_never_idle_while_a_request_is_present(present: list[Request], limit: Limits) -> None:
    """Unless all are preempted."""
    free = [request for request in present if request.preempted_until is None]
    assert (schedule(present, limit, FREE) is None) == (not free)


@given(present=requests(), limit=limits, model=models, just=st.booleans(), pending=st.sets(st.integers(0, 11)))
def test_pending_requests_are_not_advanced_and_keep_their_slots(
    *, present: list[Request], limit: Limits, model: CostModel, just: bool, pending: set[int]
) -> None:
    """An exclusive one keeps the device, too; otherwise the device is idle only while two are pending or every slot is taken."""
    present = [replace(request, pending=request.started and request.id in pending) for request in present]
    output = schedule(present, limit, model, just_started=just)
    free = [request for request in present if request.preempted_until is None]
    started = [request for request in free if request.started]
    away = [request for request in started if request.pending]
    waiting = sorted((request for request in free if not request.started), key=lambda request: (request.due, request.id))
    if output is None:
        alone = any(request.exclusive for request in (*started, *waiting[:1]))
        assert len(started) == len(away) and (not waiting or alone or len(away) >= 2 or len(started) >= limit.active)
        return
    chosen = [present[number] for number in output.ids]
    assert not any(request.pending for request in chosen)
    if output.start and started:
        assert len(away) < 2 and len(started) < limit.active and not any(request.exclusive for request in (*started, *chosen))


def test_one_request_is_started_ahead_where_encoding_overlaps() -> None:
    """Although no other may join the batch; and none before the batch has had its pass."""
    running, ahead = Request(1, 1, True, "a"), Request(2, 2, True, "a")
    waiting = Request(3, 3)
    alone = Limits(8, 1, None, overlap=True)
    assert schedule([running, waiting], alone, FREE) == SchedulerOutput((3,), start=True)
    assert schedule([running, waiting], alone, FREE, just_started=True) == SchedulerOutput((1,), start=False)
    assert schedule([running, waiting], replace(alone, overlap=False), FREE) == SchedulerOutput((1,), start=False)
    for other in (ahead, replace(ahead, group=None, pending=True)):
        assert schedule([running, other, waiting], alone, FREE) == SchedulerOutput((1,), start=False)


@dataclass
class World:
    """Simulates requests that arrive at given turns, and a device that runs one pass a turn."""

    limit: Limits
    arrivals: list[tuple[int, int, int, str]]  # (turn, calls, urgency, group)

    def done(self) -> tuple[dict[int, int], list[SchedulerOutput]]:
        """The turn at which each was finished, and every output."""
        present: dict[int, Request] = {}
        left = {number: 1 + calls for number, (_, calls, _, _) in enumerate(self.arrivals)}
        ends: dict[int, int] = {}
        outputs: list[SchedulerOutput] = []
        turn, just = 0, False
        while len(ends) < len(self.arrivals):
            for number, (at, calls, urgency, _) in enumerate(self.arrivals):
                if at == turn:
                    present[number] = Request(number, due_time(at, 1 + calls, urgency))
            output = schedule(present.values(), self.limit, FREE, just_started=just)
            turn += 1
            if output is None:
                continue
            outputs.append(output)
            just = output.start
            for number in output.ids:
                left[number] -= 1
                present[number] = replace(present[number], started=True, group=self.arrivals[number][3])
                if left[number] == 0:
                    ends[number] = turn
                    del present[number]
        return ends, outputs


arrivals = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 12), st.integers(0, 1), st.sampled_from("ab")), min_size=1, max_size=14
)


@given(arrivals, limits)
def test_no_request_starves(arriving: list[tuple[int, int, int, str]], limit: Limits) -> None:
    """A request waits at most for the work of those due before it and of those running when it arrived, and between two passes of
    these for one other request's start.
    """
    ends, _ = World(limit, arriving).done()
    dues = [due_time(at, 1 + calls, urgency) for at, calls, urgency, _ in arriving]
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
    """Encoding stalls the running batch for at most one start."""
    running: set[int] = set()
    left = [1 + calls for _, calls, _, _ in arriving]
    started_before = False
    for output in World(limit, arriving).done()[1]:
        if output.start:
            assert not (started_before and running)
        started_before = output.start
        for number in output.ids:
            left[number] -= 1
            running.add(number)
            if left[number] == 0:
                running.discard(number)


def test_a_short_request_overtakes_a_long_one_within_bounds() -> None:
    """Only one that arrived shortly before it."""
    long_one = due_time(0, 50)
    assert due_time(100, 5) < long_one < due_time(200, 5)


def test_urgency_moves_the_due_time() -> None:
    """By half a minute a level, in both directions."""
    assert due_time(100, 5, urgency=1) == due_time(100 - HEAD_START_S, 5)
    assert due_time(100, 5, urgency=-1) > due_time(100, 5)


def test_a_batch_grows_with_the_queue_where_batching_gains_little() -> None:
    """And at once where it gains much."""
    running = [Request(number, number, True, "a") for number in range(3)]
    waiting = [Request(number, number) for number in range(3, 15)]
    little, much = (CostModel.of([Knot(1, 1.0, marginal)]) for marginal in (0.8, 0.1))

    def size(present: list[Request], model: CostModel) -> int:
        output = schedule(present, Limits(3, 8, 100), model)
        assert output is not None and not output.start
        return len(output.ids)

    assert [size([*running, *waiting[:behind]], little) for behind in (0, 3, 8)] == [1, 2, 3]
    assert [size([*running, *waiting[:behind]], much) for behind in (0, 3, 8)] == [3, 3, 3]


@given(present=requests(), limit=limits, model=models, just=st.booleans())
def test_no_batch_is_formed_that_the_model_says_does_not_pay(
    *, present: list[Request], limit: Limits, model: CostModel, just: bool
) -> None:
    """Its pass takes less time than its requests would one after another."""
    output = schedule(present, replace(limit, always_batch=False), model, just_started=just)
    if output is not None and len(output.ids) > 1:
        costs = [present[number].cost for number in output.ids]
        assert model.pass_s(len(costs), sum(costs)) < sum(model.pass_s(1, cost) for cost in costs)


@given(st.integers(1, 8), st.integers(0, 30), models, limits)
def test_the_backlog_counts_the_batches_that_would_be_formed(number: int, calls: int, model: CostModel, limit: Limits) -> None:
    """It is never more than the work of all edits one after another, and without batches exactly that."""
    works = [Work(7, calls, started=False)] * number
    alone_s = number * model.work_s(7, calls)
    assert backlog_s(works, replace(limit, always_batch=False), model) <= alone_s * (1 + 1e-9)
    assert abs(backlog_s(works, replace(limit, batch=1), model) - alone_s) <= 1e-9 * alone_s


def test_an_exclusive_request_waits_for_an_empty_device_and_keeps_it() -> None:
    """Requests due before it go first; later ones do not pass it."""
    alone, running, later = Request(2, 2, exclusive=True), Request(1, 1, True, "a"), Request(3, 3)
    limit = Limits(8, 8, None)
    assert schedule([running, alone, later], limit, FREE) == SchedulerOutput((1,), start=False)
    assert schedule([running, alone, later, Request(0, 0)], limit, FREE) == SchedulerOutput((0,), start=True)
    assert schedule([alone, later], limit, FREE) == SchedulerOutput((2,), start=True)
    assert schedule([replace(alone, started=True, group="a"), later, Request(0, 0)], limit, FREE) == SchedulerOutput(
        (2,), start=False
    )


def test_without_a_cost_limit_only_the_number_counts() -> None:
    """As with an operator's MAX_BATCH."""
    present = [Request(number, number, True, "a", cost=1000) for number in range(4)]
    assert schedule(present, Limits(4, 3, None, always_batch=True), FREE) == SchedulerOutput((0, 1, 2), start=False)
    assert schedule(present, Limits(4, 3, 2000, always_batch=True), FREE) == SchedulerOutput((0, 1), start=False)


def test_preempted_requests_count_as_memory_and_are_evicted_in_the_order_of_their_expiry() -> None:
    """Those that were never started hold no memory."""
    present = [
        Request(1, 0, True, preempted_until=9.0),
        Request(2, 1, True, preempted_until=7.0),
        Request(3, 2, preempted_until=5.0),
        Request(4, 3, True),
    ]
    assert [memory_full(present, Limits(8, 8, None, resident=room)) for room in (3, 4, None)] == [True, False, False]
    assert eviction_candidate(present) == 2
    assert eviction_candidate(present[2:]) is None


def test_a_preempted_request_is_not_scheduled_and_expires() -> None:
    """The next expiry is how long the executor may wait."""
    present = [Request(1, 0, preempted_until=7.0), Request(2, 1, preempted_until=5.0), Request(3, 2)]
    assert schedule(present, Limits(1, 1, 1), FREE) == SchedulerOutput((3,), start=True)
    assert expired(present, 4.9) == [] and expired(present, 6) == [2] and expired(present, 7) == [1, 2]
    assert next_expiry(present) == 5.0 and next_expiry([present[2]]) is None

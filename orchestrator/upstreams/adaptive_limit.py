"""How many edits one replica keeps in flight at one editor: enough to keep the pool busy, with a short queue there.

Theory of operation. `LimitState` is a pure value; `after_completion`, `after_rejection` and `after_idle` make the next one.

Little's law says that of n edits in flight, which spent q seconds in the pool's queues and s seconds being worked on,
``n * s / (q + s)`` were being worked on at a time. That is the capacity this replica can count on. The limit is a little more::

    limit = 1.05 * served + 0.7 * sqrt(n)

TCP Vegas (Brakmo & Peterson, 1995) estimates the queue from such times and keeps a few packets in it. A queue of the order of
the square root is what Netflix's Gradient2 allows (github.com/Netflix/concurrency-limits), and what keeps many servers busy
(Halfin & Whitt, 1981). The added term is the same for replicas of the same size, while a long queue reduces all of them by the
same ratio, so they converge to equal shares, as with additive increase and multiplicative decrease (Chiu & Jain, 1989).
In simulation (tests/unit/orchestrator/pools.py) edits queue for 0.5 s at a pool of 4 slots and for 0.16 s at one of 64; with
three replicas, 0.7 s and 0.24 s.

- Slow start: while nothing has queued for a round trip, every completion adds one, so the limit doubles per round trip.
- 429 and 503: down to the capacity served, but not below 0.7 of the limit, once per round trip. Above the size at which the
  pool rejected, the limit grows by one per round trip until it is well above.
- An editor that does not report queue times: slow start until its first 429, then one more per round trip, and 0.7 of the
  limit at each 429. Such an editor with an unbounded queue never rejects, and needs a fixed limit.
- A limit that is not in use does not grow, and slowly decays (RFC 7661, congestion window validation).

Edits that wait for a slot are in one order: the tenant that got least editor time comes first, so that one with 16 candidates a
turn gets no more slots than one with a single edit. A tenant that comes back starts at the level of the last one served, so that
idle time is no credit (start-time fair queueing; Goyal, Vin and Cheng, 1996). `orchestrator.store` orders sessions likewise.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.ports.stores import Share

_NOISE_S: Final = 0.1
"""The part of a queue time that the network and a busy event loop explain."""
_EXTRA_SHARE: Final = 0.05
_EXTRA_ROOT: Final = 0.7
_SHORT_QUEUE: Final = 0.1
_LONG_QUEUE: Final = 0.5
"""Queue times as shares of the service time: below the first there is practically no queue; the second is too long."""
_DECREASE: Final = 0.7
_WELL_ABOVE: Final = 1.25
_MIN_STREAK: Final = 3
"""Completions in a row without a queue that are more than chance."""
_FIRST_ROUND_TRIP_S: Final = 1.0
"""Assumed until one has been measured."""
_MAX_ROUND_TRIP_S: Final = 60.0
_P90_DEVIATIONS: Final = 1.5
_P99_DEVIATIONS: Final = 3.0
"""Mean deviations above the mean that cover about 90 % and 99 % of edits, for service times spread from 1 to 8 s."""
_DECAY_ROUND_TRIPS: Final = 8.0
"""Round trips in which an unused limit decays to twice what is used."""
_IDLE_HALF_LIFE_S: Final = 60.0
_MAX_DEPARTED: Final = 1000
"""Tenants that left and whose work is remembered, before those that no longer matter are dropped."""
_CLAIMED_S: Final = 5.0
"""Seconds for which a claimed session counts as about to ask for a slot."""


@dataclass(frozen=True, slots=True)
class CompletedEdit:
    """The measurements of one edit that came back.

    Attributes:
        elapsed_s: from sending the request to its response.
        queue_s: the part of it spent in the pool's queues; None if the editor does not report it.
        in_flight_at_start: edits in flight when it got its slot, see `in_flight_at_start`; None if the pool rejected it first.
        limit_in_use: whether the limit was reached, or edits were queued for a slot.
        draft: whether it made a draft, which takes a fraction of an edit in full.
    """

    elapsed_s: float
    queue_s: float | None
    in_flight_at_start: float | None
    limit_in_use: bool
    draft: bool = False


@dataclass(frozen=True, slots=True)
class LimitState:
    """The limit and the estimates it is computed from.

    Attributes:
        size: the limit, with its fraction.
        initial: where it starts, and what it decays to when idle.
        maximum: its upper bound.
        mean_in_flight, mean_service_s, mean_queue_s: means over the completions of about one round trip.
        samples: completions in these means, up to one round trip.
        full_s, full_deviation_s: mean service time of edits in full, and its mean absolute deviation.
        full_samples: completions in these two, up to one round trip.
        streak: completions since the last one that queued.
        rejected_at: the size at which the pool last rejected; infinite if it has not, or if that was passed by far.
        next_decrease_at: until then, rejections are of edits sent before the last decrease.
    """

    size: float
    initial: float
    maximum: float
    mean_in_flight: float = 0.0
    mean_service_s: float = 0.0
    mean_queue_s: float = 0.0
    samples: int = 0
    full_s: float = 0.0
    full_deviation_s: float = 0.0
    full_samples: int = 0
    streak: int = 0
    rejected_at: float = math.inf
    next_decrease_at: float = -math.inf

    @property
    def limit(self) -> int:
        """Edits that may be in flight."""
        return max(1, int(self.size))

    @property
    def served(self) -> float:
        """Edits of this replica that the pool works on at a time."""
        return self.mean_in_flight * self.mean_service_s / max(1e-9, self.mean_service_s + self.mean_queue_s)


def in_flight_at_start(state: LimitState, in_flight: int, backing_off: int) -> float:
    """Edits in flight for one that gets its slot now, itself included, without those that back off between two attempts.

    At the limit the fraction counts as well: otherwise a replica with a size of 1.9 would never get its second slot.
    """
    return max(1.0, (state.size if in_flight >= state.limit else in_flight) - backing_off)


def after_completion(state: LimitState, edit: CompletedEdit) -> LimitState:
    """The state after an edit came back."""
    if edit.queue_s is None:
        grown = state.size + 1 if math.isinf(state.rejected_at) else state.size + 1 / state.size
        averaged = _averaged(state, edit, 0.0)
        return _resized(averaged, grown) if edit.limit_in_use else _decayed(averaged)
    queue_s = min(max(0.0, edit.queue_s - _NOISE_S), edit.elapsed_s)
    averaged = _averaged(state, edit, queue_s)
    if not edit.limit_in_use:
        return _decayed(averaged)
    target = averaged.served * (1 + _EXTRA_SHARE) + _EXTRA_ROOT * math.sqrt(averaged.mean_in_flight)
    if averaged.streak >= max(_MIN_STREAK, averaged.mean_in_flight):
        target = max(target, averaged.size + 1)
    if averaged.mean_queue_s < _SHORT_QUEUE * averaged.mean_service_s:
        # The means lag behind a limit that grows.
        target = max(target, averaged.size)
    if target > averaged.size and target > averaged.rejected_at:
        target = min(target, max(averaged.size, averaged.rejected_at) + 1 / averaged.size)
    passed = target > max(averaged.rejected_at * _WELL_ABOVE, averaged.rejected_at + 2)
    return _resized(replace(averaged, rejected_at=math.inf if passed else averaged.rejected_at), target)


def after_rejection(state: LimitState, now: float, *, reports_queue: bool) -> LimitState:
    """The state after the pool rejected an edit; `reports_queue`: whether the editor reports queue times."""
    if now < state.next_decrease_at:
        return state
    round_trip_s = state.mean_service_s + state.mean_queue_s if state.samples else _FIRST_ROUND_TRIP_S
    served = min(state.size, state.served) if reports_queue else 0.0
    smaller = _resized(state, max(state.size * _DECREASE, served))
    next_decrease_at = now + min(round_trip_s, _MAX_ROUND_TRIP_S)
    return replace(smaller, rejected_at=state.size, streak=0, next_decrease_at=next_decrease_at)


def after_idle(state: LimitState, seconds: float) -> LimitState:
    """The state after some seconds without any edit: the estimates may be outdated."""
    smaller = max(state.initial, state.size * 0.5 ** (seconds / _IDLE_HALF_LIFE_S))
    return _resized(state, min(state.size, smaller))


def _resized(state: LimitState, size: float) -> LimitState:
    return replace(state, size=min(max(1.0, size), state.maximum))


def _decayed(state: LimitState) -> LimitState:
    """A limit that holds nothing back is not tested, so it does not grow; other replicas may have filled the pool."""
    if state.mean_queue_s > _LONG_QUEUE * state.mean_service_s:
        target = state.served * (1 + _EXTRA_SHARE) + _EXTRA_ROOT * math.sqrt(state.mean_in_flight)
    else:
        target = max(state.initial, 2 * state.mean_in_flight)
    step = (state.size - target) / (_DECAY_ROUND_TRIPS * max(1.0, state.mean_in_flight))
    return _resized(state, state.size - max(0.0, step))


def _averaged(state: LimitState, edit: CompletedEdit, queue_s: float) -> LimitState:
    in_flight = state.mean_in_flight if edit.in_flight_at_start is None else edit.in_flight_at_start
    samples = min(state.samples + 1, max(1, round(in_flight)))
    weight = 1 / samples
    service_s = edit.elapsed_s - queue_s
    return replace(
        state if edit.draft else _averaged_in_full(state, service_s, in_flight),
        mean_in_flight=state.mean_in_flight + (in_flight - state.mean_in_flight) * weight,
        mean_service_s=state.mean_service_s + (service_s - state.mean_service_s) * weight,
        mean_queue_s=state.mean_queue_s + (queue_s - state.mean_queue_s) * weight,
        samples=samples,
        streak=0 if queue_s > _SHORT_QUEUE / 2 * service_s else state.streak + 1,
    )


def _averaged_in_full(state: LimitState, service_s: float, in_flight: float) -> LimitState:
    samples = min(state.full_samples + 1, max(1, round(in_flight)))
    deviation_s = abs(service_s - state.full_s)
    return replace(
        state,
        full_s=state.full_s + (service_s - state.full_s) / samples,
        full_deviation_s=state.full_deviation_s + (deviation_s - state.full_deviation_s) / samples if state.full_samples else 0.0,
        full_samples=samples,
    )


@dataclass(slots=True, eq=False)
class _Tenant:
    """A tenant's edits at one editor.

    Attributes:
        arrival: its place among those with the same work.
        work_s: editor time that it got, from the level at which it came.
        queues: its edits that wait: of later turns, of first turns. Ordered dictionaries, since a cancelled edit leaves from the
            middle of its queue.
        here: edits that wait or hold a slot.
    """

    arrival: int
    work_s: float
    queues: tuple[OrderedDict[asyncio.Future[Slot], None], OrderedDict[asyncio.Future[Slot], None]]
    here: int = 0


class _FairQueue:
    """The waiting edits, in the order of what their tenants got.

    The next one is found by a look at every tenant here: 0.1 ms for a thousand, once for each edit that gets a slot.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._departed: dict[str, float] = {}
        """The work of tenants that left, where that is above the level: a tenant with one heavy edit after the other."""
        self._level = 0.0
        """What the tenant had got to which the last slot was granted, before that: a newcomer is next."""
        self._arrivals = itertools.count()
        self.waiting = 0

    @property
    def tenants(self) -> int:
        """Tenants with edits here."""
        return len(self._tenants)

    def arrive(self, name: str) -> _Tenant:
        """One more edit of a tenant is here."""
        if name not in self._tenants:
            work_s = max(self._level, self._departed.pop(name, 0.0))
            self._tenants[name] = _Tenant(next(self._arrivals), work_s, (OrderedDict(), OrderedDict()))
        self._tenants[name].here += 1
        return self._tenants[name]

    def granted(self, tenant: _Tenant) -> None:
        """A slot is about to be granted to a tenant."""
        self._level = max(self._level, tenant.work_s)
        if len(self._departed) > _MAX_DEPARTED:
            self._departed = {name: work_s for name, work_s in self._departed.items() if work_s > self._level}

    def leave(self, name: str) -> None:
        """One edit of a tenant is gone."""
        tenant = self._tenants[name]
        tenant.here -= 1
        if tenant.here:
            return
        del self._tenants[name]
        if not self._tenants:
            # Nobody has waited for anybody.
            self._level, self._departed = 0.0, {}
        elif tenant.work_s > self._level:
            self._departed[name] = tenant.work_s

    def push(self, tenant: _Tenant, edit: asyncio.Future[Slot], *, later: bool) -> None:
        """An edit waits."""
        tenant.queues[0 if later else 1][edit] = None
        self.waiting += 1

    def remove(self, tenant: _Tenant, edit: asyncio.Future[Slot]) -> None:
        """An edit waits no longer."""
        for queue in tenant.queues:
            if edit in queue:
                del queue[edit]
                self.waiting -= 1

    def pop(self) -> tuple[_Tenant, asyncio.Future[Slot]] | None:
        """Remove and return the next edit."""
        if not self.waiting:
            return None
        waiting = (tenant for tenant in self._tenants.values() if any(tenant.queues))
        tenant = min(waiting, key=lambda tenant: (tenant.work_s, tenant.arrival))
        edit, _ = (tenant.queues[0] or tenant.queues[1]).popitem(last=False)
        self.waiting -= 1
        return tenant, edit


class Slot:
    """One edit's slot among those in flight; its client reports to it what became of the edit."""

    def __init__(self, limit: AdaptiveLimit, in_flight_at_start: float, tenant: _Tenant, advance_s: float, began: float) -> None:
        self._limit = limit
        self._tenant = tenant
        self._advance_s = advance_s
        self._began = began
        self._in_flight_at_start: float | None = in_flight_at_start

    def completed(self, *, elapsed_s: float, queue_s: float | None, draft: bool = False) -> None:
        """The edit came back.

        Args:
            elapsed_s: of the request that succeeded, without earlier attempts and the pauses between them.
            queue_s: the part of it spent in the pool's queues; None if the editor does not report it.
            draft: whether it made a draft.
        """
        self._limit._completed(elapsed_s, queue_s, self._in_flight_at_start, draft=draft)  # noqa: SLF001 - two halves of one thing

    def rejected(self, now: float) -> None:
        """The pool was full (429, 503). The edit keeps its slot while it backs off, so that a full pool gets fewer requests."""
        if self._in_flight_at_start is not None:
            self._in_flight_at_start = None
            self._limit._backing_off += 1  # noqa: SLF001 - as above
        self._limit._rejected(now)  # noqa: SLF001 - as above

    def _release(self) -> None:
        if self._in_flight_at_start is None:
            self._limit._backing_off -= 1  # noqa: SLF001 - as above
        self._limit._free_slot(self._tenant, self._began, self._advance_s)  # noqa: SLF001 - as above


class AdaptiveLimit:
    """Bounds the edits that this replica has in flight at one editor; the others queue here, in order.

    For one event loop. The tenant that got least comes first; of one tenant, edits of later turns go before those of first turns,
    so that sessions that have begun are completed first.

    Args:
        fixed: a constant limit, instead of an adaptive one.
        initial: where the adaptive limit starts.
        maximum: its upper bound.
        clock: seconds, for idle times and the age of claims.
    """

    def __init__(
        self, *, fixed: int | None = None, initial: int = 8, maximum: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fixed = fixed
        self._state = LimitState(float(min(initial, maximum)), float(min(initial, maximum)), float(maximum))
        self._clock = clock
        self._reports_queue = False
        self._in_flight = 0
        self._backing_off = 0
        self._idle_since = clock()
        self._queue = _FairQueue()
        self._claimed: dict[str, float] = {}
        """Sessions about to ask for a slot, and until when they count; the oldest first."""
        self.on_capacity: Callable[[], None] = lambda: None
        """Called when there may be capacity for another session."""

    @property
    def limit(self) -> int:
        """Edits that may be in flight now."""
        return self._state.limit if self._fixed is None else self._fixed

    @property
    def edit_s(self) -> float:
        """Seconds within which most edits in full come back once they have their slot; 0 while no edit has come back.

        This is the p99 when edits are queued here (a late edit wastes a slot), and the p90 otherwise. Until an edit in full has
        come back, drafts stand for it.
        """
        deviations = _P99_DEVIATIONS if self.queued else _P90_DEVIATIONS
        state = self._state
        service_s = state.full_s if state.full_samples else state.mean_service_s
        return state.mean_queue_s + service_s + deviations * state.full_deviation_s

    @property
    def in_flight(self) -> int:
        """Edits that hold a slot, those that back off after a rejection included."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Edits of this replica's sessions that are queued for a slot."""
        return self._queue.waiting

    def spare(self) -> int:
        """How many more sessions can be started now: the free slots, and a queue of a quarter of the limit.

        Queued edits take the slots of edits whose sessions go on to their critique, so the pool never idles until another
        session is claimed. Edits of later turns fill the queue before new sessions do, so the sessions beyond slots and queue
        are those with a critique under way; the runner bounds these. A claimed session asks for its slot some milliseconds
        after its claim, and counts from `add_claimed` on.
        """
        self._drop_stale_claims()
        spare = self.limit + max(1, self.limit // 4) - self._in_flight - self.queued - len(self._claimed)
        return max(0, spare)

    def share(self) -> Share:
        """Further sessions for tenants that have less than their share, while the edits of others fill slots and queue: as many
        as there are slots beyond one for each tenant here.
        """
        return Share(max(0, self.limit - self._queue.tenants), self.limit)

    def add_claimed(self, session_id: str) -> None:
        """Count a claimed session until it asks for a slot. One that takes longer than a few seconds (a review, a slow checklist)
        is no longer counted.
        """
        self._drop_stale_claims()
        self._claimed.pop(session_id, None)
        self._claimed[session_id] = self._clock() + _CLAIMED_S

    def remove_claimed(self, session_id: str) -> None:
        """A session will ask for no slot: it ended, or another replica owns it."""
        if self._claimed.pop(session_id, None):
            self.on_capacity()

    def _drop_stale_claims(self) -> None:
        now = self._clock()
        for session_id, until in list(self._claimed.items()):
            if until > now:
                break
            del self._claimed[session_id]

    @contextlib.asynccontextmanager
    async def slot(self, *, later: bool, session_id: str = "", tenant: str = "") -> AsyncIterator[Slot]:
        """Wait for a slot and hold it. Cancellation, while queued or holding, frees it.

        Args:
            later: whether the edit is of a session's second or later turn.
            session_id: its session, which no longer counts as claimed only.
            tenant: whose session it is.
        """
        self._claimed.pop(session_id, None)
        owner = self._queue.arrive(tenant)
        try:
            slot = await self._acquire(owner, later=later)
            try:
                yield slot
            finally:
                slot._release()  # noqa: SLF001 - two halves of one thing
        finally:
            self._queue.leave(tenant)

    async def _acquire(self, tenant: _Tenant, *, later: bool) -> Slot:
        if not self._in_flight:
            self._state = after_idle(self._state, self._clock() - self._idle_since)
        if self._in_flight < self.limit and not self.queued:
            return self._take_slot(tenant)
        granted: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._queue.push(tenant, granted, later=later)
        try:
            return await granted
        except asyncio.CancelledError:
            self._queue.remove(tenant, granted)
            if granted.done() and not granted.cancelled():
                # Its slot was granted in the same iteration in which it was cancelled.
                granted.result()._release()  # noqa: SLF001 - two halves of one thing
            else:
                self.on_capacity()
            raise

    def _take_slot(self, tenant: _Tenant) -> Slot:
        self._in_flight += 1
        # What an edit takes is charged at once, since others are granted slots before it is known; `_free_slot` corrects it.
        advance_s = self._state.mean_service_s or _FIRST_ROUND_TRIP_S
        self._queue.granted(tenant)
        tenant.work_s += advance_s
        at_start = in_flight_at_start(self._state, self._in_flight, self._backing_off)
        return Slot(self, at_start, tenant, advance_s, self._clock())

    def _free_slot(self, tenant: _Tenant, began: float, advance_s: float) -> None:
        self._in_flight -= 1
        tenant.work_s += self._clock() - began - advance_s
        if not self._in_flight:
            self._idle_since = self._clock()
        self._grant_slots()
        self.on_capacity()

    def _grant_slots(self) -> None:
        """Give every free slot to the next in the queue, and wake nobody else."""
        while self._in_flight < self.limit and (following := self._queue.pop()):
            tenant, granted = following
            if not granted.done():
                granted.set_result(self._take_slot(tenant))

    def _completed(self, elapsed_s: float, queue_s: float | None, in_flight_at_start: float | None, *, draft: bool) -> None:
        self._reports_queue = self._reports_queue or queue_s is not None
        in_use = self._in_flight >= self.limit or self.queued > 0
        completed = CompletedEdit(max(0.0, elapsed_s), queue_s, in_flight_at_start, in_use, draft)
        self._state = after_completion(self._state, completed)
        self._grant_slots()

    def _rejected(self, now: float) -> None:
        self._state = after_rejection(self._state, now, reports_queue=self._reports_queue)


class AdaptiveLimits:
    """`orchestrator.execution.runner.EditorCapacity`: the limits of every editor, as the runner sees them."""

    def __init__(self, limits: Mapping[str, AdaptiveLimit]) -> None:
        self._limits = limits

    def spare(self) -> Mapping[str, int]:
        """How many more sessions each editor has capacity for."""
        return {editor: limit.spare() for editor, limit in self._limits.items()}

    def shares(self) -> Mapping[str, Share]:
        """Further sessions for tenants that have less than their share, by editor."""
        return {editor: limit.share() for editor, limit in self._limits.items()}

    def add_claimed(self, editor: str, session_id: str) -> None:
        """A session was claimed and will soon ask for an edit."""
        if editor in self._limits:
            self._limits[editor].add_claimed(session_id)

    def remove_claimed(self, editor: str, session_id: str) -> None:
        """A session will ask for no edit."""
        if editor in self._limits:
            self._limits[editor].remove_claimed(session_id)

    def edit_s(self, editor: str) -> float:
        """Seconds within which most edits come back from that editor; 0 while that is not known."""
        return self._limits[editor].edit_s if editor in self._limits else 0.0

    def edit_durations(self) -> Mapping[str, float]:
        """`edit_s` of every editor where it is known."""
        return {editor: limit.edit_s for editor, limit in self._limits.items() if limit.edit_s > 0}

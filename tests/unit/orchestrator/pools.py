"""A simulated pool of editor workers and the replicas that feed it, in virtual time, to test the adaptive limit."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.upstreams.adaptive_limit import CompletedEdit, LimitState, after_completion, after_rejection, in_flight_at_start


@dataclass(eq=False)
class Edit:
    """One edit in flight."""

    replica: Replica
    in_flight_at_start: float | None
    sent: float = 0.0


@dataclass(eq=False)
class Worker:
    """A worker, with the edits it works on and its queue."""

    slots: int
    queue: float
    busy: set[Edit] = field(default_factory=set)
    waiting: deque[Edit] = field(default_factory=deque)
    gone: bool = False


@dataclass(eq=False)
class Replica:
    """One replica's limit; its sessions always have another edit to send, up to `demand` at a time."""

    state: LimitState
    demand: float = float("inf")
    in_flight: int = 0
    backing_off: int = 0
    done: int = 0
    rejections: int = 0


class World:
    """Runs in virtual time.

    Args:
        workers: (slots, queue length) of each.
        replicas: how many replicas share the pool.
        service: seconds of an edit.
        reports_queue: whether the pool reports queue times.
    """

    def __init__(
        self,
        workers: list[tuple[int, float]],
        *,
        replicas: int = 1,
        service: Callable[[random.Random], float] = lambda _: 4.0,
        reports_queue: bool = True,
        seed: int = 1,
        retry_s: float = 1.0,
    ) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.workers = [Worker(*worker) for worker in workers]
        self.replicas = [Replica(LimitState(8.0, 8.0, 4096.0)) for _ in range(replicas)]
        self.service, self.reports_queue, self.retry_s = service, reports_queue, retry_s
        self.busy_s = self.capacity_s = self.queued_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.workers)

    def join(self, slots: int, queue: float = 16) -> None:
        self.workers.append(Worker(slots, queue))

    def leave(self, count: int = 1) -> None:
        """Remove workers; their edits fail."""
        for worker in self.workers[-count:]:
            worker.gone = True
            for edit in (*worker.busy, *worker.waiting):
                self._off(edit)
        del self.workers[-count:]
        self._feed()

    def run(self, seconds: float) -> World:
        """Run for some seconds, after resetting the measurements."""
        self.busy_s = self.capacity_s = self.queued_s = 0.0
        ends = self.now + seconds
        for replica in self.replicas:
            replica.done = replica.rejections = 0
        self._feed()
        while self._events and self._events[0][0] <= ends:
            at, _, happens = heapq.heappop(self._events)
            self._pass(at)
            happens()
            self._feed()
        self._pass(ends)
        return self

    @property
    def used(self) -> float:
        return self.busy_s / self.capacity_s

    @property
    def standing(self) -> float:
        """Mean queued edits for each slot of the pool."""
        return self.queued_s / self.capacity_s

    def _pass(self, now: float) -> None:
        for worker in self.workers:
            self.busy_s += len(worker.busy) * (now - self.now)
            self.queued_s += len(worker.waiting) * (now - self.now)
            self.capacity_s += worker.slots * (now - self.now)
        self.now = now

    def _later(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happens))

    def _feed(self) -> None:
        for replica in self.replicas:
            while replica.in_flight < min(replica.state.limit, replica.demand):
                replica.in_flight += 1
                edit = Edit(replica, in_flight_at_start(replica.state, replica.in_flight, replica.backing_off))
                self._later(0.005, lambda edit=edit: self._arrive(edit))  # type: ignore[misc]

    def _arrive(self, edit: Edit) -> None:
        replica, edit.sent = edit.replica, self.now
        worker = min(self.workers, key=lambda worker: (len(worker.busy) + len(worker.waiting)) / worker.slots)
        if len(worker.busy) < worker.slots:
            self._start(worker, edit)
        elif len(worker.waiting) < worker.queue:
            worker.waiting.append(edit)
        else:
            replica.rejections += 1
            if edit.in_flight_at_start is not None:
                edit.in_flight_at_start = None
                replica.backing_off += 1
            replica.state = after_rejection(replica.state, self.now, reports_queue=self.reports_queue)
            self._later(self.retry_s, lambda: self._arrive(edit))

    def _start(self, worker: Worker, edit: Edit) -> None:
        worker.busy.add(edit)
        waited = self.now - edit.sent
        self._later(self.service(self.random), lambda: self._finish(worker, edit, waited))

    def _finish(self, worker: Worker, edit: Edit, waited: float) -> None:
        if worker.gone:
            return
        worker.busy.discard(edit)
        if worker.waiting:
            self._start(worker, worker.waiting.popleft())
        replica = edit.replica
        replica.done += 1
        in_use = replica.in_flight >= min(replica.state.limit, replica.demand) and replica.state.limit <= replica.demand
        queue_s = waited if self.reports_queue else None
        replica.state = after_completion(
            replica.state, CompletedEdit(self.now - edit.sent, queue_s, edit.in_flight_at_start, in_use)
        )
        self._off(edit)

    def _off(self, edit: Edit) -> None:
        edit.replica.in_flight -= 1
        if edit.in_flight_at_start is None:
            edit.replica.backing_off -= 1

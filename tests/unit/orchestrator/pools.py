"""A pool of editor workers and the replicas that feed it, in virtual time: what the gate's law does, without a wire or a wait."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.upstreams.adaptive_limit import Answer, Pace, answered, beside, refused


@dataclass(eq=False)
class Edit:
    """One edit on its way."""

    replica: Replica
    beside: float | None
    sent: float = 0.0


@dataclass(eq=False)
class Worker:
    """Edits that are worked on, and those in line."""

    slots: int
    queue: float
    busy: set[Edit] = field(default_factory=set)
    line: deque[Edit] = field(default_factory=deque)
    gone: bool = False


@dataclass(eq=False)
class Replica:
    """One gate; its sessions have always one more edit to send, up to `demand` at a time."""

    pace: Pace
    demand: float = float("inf")
    in_flight: int = 0
    resting: int = 0
    done: int = 0
    refusals: int = 0


class World:
    """Runs in virtual time.

    Args:
        workers: (slots, edits in line) of each.
        replicas: how many gates share the pool.
        service: seconds of an edit.
        tells: whether the pool tells how long edits waited.
    """

    def __init__(
        self,
        workers: list[tuple[int, float]],
        *,
        replicas: int = 1,
        service: Callable[[random.Random], float] = lambda _: 4.0,
        tells: bool = True,
        seed: int = 1,
        retry_s: float = 1.0,
    ) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.workers = [Worker(*worker) for worker in workers]
        self.replicas = [Replica(Pace(8.0, 8.0, 4096.0)) for _ in range(replicas)]
        self.service, self.tells, self.retry_s = service, tells, retry_s
        self.busy_s = self.capacity_s = self.queued_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    @property
    def slots(self) -> int:
        return sum(worker.slots for worker in self.workers)

    def join(self, slots: int, queue: float = 16) -> None:
        self.workers.append(Worker(slots, queue))

    def leave(self, count: int = 1) -> None:
        """Workers end with all they have; their edits fail."""
        for worker in self.workers[-count:]:
            worker.gone = True
            for edit in (*worker.busy, *worker.line):
                self._off(edit)
        del self.workers[-count:]
        self._feed()

    def run(self, seconds: float) -> World:
        """Go on for so long; what is measured is measured anew."""
        self.busy_s = self.capacity_s = self.queued_s = 0.0
        ends = self.now + seconds
        for replica in self.replicas:
            replica.done = replica.refusals = 0
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
        """Edits in line for each place of the pool, on average."""
        return self.queued_s / self.capacity_s

    def _pass(self, now: float) -> None:
        for worker in self.workers:
            self.busy_s += len(worker.busy) * (now - self.now)
            self.queued_s += len(worker.line) * (now - self.now)
            self.capacity_s += worker.slots * (now - self.now)
        self.now = now

    def _later(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happens))

    def _feed(self) -> None:
        for replica in self.replicas:
            while replica.in_flight < min(replica.pace.limit, replica.demand):
                replica.in_flight += 1
                edit = Edit(replica, beside(replica.pace, replica.in_flight, replica.resting))
                self._later(0.005, lambda edit=edit: self._arrive(edit))  # type: ignore[misc]

    def _arrive(self, edit: Edit) -> None:
        replica, edit.sent = edit.replica, self.now
        worker = min(self.workers, key=lambda worker: (len(worker.busy) + len(worker.line)) / worker.slots)
        if len(worker.busy) < worker.slots:
            self._start(worker, edit)
        elif len(worker.line) < worker.queue:
            worker.line.append(edit)
        else:
            replica.refusals += 1
            if edit.beside is not None:
                edit.beside = None
                replica.resting += 1
            replica.pace = refused(replica.pace, self.now, told=self.tells)
            self._later(self.retry_s, lambda: self._arrive(edit))

    def _start(self, worker: Worker, edit: Edit) -> None:
        worker.busy.add(edit)
        waited = self.now - edit.sent
        self._later(self.service(self.random), lambda: self._finish(worker, edit, waited))

    def _finish(self, worker: Worker, edit: Edit, waited: float) -> None:
        if worker.gone:
            return
        worker.busy.discard(edit)
        if worker.line:
            self._start(worker, worker.line.popleft())
        replica = edit.replica
        replica.done += 1
        in_use = replica.in_flight >= min(replica.pace.limit, replica.demand) and replica.pace.limit <= replica.demand
        told = waited if self.tells else None
        replica.pace = answered(replica.pace, Answer(self.now - edit.sent, told, edit.beside, in_use))
        self._off(edit)

    def _off(self, edit: Edit) -> None:
        edit.replica.in_flight -= 1
        if edit.beside is None:
            edit.replica.resting -= 1

"""Which edits the device advances next: a pure function of the requests that are present."""

# Theory of operation
# ===================
#
# An edit is one start (text and source are encoded) followed by a number of denoiser calls that is known when it arrives. The
# executor asks `schedule` before every pass over the device, so requests join, leave and change order between any two calls
# (continuous batching). A request is in one of the states of vLLM's scheduler:
#
#                 start                 preempt
#     WAITING ------------> RUNNING ---------------> PREEMPTED
#        |                     ^        resume           |
#        |                     +-------------------------+
#        |  preempt / resume                             |  its time is up, or its memory is needed
#        +------------------> PREEMPTED                  +------------------> dropped
#
# A request is preempted when its last caller disconnects, and resumed when one comes back with the same Idempotency-Key. It
# keeps its tensors but takes no part in scheduling.
#
# EditRequest: earliest due time first. The due time is the arrival plus `TARGET_SLOWDOWN` times the request's own work, less
# `HEAD_START_S` for each level of urgency. Short edits overtake long ones that arrived shortly before them, and none starves:
# a request that arrives after another's due time (plus the head starts) cannot pass it.
#
# Batching: the running request that is due first leads, and others of its group join while a larger batch shortens the total
# wait by the cost model: one more request delays those in the batch, and brings itself and the requests behind forward. An idle
# device therefore serves requests one at a time where batching gains little, and forms batches as its queue grows. Where it
# gains nothing it forms none.
#
# Starts: at most one between two passes of the running batch, so that encoding stalls it for no longer than one request's
# start. A request that ran out of memory in company is `exclusive`: it is started on an empty device and keeps it to itself.
#
# Overlap: where text encoders and the VAE run on a thread of their own, a running request is `pending` while it is there, and
# cannot be advanced. Then one waiting request is also started ahead of its turn, so that it is encoded while the batch runs.
# None is started while `_MAX_PENDING` are pending: one on that thread, and one behind it.

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from services.editor.engine.cost_model import CostModel

TARGET_SLOWDOWN = 4.0
"""Latency at which a request is due, in multiples of its own work. At 1, requests run nearly in order of arrival; larger values
favour short ones. At 4 and a load of 1, the median latency is a quarter lower, and that of the longest edits a half higher.
"""
HEAD_START_S = 30.0
"""How much earlier a request counts as having arrived for each level of urgency: later turns of a session go first."""

_MAX_PENDING = 2


class Status(StrEnum):
    """A request's state, named as in vLLM's scheduler."""

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"


@dataclass(frozen=True, slots=True)
class Request:
    """One edit as the scheduler sees it.

    Attributes:
        id: unique among the requests present.
        due: see `due_time`.
        started: whether its text and source are encoded, and kept on the device.
        group: requests of equal groups can be advanced together; None: only alone.
        cost: tokens of its next advance.
        preempted_until: when it is dropped unless it is resumed; None if it is not preempted.
        exclusive: must be on the device alone, because it ran out of memory in company.
        pending: it waits for its text encoder or VAE, which run on another thread.
    """

    id: int
    due: float
    started: bool = False
    group: Hashable | None = None
    cost: int = 1
    preempted_until: float | None = None
    exclusive: bool = False
    pending: bool = False

    @property
    def status(self) -> Status:
        """Its state."""
        if self.preempted_until is not None:
            return Status.PREEMPTED
        return Status.RUNNING if self.started else Status.WAITING


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device can take.

    Attributes:
        active: requests running at a time.
        batch: requests in one advance.
        cost: tokens in one advance of several; None: any number.
        resident: started requests that fit into the device's memory, preempted ones included; None where it is not measured.
        always_batch: whether batches are formed even where the cost model says that they do not pay: the operator's choice.
        overlap: whether a request can be encoded while others run.
    """

    active: int
    batch: int
    cost: int | None
    resident: int | None = None
    always_batch: bool = False
    overlap: bool = False


@dataclass(frozen=True, slots=True)
class SchedulerOutput:
    """The requests to advance next: one to start, one that was pending and goes on, or a batch of running ones."""

    ids: tuple[int, ...]
    start: bool
    resume: bool = False


def due_time(arrived_at: float, work_s: float, urgency: int = 0) -> float:
    """When a request of ``work_s`` seconds of work that arrived at ``arrived_at`` is due; more urgent ones earlier."""
    return arrived_at + TARGET_SLOWDOWN * work_s - HEAD_START_S * urgency


def schedule(
    requests: Iterable[Request], limits: Limits, model: CostModel, *, just_started: bool = False
) -> SchedulerOutput | None:
    """The next pass over the device; None if there is nothing to run now.

    A waiting request is started if it is due before the running ones, or if their batch has capacity for it.

    Args:
        requests: all that are present.
        limits: what the device can take.
        model: what a pass costs.
        just_started: whether the last pass was a start; then running requests go first.
    """
    present = sorted((request for request in requests if request.status is not Status.PREEMPTED), key=lambda r: (r.due, r.id))
    started = [request for request in present if request.status is Status.RUNNING]
    waiting = [request for request in present if request.status is Status.WAITING]
    running = [request for request in started if not request.pending]
    if not started:
        return SchedulerOutput((waiting[0].id,), start=True) if waiting else None
    may_start = waiting and len(started) < limits.active and len(started) - len(running) < _MAX_PENDING
    shareable = may_start and not any(request.exclusive for request in (waiting[0], *started))
    if not running:
        return SchedulerOutput((waiting[0].id,), start=True) if shareable else None
    batch, has_capacity = _batch(running, len(present), limits, model)
    ahead = limits.overlap and len(started) == len(batch)
    if shareable and not just_started and (has_capacity or ahead or waiting[0].due < running[0].due):
        return SchedulerOutput((waiting[0].id,), start=True)
    return SchedulerOutput(batch, start=False)


def _batch(running: list[Request], present: int, limits: Limits, model: CostModel) -> tuple[tuple[int, ...], bool]:
    """The batch led by the first running request, and whether one more like the leader should join it."""
    leader = running[0]
    batch, cost = [leader.id], leader.cost
    if leader.group is None or leader.exclusive:
        return (leader.id,), False
    for request in running[1:]:
        if (
            request.group == leader.group
            and not request.exclusive
            and _joins(len(batch), cost, request.cost, present, limits, model)
        ):
            batch.append(request.id)
            cost += request.cost
    return tuple(batch), _joins(len(batch), cost, leader.cost, present, limits, model)


def _joins(size: int, cost: int, added: int, present: int, limits: Limits, model: CostModel) -> bool:
    """Whether a request of ``added`` tokens joins a batch of ``size`` that has ``cost``; see the theory of operation."""
    if size >= limits.batch or cost + added > (math.inf if limits.cost is None else limits.cost):
        return False
    return limits.always_batch or model.joins(size, cost, added, present - size)


@dataclass(frozen=True, slots=True)
class Work:
    """What is left of an edit: its calls, of so many tokens, and its start."""

    cost: int
    calls: int
    started: bool


def backlog_s(works: Iterable[Work], limits: Limits, model: CostModel) -> float:
    """Seconds until all of this work is done, with the batches that would be formed of edits of equal cost."""
    alike: defaultdict[int, list[Work]] = defaultdict(list)
    for work in works:
        alike[work.cost].append(work)
    present = sum(map(len, alike.values()))
    total_s = 0.0
    for cost, edits in alike.items():
        size, most = 1, min(len(edits), limits.active)
        while size < most and _joins(size, size * cost, cost, present, limits, model):
            size += 1
        calls_s = sum(work.calls for work in edits) * model.pass_s(size, size * cost) / size
        total_s += calls_s + sum(model.work_s(cost, 0, started=work.started) for work in edits)
    return total_s


def memory_full(requests: Iterable[Request], limits: Limits) -> bool:
    """Whether no further request fits into the device's memory with those started, preempted ones included."""
    return limits.resident is not None and sum(request.started for request in requests) >= limits.resident


def eviction_candidate(requests: Iterable[Request]) -> int | None:
    """The request to evict when memory is short: of the preempted ones that hold some, the one that expires first."""
    holding = [
        (request.preempted_until, request.id) for request in requests if request.started and request.preempted_until is not None
    ]
    return min(holding)[1] if holding else None


def expired(requests: Iterable[Request], now: float) -> list[int]:
    """The preempted requests whose time is up."""
    return [request.id for request in requests if request.preempted_until is not None and request.preempted_until <= now]


def next_expiry(requests: Iterable[Request]) -> float | None:
    """When the next preempted request expires; None if none is preempted."""
    return min((request.preempted_until for request in requests if request.preempted_until is not None), default=None)

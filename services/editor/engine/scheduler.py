"""Whose turn it is on the device: a pure function of who is there.

Denoise work is known in advance, so every edit gets a due time when it arrives: a few times as much later as it would
take alone. The earliest due leads; edits that can share its pass over the model come along. Short edits thus overtake long
ones that arrived little before them, and nobody starves: whoever arrives after another's due time (plus the head start of
urgent ones) cannot pass it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

PATIENCE = 4.0
"""How many times its own work an edit may take. At 1 edits come nearly in the order of arrival; the larger, the more short
ones gain and long ones lose. At 4, and a load of 1, the median edit takes a quarter less time, and the longest a half more.
"""
HEAD_START_S = 30.0
"""How much earlier an edit counts as having arrived for each level of urgency: a later turn of a running session goes first."""
SLACK = 1.25
"""How much more than the measured cost a batch may have: pictures differ in shape, and prompts in length."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One edit, as the scheduler sees it.

    Attributes:
        id: its name.
        due: see `due`.
        started: whether it holds a place on the device: its text and picture are encoded.
        group: edits of equal groups can be advanced together; None: only alone.
        cost: tokens of its next advance.
        held_until: set aside until then (its caller has gone, and may come back); None if it is not.
        alone: to be on the device with no other, because it ran out of memory in company.
    """

    id: int
    due: float
    started: bool = False
    group: Hashable | None = None
    cost: int = 1
    held_until: float | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device can take.

    Attributes:
        active: edits started at a time.
        batch: edits in one advance.
        cost: tokens in one advance of several; None: any number.
        marginal: the time that one more edit adds to an advance, as a share of an edit alone: 1 where batching gains nothing,
            near 0 where the device idles beside a single edit.
        room: edits that the device's memory can keep, those set aside among them; None where it is not measured.
    """

    active: int
    batch: int
    cost: int | None
    marginal: float = 0.0
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The edits to advance now: one that is to be started, or one and those that can come along."""

    ids: tuple[int, ...]
    start: bool


def due(arrived: float, work_s: float, urgency: int = 0) -> float:
    """When an edit of ``work_s`` seconds that arrived then is due; the more urgent, the earlier."""
    return arrived + PATIENCE * work_s - HEAD_START_S * urgency


def choose(entries: Iterable[Entry], limits: Limits, *, just_started: bool = False) -> Choice | None:
    """What to do next; None when there is nothing to do.

    An edit is started if it is due before those that run, or if there is room for it in their batch; and at most one
    between two advances of the others (``just_started``: the last choice was a start), so that encoding never stalls a
    running batch for longer than one edit's worth. One that must be alone is started when nobody else is on the device, and
    nobody is beside it; those due before it go first.
    """
    there = sorted((entry for entry in entries if entry.held_until is None), key=lambda entry: (entry.due, entry.id))
    started = [entry for entry in there if entry.started]
    waiting = [entry for entry in there if not entry.started]
    if not started:
        return Choice((waiting[0].id,), start=True) if waiting else None
    batch, has_room = _batch(started, len(there), limits)
    may_start = waiting and not just_started and len(started) < limits.active
    if may_start and not any(entry.alone for entry in (waiting[0], *started)) and (has_room or waiting[0].due < started[0].due):
        return Choice((waiting[0].id,), start=True)
    return Choice(batch, start=False)


def _batch(started: list[Entry], there: int, limits: Limits) -> tuple[tuple[int, ...], bool]:
    """The first and those that come along, and whether one more like it should; ``there`` counts everybody."""
    lead = started[0]
    batch, cost = [lead.id], lead.cost
    most = math.inf if limits.cost is None else limits.cost
    if lead.group is None or lead.alone:
        return (lead.id,), False
    for entry in started[1:]:
        if not _pays(len(batch), there, limits):
            break
        if entry.group == lead.group and not entry.alone and cost + entry.cost <= most:
            batch.append(entry.id)
            cost += entry.cost
    return tuple(batch), _pays(len(batch), there, limits) and cost + lead.cost <= most


def _pays(size: int, there: int, limits: Limits) -> bool:
    """Whether a batch should take one more.

    Those in it are done later by the marginal time each; the one that joins, and everybody behind, is done earlier by the
    rest of the time that it would take alone. So an idle device serves edits one after the other where batching gains little,
    and forms batches as its line grows.
    """
    if size == limits.batch:
        return False
    behind = there - size
    return behind * (1 - limits.marginal) > size * limits.marginal


def crowded(entries: Iterable[Entry], limits: Limits) -> bool:
    """Whether the device's memory can keep no further edit beside those started, set aside or not."""
    return limits.room is not None and sum(entry.started for entry in entries) >= limits.room


def dispensable(entries: Iterable[Entry]) -> int | None:
    """Whom to drop when memory is short: of the edits set aside that keep some, the one that expires first."""
    keeping = [(entry.held_until, entry.id) for entry in entries if entry.started and entry.held_until is not None]
    return min(keeping)[1] if keeping else None


def expired(entries: Iterable[Entry], now: float) -> list[int]:
    """The edits set aside whose time is up."""
    return [entry.id for entry in entries if entry.held_until is not None and entry.held_until <= now]


def next_expiry(entries: Iterable[Entry]) -> float | None:
    """When the next of the edits set aside expires."""
    return min((entry.held_until for entry in entries if entry.held_until is not None), default=None)

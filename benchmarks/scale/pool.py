"""Rows about the pool: is it kept busy at any load, and does its output grow linearly with the workers?"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.scale.fleet import Size
from benchmarks.scale.journal import Work, full_at, goodput, wasted
from benchmarks.scale.load import Callers
from benchmarks.scale.pictures import small
from benchmarks.scale.report import Figure, at_least, percentile
from benchmarks.scale.stack import Stack, cpu_s, memory_mb, stack, totals

BUSY = 0.99
LINEAR = 0.95
_POOL = Size(workers=8, slots=2)
_FACTORS = (1, 2, 10)
_HURRY_S = 30.0
"""Three times what a session needs alone: at 10x, most are out of time before they start, and some midway."""
_FLEETS = (1, 4, 16)
_PER_SLOT = 4  # live sessions per slot that saturate the pool


@dataclass(frozen=True, slots=True)
class Lengths:
    """Seconds of warm-up and of measurement."""

    settle_s: float = 15.0
    window_s: float = 30.0

    @property
    def whole_s(self) -> float:
        """Both together."""
        return self.settle_s + self.window_s


@dataclass(frozen=True, slots=True)
class Watched:
    """Observations in the measured window."""

    works: list[Work]
    begin: float
    end: float
    finished: dict[str, float]
    turns: float
    redis_s: float
    redis_commands: float
    replicas_s: float
    shares: list[float]

    def goodput(self, slots: int) -> float:
        """Share of the pool's capacity that was useful work."""
        return goodput(self.works, self.begin, self.end, slots)

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end - self.begin


async def watch(made: Stack, callers: Callers, lengths: Lengths) -> Watched:
    """Wait for the warm-up, then measure the difference between two moments."""
    await asyncio.sleep(lengths.settle_s)
    before, begin = await _now(made, callers), time.time()
    await asyncio.sleep(lengths.window_s)
    end = time.time()
    after = await _now(made, callers)
    works = await asyncio.to_thread(made.fleet.journal)
    each = [later - earlier for earlier, later in zip(before.edited, after.edited, strict=True)]
    return Watched(
        works,
        begin,
        end,
        {reason: count - before.finished.get(reason, 0.0) for reason, count in after.finished.items()},
        sum(each),
        after.redis_s - before.redis_s,
        after.redis_commands - before.redis_commands,
        after.replicas_s - before.replicas_s,
        [share / max(1.0, sum(each)) for share in each],
    )


@dataclass(frozen=True, slots=True)
class _Moment:
    finished: dict[str, float]
    edited: list[float]
    redis_s: float
    redis_commands: float
    replicas_s: float


async def _now(made: Stack, callers: Callers) -> _Moment:
    redis_s, replicas_s = cpu_s(made.valkey), cpu_s(*made.replicas)
    texts = await callers.metrics()
    info = await asyncio.to_thread(made.redis_info)
    return _Moment(
        totals(texts, "editthinker_sessions_finished_total", "reason"),
        [totals([text], "editthinker_events_total", "type").get("edited", 0.0) for text in texts],
        redis_s,
        float(info["total_commands_processed"]),
        replicas_s,
    )


async def saturated(made: Stack, lengths: Lengths, numbers: Iterator[int]) -> Watched:
    """Measure with more live sessions than slots all the time."""
    async with Callers(made.urls, small()) as callers:
        keeping = asyncio.create_task(callers.keep(_PER_SLOT * made.fleet.slots, lengths.whole_s + 2, numbers))
        watched = await watch(made, callers, lengths)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return watched


def load(lengths: Lengths) -> Iterator[Figure]:
    """Goodput at 1x, 2x and 10x what the pool can do."""
    row = "load: 8 workers of 2"
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder), _POOL) as made:
        began = time.time()
        watched = asyncio.run(saturated(made, lengths, itertools.count(1)))
        yield Figure(row, "from a cold start until every slot is busy", full_at(watched.works, made.fleet.slots) - began, "s")
        yield at_least(row, "saturated: goodput / capacity", watched.goodput(made.fleet.slots), BUSY)
    for factor in _FACTORS:
        with tempfile.TemporaryDirectory() as folder, stack(Path(folder), _POOL) as made:
            yield from asyncio.run(_offered(made, Offer(f"{factor}x", factor), lengths, row))
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder), _POOL) as made:
        hurried = Offer(f"{_FACTORS[-1]}x, {_HURRY_S:.0f} s each", _FACTORS[-1], _HURRY_S)
        after = replace(lengths, settle_s=lengths.settle_s + _HURRY_S)
        yield from asyncio.run(_offered(made, hurried, after, row))


@dataclass(frozen=True, slots=True)
class Offer:
    """An offered load: a multiple of the pool's capacity, and a deadline per session."""

    name: str
    factor: int
    deadline_s: float = 3600.0


async def _offered(made: Stack, offer: Offer, lengths: Lengths, row: str) -> list[Figure]:
    """Measure an open load. It starts with queued sessions, so that the pool is full at 1x too."""
    capacity = made.fleet.slots / made.fleet.draws.mean_session_s(range(1, 2001))
    async with Callers(made.urls, small(), {"deadline_s": str(offer.deadline_s)}) as callers:
        await callers.fill(range(1_000_000, 1_000_000 + 2 * made.fleet.slots))
        offering = asyncio.create_task(callers.offer(offer.factor * capacity, lengths.whole_s, itertools.count(1)))
        watched = await watch(made, callers, lengths)
        count = await offering
        memory = memory_mb(made.replicas[0])
    waste, waste_s = wasted(watched.works)
    name, satisfied = offer.name, watched.finished.get("satisfied", 0.0) / (capacity * watched.seconds)
    figures = [
        at_least(row, f"{name}: goodput / capacity", watched.goodput(made.fleet.slots), BUSY),
        Figure(row, f"{name}: sessions satisfied / what capacity allows", satisfied, "%"),
        Figure(row, f"{name}: wasted edits", waste),
        Figure(row, f"{name}: their slot-seconds", waste_s, "s"),
    ]
    if offer.factor == _FACTORS[-1]:
        created = 1000 * percentile(callers.seen.created_s, 0.99)
        refused = sum(number for status, number in callers.seen.answers.items() if status >= 400)
        figures += [
            Figure(row, f"{name}: sessions offered ({offer.factor * capacity:.3g}/s)", count),
            Figure(row, f"{name}: of them refused", refused),
            Figure(row, f"{name}: a new session's answer, p99", created, "ms"),
            Figure(row, f"{name}: memory of the replica", memory, "MB"),
            Figure(row, f"{name}: replica's CPU", watched.replicas_s / watched.seconds, "%"),
        ]
    return figures


def workers(lengths: Lengths) -> Iterator[Figure]:
    """Measure one to sixteen workers, then add one while it runs."""
    row = "workers: 2 slots each"
    alone = 0.0
    for size in _FLEETS:
        with tempfile.TemporaryDirectory() as folder, stack(Path(folder), Size(workers=size, slots=2)) as made:
            watched = asyncio.run(saturated(made, lengths, itertools.count(1)))
            busy = watched.goodput(made.fleet.slots) * made.fleet.slots
            alone = alone or busy
            edits = watched.turns / watched.seconds
            name = f"{size} worker{'s' if size > 1 else ''}: busy slots of {made.fleet.slots} ({edits:.2f} edits/s)"
            yield Figure(row, name, busy)
    yield at_least(row, f"{_FLEETS[-1]} workers / {_FLEETS[-1]} x one worker", busy / (_FLEETS[-1] * alone), LINEAR)
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder), Size(workers=5, slots=2, absent=(4,))) as made:
        yield Figure(row, "a fifth worker started: until its first edit", asyncio.run(_added(made)), "s")


async def _added(made: Stack) -> float:
    async with Callers(made.urls, small()) as callers:
        keeping = asyncio.create_task(callers.keep(_PER_SLOT * made.fleet.slots, 30, itertools.count(1)))
        await asyncio.sleep(5)
        began = time.time()
        await asyncio.to_thread(made.fleet.start, 4)
        await asyncio.sleep(8)
        works = await asyncio.to_thread(made.fleet.journal)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return min((work.begin - began for work in works if work.worker == 4), default=float("nan"))

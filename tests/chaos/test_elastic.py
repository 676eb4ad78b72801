"""Adding and removing processes under load: they share the work, and no caller notices otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.chaos.checker import check
from tests.chaos.clients import Crowd, request
from tests.chaos.evidence import Evidence, Store, gather
from tests.chaos.fleet import Fleet, Member, Size
from tests.chaos.run import calm, views_of
from tests.chaos.waste import measure

STEP_S = 0.06
STEPS = 8
EDITS = 8
"""Number of edits that are waited for after each change."""
CAPACITY = 2
"""Sessions at a time of a replica."""


@dataclass
class Town:
    """A fleet whose callers send sessions until they are stopped."""

    fleet: Fleet
    crowd: Crowd
    enough: asyncio.Event
    asking: list[asyncio.Task[None]]

    async def edits(self) -> float:
        """Wait for that many recorded edits; the time from when on they count."""
        began = time.time()
        await until(lambda: len(edits_since(self.fleet, began)) >= EDITS, f"{EDITS} edits")
        return began

    async def verdict(self) -> Evidence:
        """Let all sessions finish, and check: no violation, no failed attempt, no wasted editor second."""
        self.enough.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*self.asking)
        await calm(self.fleet)
        evidence = gather(self.fleet.redis.port, self.fleet.blobs, self.crowd.told, await views_of(self.crowd))
        assert [str(violation) for violation in check(evidence)] == []
        failed = [event for name in evidence.logs for event in evidence.events(name) if event["type"].endswith("_failed")]
        assert failed == []
        assert {view["status"] for view in evidence.views.values()} == {"succeeded"}
        waste = measure(evidence, self.fleet.journals)
        assert waste.executed - waste.useful < 1e-6, waste
        return evidence


def edits_since(fleet: Fleet, began: float) -> list[float]:
    """The times of recorded edits from then on."""
    return sorted(event["at"] for event in recorded(fleet) if event["type"] == "edited" and event["at"] >= began)


def at_once(fleet: Fleet, began: float) -> int:
    """The largest number of edits that were under way at the same time from then on."""
    changes = {"edit_started": 1, "edited": -1}
    moments = sorted((event["at"], changes[event["type"]]) for event in recorded(fleet) if event["type"] in changes)
    running = most = 0
    for at, change in moments:
        running += change
        most = max(most, running if at >= began else 0)
    return most


def recorded(fleet: Fleet) -> list[dict[str, Any]]:
    """The events of all sessions."""
    store = Store(fleet.redis.port)
    try:
        return [event for log in store.logs().values() for _, event in log]
    finally:
        store.close()


def steps(fleet: Fleet) -> list[int]:
    """Steps that each editor has done so far."""
    return [len(journal.read_text().splitlines()) for journal in fleet.journals]


async def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll until it holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def town(folder: Path, size: Size, callers: int) -> AsyncIterator[Town]:
    """Run callers, each with one session after the other."""
    fleet = Fleet(folder, size)
    enough = asyncio.Event()
    try:
        await asyncio.to_thread(fleet.start)
        urls = lambda: [member.url for member in fleet.orchestrators if member.wanted]  # noqa: E731
        async with Crowd(urls, [thinker.name for thinker in fleet.thinkers], seed=1) as crowd:

            async def ask(caller: int) -> None:
                number = caller
                while not enough.is_set():
                    plain = replace(
                        request(1, number), review=False, deadline_s=None, cancel_after=None, candidates=1, turns=2, steps=STEPS
                    )
                    await crowd.live(plain)
                    number += callers

            asking = [asyncio.create_task(ask(caller)) for caller in range(1, callers + 1)]
            try:
                yield Town(fleet, crowd, enough, asking)
            finally:
                for task in asking:
                    task.cancel()
                await asyncio.wait(asking)
    finally:
        await asyncio.to_thread(fleet.end)


async def leave(member: Member) -> None:
    """Stop it with SIGTERM; it exits by itself with a good code."""
    code = await asyncio.to_thread(member.stop)
    assert code in {0, -15}, f"{member.name} ended with {code}"


async def test_editors_are_added_and_removed_under_load(tmp_path: Path) -> None:
    """Another worker takes its part of the edits. When the first one gets SIGTERM, every request is still answered."""
    # One edit at a time, so that the worker is the bottleneck.
    async with town(tmp_path, Size(1, 1, 1, spare_editors=1, step_s=STEP_S, active=1), callers=6) as here:
        await here.edits()
        first, second = here.fleet.editors
        await asyncio.to_thread(second.start)
        await until(second.ready, f"ready: {second.name}")
        before = dict(enumerate(steps(here.fleet)))

        def both() -> bool:
            now = steps(here.fleet)
            return len(now) > 1 and all(done >= before.get(place, 0) + 2 * STEPS for place, done in enumerate(now))

        await until(both, "two edits of each")
        await leave(first)
        await here.edits()
        evidence = await here.verdict()

    assert all(len(told.ids) == 1 for told in evidence.told)


async def test_replicas_are_added_and_removed_under_load(tmp_path: Path) -> None:
    """Another replica drives sessions at the same time as the first. When the first one gets SIGTERM, every session continues."""
    # Two sessions per replica, so that replicas are the bottleneck.
    async with town(tmp_path, Size(1, 1, 1, step_s=STEP_S, active=8, capacity=CAPACITY), callers=8) as here:
        began = await here.edits()
        assert at_once(here.fleet, began) <= CAPACITY
        second = await asyncio.to_thread(here.fleet.add_orchestrator)
        await until(second.ready, f"ready: {second.name}")
        began = time.time()
        await until(lambda: at_once(here.fleet, began) > CAPACITY, "more edits at once than one replica drives")
        await leave(here.fleet.orchestrators[0])
        await here.edits()
        evidence = await here.verdict()

    assert all(len(told.ids) == 1 for told in evidence.told)

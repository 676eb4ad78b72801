"""The runner on a store that answers what a test tells it to: what fails, hangs or comes late ends nothing else."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

import pytest

from orchestrator.execution.runner import Replica, Runner
from orchestrator.loop import events as ev
from orchestrator.ports import Claim, Recorded, Taken

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
BEAT_S = 0.01
LEASES_S = 3 * BEAT_S


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


class Store:
    """Hands out what is due and to be claimed, once; `failing` names the methods that break once each."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.failing: set[str] = set()
        self.claims: list[Claim] = []
        self.due: list[str] = []
        self.finished: list[str] = []
        self.mine: set[str] = set()
        self.audited = asyncio.Event()
        self.parked: list[str] = []

    def called(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.failing:
            self.failing.remove(name)
            raise RuntimeError(f"nobody foresaw this of {name}")

    async def claim(self, replica: str, room: Mapping[str, int], *, urgent: int, chores: int, webhook_chores: int = 0) -> Taken:
        await asyncio.sleep(0)
        self.called("claim")
        claims, self.claims = self.claims, []
        told = [chore for chore in self.due if chore.startswith("hook")][:webhook_chores]
        others = [chore for chore in self.due if not chore.startswith("hook")][:chores]
        self.due = [chore for chore in self.due if chore not in {*told, *others}]
        return Taken(tuple(claims), (*told, *others))

    async def complete_chore(self, chore: str) -> None:
        self.finished.append(chore)

    async def renew_lease(self, replica: str) -> bool:
        self.called("renew_lease")
        return True

    async def report_durations(self, *paces: Mapping[str, float]) -> None:
        self.called("report_durations")

    async def owned(self, replica: str) -> set[str]:
        self.called("owned")
        self.audited.set()
        return set(self.mine)

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        created = ev.SessionCreated(
            at=1.0, source=IMAGE, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=600)
        )
        return [Recorded(1, created)]

    async def suspend(self, claim: Claim, expected: int, until: float | None) -> bool:
        self.parked.append(claim.session_id)
        return True

    async def release(self, replica: str, session_id: str) -> None:
        """Nothing strays here."""


class News:
    """Comes at once and again, or breaks first."""

    def __init__(self) -> None:
        self.heard = 0
        self.failing = False

    async def new_work(self) -> AsyncIterator[None]:
        for _ in itertools.count():
            self.heard += 1
            if self.failing:
                self.failing = False
                raise RuntimeError("nobody foresaw this of the news")
            yield None
            await asyncio.sleep(BEAT_S)

    async def session_writes(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""


class EditorCapacity:
    def room(self) -> Mapping[str, int]:
        return {"e": 1}

    def expect(self, editor: str, session_id: str) -> None:
        """There is always room."""

    def forget(self, editor: str, session_id: str) -> None:
        """As above."""

    def paces(self) -> Mapping[str, float]:
        return {}


class Quiet:
    def recovered(self, sessions: int) -> None:
        """Nobody dies here."""

    def strayed(self, sessions: int) -> None:
        """As above."""


class Place:
    """A runner and what surrounds it; a test says what drivers and chores do."""

    def __init__(self) -> None:
        self.store, self.news = Store(), News()
        self.drive: Callable[[], Awaitable[None]] = asyncio.Event().wait  # type: ignore[assignment]  # what it returns is not used
        self.chore: Callable[[str], Awaitable[bool]] = _done
        self.runner = Runner(
            Replica("r", 8, BEAT_S),
            self.store,  # type: ignore[arg-type]  # what a runner needs of it
            lambda claim, log: _Driver(self.drive),  # type: ignore[arg-type,return-value]  # as above
            self.news,
            rooms=EditorCapacity(),
            chore=self._chore,
            watch=Quiet(),
        )

    async def _chore(self, name: str) -> bool:
        return await self.chore(name)


class _Driver:
    finished = None

    def __init__(self, run: Callable[[], Awaitable[None]]) -> None:
        self.run = run

    def signal(self) -> None:
        """Nobody speaks here."""


async def _done(chore: str) -> bool:
    return True


@pytest.fixture
async def place() -> AsyncGenerator[Place]:
    place = Place()
    yield place
    await place.runner.stop()


async def test_what_nobody_foresaw_ends_no_loop(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its trace, and after a pause everything goes on: rounds, beats, audits and the news."""
    place.store.failing = {"claim", "renew_lease", "report_durations", "owned"}
    place.news.failing = True
    await place.runner.start()
    await until(lambda: not place.store.failing and not place.news.failing)
    calls, heard = dict(place.store.calls), place.news.heard
    await until(lambda: all(place.store.calls[name] > calls[name] for name in calls) and place.news.heard > heard)

    assert place.runner.alive()
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 5
    assert all(record.exc_info for record in told)


async def test_chores_that_hang_leave_hands_to_those_of_other_kinds(place: Place) -> None:
    """A bucket that does not answer takes every hand for archiving, and webhooks are told all the same."""
    under_way: list[str] = []

    async def chore(name: str) -> bool:
        if name.startswith("archive"):
            under_way.append(name)
            await asyncio.Event().wait()
        return True

    place.chore = chore
    place.store.due = [f"archive:{number}" for number in range(300)]
    await place.runner.start()
    await until(lambda: len(under_way) >= 64)
    place.store.due.insert(0, "hook:a/9")
    await until(lambda: place.store.finished)

    assert place.store.finished == ["hook:a/9"]
    assert len(under_way) == 64


async def test_a_chore_may_take_a_few_leases(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Then it is cut off, its hand is free, and it comes again by its timer, since nobody says that it is done."""
    tried: list[str] = []

    async def chore(name: str) -> bool:
        tried.append(name)
        if tried.count("purge:a") == 1:
            await asyncio.Event().wait()
        return True

    place.chore = chore
    place.store.due = ["purge:a"]
    await place.runner.start()
    began = asyncio.get_running_loop().time()
    await until(lambda: "purge:a is put off" in caplog.text)
    took = asyncio.get_running_loop().time() - began
    assert place.store.finished == []
    place.store.due = ["purge:a"]
    await until(lambda: place.store.finished)

    assert tried == ["purge:a", "purge:a"]
    assert took > 2 * LEASES_S


async def test_a_session_that_ends_during_an_audit_is_not_cut_off(place: Place) -> None:
    """Its end is recorded, so it is owned no more, while the answer to its driver is still on its way."""
    ended: list[str] = []

    async def drive() -> None:
        place.store.mine.clear()
        place.store.audited.clear()
        await place.store.audited.wait()
        ended.append("told")

    place.drive = drive
    place.store.mine, place.store.claims = {"a"}, [Claim("a", 1, "e")]
    await place.runner.start()
    await until(lambda: ended or place.store.parked)

    assert (ended, place.store.parked) == (["told"], [])


async def test_a_session_that_two_audits_in_a_row_miss_is_let_go(place: Place) -> None:
    """Another replica has it; one miss is forgotten when the next audit finds the session again."""
    audits = itertools.count(1)
    number = 0

    async def owned(replica: str) -> set[str]:
        nonlocal number
        number = next(audits)
        return set() if number in {1, 3, 5, 6} else {"a"}

    async def suspend(claim: Claim, expected: int, until: float | None) -> bool:
        place.store.parked.append(f"{claim.session_id} after audit {number}")
        return True

    place.store.owned, place.store.suspend = owned, suspend  # type: ignore[method-assign]
    place.store.claims = [Claim("a", 1, "e")]
    await place.runner.start()
    await until(lambda: place.store.parked)

    assert place.store.parked == ["a after audit 6"]

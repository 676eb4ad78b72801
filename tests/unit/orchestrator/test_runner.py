"""The runner on a scripted store: failures, hangs and delays of one part do not stop the others."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

import pytest

from orchestrator.execution import runner
from orchestrator.execution.runner import Replica, Runner
from orchestrator.loop import events as ev
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.ports.stores import Claim, Recorded, Share, Taken, Wanted
from tests.doubles.waiting import LIMIT_S, turns, until

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
BEAT_S = 0.01
LEASES_S = 3 * BEAT_S


class Store:
    """Hands out claims and chores once; `failing` names the methods that fail once each."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.failing: set[str] = set()
        self.claims: list[Claim] = []
        self.due: list[str] = []
        self.finished: list[str] = []
        self.mine: set[str] = set()
        self.audited = asyncio.Event()
        self.suspended: list[str] = []
        self.asked: list[Wanted] = []

    def called(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.failing:
            self.failing.remove(name)
            raise RuntimeError(f"unexpected, in {name}")

    async def claim(self, replica: str, wanted: Wanted) -> Taken:
        await turns(1)
        self.asked.append(wanted)
        self.called("claim")
        claims, self.claims = self.claims, []
        for_webhooks = [chore for chore in self.due if chore.startswith("hook")][: wanted.webhook_chores]
        others = [chore for chore in self.due if not chore.startswith("hook")][: wanted.chores]
        self.due = [chore for chore in self.due if chore not in {*for_webhooks, *others}]
        return Taken(tuple(claims), (*for_webhooks, *others))

    async def complete_chore(self, chore: str) -> None:
        self.finished.append(chore)

    async def renew_lease(self, replica: str) -> bool:
        self.called("renew_lease")
        return True

    async def report_durations(self, *durations: Mapping[str, float]) -> None:
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

    async def suspend(self, claim: Claim, expected: int, until: float | None, *, untried: bool = False) -> bool:
        self.suspended.append(claim.session_id)
        return True

    async def release(self, replica: str, session_id: str, *, failed: bool = False) -> None:
        """No session is orphaned here."""


class Notifications:
    """Notifies at once and repeatedly, or fails first."""

    def __init__(self) -> None:
        self.heard = 0
        self.failing = False

    async def new_work(self) -> AsyncIterator[None]:
        for _ in itertools.count():
            self.heard += 1
            if self.failing:
                self.failing = False
                raise RuntimeError("unexpected, in notifications")
            yield None
            await turns(5)

    async def session_writes(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""


class Unlimited:
    def __init__(self) -> None:
        self.editors = {"e": 1}

    def spare(self) -> Mapping[str, int]:
        return self.editors

    def shares(self) -> Mapping[str, Share]:
        return {}

    def add_claimed(self, editor: str, session_id: str) -> None:
        """There is always capacity."""

    def remove_claimed(self, editor: str, session_id: str) -> None:
        """As above."""

    def edit_durations(self) -> Mapping[str, float]:
        return {}


class Quiet:
    def recovered(self, sessions: int) -> None:
        """Nobody dies here."""

    def orphaned(self, sessions: int) -> None:
        """As above."""

    def quarantined(self, session_id: str, code: str) -> None:
        """As above."""


class Harness:
    """A runner with test doubles; a test sets what drivers and chores do."""

    def __init__(self) -> None:
        self.store, self.notifications, self.editors = Store(), Notifications(), Unlimited()
        self.drive: Callable[[], Awaitable[None]] = asyncio.Event().wait  # type: ignore[assignment]  # what it returns is not used
        self.chore: Callable[[str], Awaitable[bool]] = _done
        self.drivers: dict[str, _Driver] = {}
        self.runner = Runner(
            Replica("r", 8, BEAT_S),
            self.store,  # type: ignore[arg-type]  # what a runner needs of it
            self._made,  # type: ignore[arg-type]  # as above
            self.notifications,
            editors=self.editors,
            chore=self._chore,
            observer=Quiet(),
        )

    def _made(self, claim: Claim, log: list[Recorded]) -> _Driver:
        self.drivers[claim.session_id] = _Driver(self.drive)
        return self.drivers[claim.session_id]

    async def _chore(self, name: str) -> bool:
        return await self.chore(name)


class _Driver:
    finished = None
    last_event = 0

    def __init__(self, run: Callable[[], Awaitable[None]]) -> None:
        self.run = run
        self.left = asyncio.Event()

    def signal(self) -> None:
        """Nobody speaks here."""

    def leave(self) -> None:
        self.left.set()


async def _done(chore: str) -> bool:
    return True


@pytest.fixture
async def harness() -> AsyncGenerator[Harness]:
    harness = Harness()
    yield harness
    await harness.runner.stop()


@pytest.mark.parametrize(
    ("capacity", "claims", "claimed_again"),
    [({"e": 1}, [], False), ({"e": 0}, [], True), ({"e": 1, "f": 0}, [], True), ({"e": 1}, [Claim("a", 1, "e")], True)],
)
async def test_a_slot_that_becomes_free_brings_a_claim_unless_nothing_was_queued(
    harness: Harness, capacity: dict[str, int], claims: list[Claim], *, claimed_again: bool
) -> None:
    """Nothing was, if the last claim had capacity at every editor and brought no session."""
    harness.editors.editors, harness.store.claims = capacity, claims
    await harness.runner._claim()
    harness.runner._wake.clear()
    harness.runner.wake()

    assert harness.runner._wake.is_set() == claimed_again


async def test_a_slot_brings_a_claim_after_one_that_failed(harness: Harness) -> None:
    await harness.runner._claim()
    harness.store.failing = {"claim"}
    with pytest.raises(RuntimeError):
        await harness.runner._claim()
    harness.runner.wake()

    assert harness.runner._wake.is_set()


async def test_an_unexpected_exception_ends_no_loop(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its trace; after a pause claims, heartbeats, audits and notifications continue."""
    harness.store.failing = {"claim", "renew_lease", "report_durations", "owned"}
    harness.notifications.failing = True
    await harness.runner.start()
    await until(lambda: not harness.store.failing and not harness.notifications.failing)
    calls, heard = dict(harness.store.calls), harness.notifications.heard
    await until(lambda: all(harness.store.calls[name] > calls[name] for name in calls) and harness.notifications.heard > heard)

    assert harness.runner.alive()
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 5
    assert all(record.exc_info for record in told)


async def test_less_capacity_than_editors_asks_all_of_them_in_turn(harness: Harness) -> None:
    """Two sessions at most from each claim, and every editor is the first one in its turn."""
    harness.editors.editors = {f"e{number}": 5 for number in range(7)}
    harness.runner._capacity = 2
    await harness.runner.start()
    await until(lambda: len(harness.store.asked) >= 7)
    asked = harness.store.asked[:7]

    assert {next(iter(wanted.capacity)) for wanted in asked} == harness.editors.editors.keys()
    assert all(wanted.capacity == dict.fromkeys(harness.editors.editors, 1) and wanted.most == 2 for wanted in asked)


async def test_hanging_archive_chores_do_not_stop_webhook_chores(harness: Harness) -> None:
    """A bucket that does not respond uses up the archive's chores only."""
    under_way: list[str] = []

    async def chore(name: str) -> bool:
        if name.startswith("archive"):
            under_way.append(name)
            await asyncio.Event().wait()
        return True

    harness.chore = chore
    harness.store.due = [f"archive:{number}" for number in range(300)]
    # Else others would soon take the place of those that hang.
    harness.runner._chores._timeout_s = LIMIT_S
    await harness.runner.start()
    await until(lambda: len(under_way) >= 64)
    harness.store.due.insert(0, "hook:a/9")
    await until(lambda: harness.store.finished)

    assert harness.store.finished == ["hook:a/9"]
    assert len(under_way) == 64


async def test_a_chore_is_cancelled_after_a_few_leases(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """It is handed out again by its timer, since it is not marked as done."""
    tried: list[str] = []

    async def chore(name: str) -> bool:
        tried.append(name)
        if tried.count("purge:a") == 1:
            await asyncio.Event().wait()
        return True

    harness.chore = chore
    harness.store.due = ["purge:a"]
    await harness.runner.start()
    began = asyncio.get_running_loop().time()
    await until(lambda: "purge:a is postponed" in caplog.text)
    took = asyncio.get_running_loop().time() - began
    assert harness.store.finished == []
    harness.store.due = ["purge:a"]
    await until(lambda: harness.store.finished)

    assert tried == ["purge:a", "purge:a"]
    assert took > 2 * LEASES_S


async def test_an_audit_or_a_report_that_hangs_does_not_cost_the_lease(harness: Harness) -> None:
    """The lease is renewed in a loop of its own."""
    hanging: list[str] = []

    async def owned(replica: str) -> set[str]:
        hanging.append("audit")
        await asyncio.Event().wait()
        return set()

    async def report(*durations: Mapping[str, float]) -> None:
        hanging.append("report")
        await asyncio.Event().wait()

    harness.store.owned, harness.store.report_durations = owned, report  # type: ignore[method-assign]
    await harness.runner.start()
    await until(lambda: len(hanging) == 2)
    renewals = harness.store.calls["renew_lease"]
    await until(lambda: harness.store.calls["renew_lease"] > renewals + 3)


async def test_a_session_that_ends_during_an_audit_is_not_cancelled(harness: Harness) -> None:
    """Its end is recorded, so it is no longer owned, but its driver has not got the response yet."""
    ended: list[str] = []

    async def drive() -> None:
        harness.store.mine.clear()
        harness.store.audited.clear()
        await harness.store.audited.wait()
        ended.append("told")

    harness.drive = drive
    harness.store.mine, harness.store.claims = {"a"}, [Claim("a", 1, "e")]
    await harness.runner.start()
    await until(lambda: ended or harness.store.suspended)

    assert (ended, harness.store.suspended) == (["told"], [])


async def test_a_session_missed_by_two_consecutive_audits_is_given_up(harness: Harness) -> None:
    """Another replica owns it; a single miss has no effect."""
    audits = itertools.count(1)
    number = 0

    async def owned(replica: str) -> set[str]:
        nonlocal number
        number = next(audits)
        return set() if number in {1, 3, 5, 6} else {"a"}

    async def suspend(claim: Claim, expected: int, until: float | None, *, untried: bool = False) -> bool:
        harness.store.suspended.append(f"{claim.session_id} after audit {number}")
        return True

    harness.store.owned, harness.store.suspend = owned, suspend  # type: ignore[method-assign]
    harness.store.claims = [Claim("a", 1, "e")]
    await harness.runner.start()
    await until(lambda: harness.store.suspended)

    assert harness.store.suspended == ["a after audit 6"]


async def test_sessions_of_a_lost_claim_are_queued_again_at_once(harness: Harness) -> None:
    """Before the next claim, not after two audits."""
    released: list[str] = []
    lost = True

    async def claim(*_: object, **__: object) -> Taken:
        nonlocal lost
        if lost:
            lost, harness.store.mine = False, {"a"}
            raise StorageUnavailableError("the answer was lost")
        assert released == ["a"]
        return Taken()

    async def release(replica: str, session_id: str, *, failed: bool = False) -> None:
        assert not failed
        harness.store.mine.clear()
        released.append(session_id)

    harness.store.claim, harness.store.release = claim, release  # type: ignore[method-assign]
    harness.runner._heartbeat_s = 1_000  # no audit
    await harness.runner.start()
    await until(lambda: released)


async def test_sessions_of_a_lost_claim_are_queued_again_while_draining_too(harness: Harness) -> None:
    """Others are to continue them; nothing more is claimed."""
    released: list[str] = []

    async def claim(*_: object, **__: object) -> Taken:
        harness.store.called("claim")
        harness.store.mine = {"a"}
        draining.append(asyncio.create_task(harness.runner.drain()))
        raise StorageUnavailableError("the answer was lost")

    async def release(replica: str, session_id: str, *, failed: bool = False) -> None:
        harness.store.mine.clear()
        released.append(session_id)

    draining: list[asyncio.Task[None]] = []
    harness.store.claim, harness.store.release = claim, release  # type: ignore[method-assign]
    harness.runner._heartbeat_s = 1_000  # no audit
    await harness.runner.start()
    await until(lambda: released)
    await draining[0]

    assert (released, harness.store.calls["claim"]) == (["a"], 1)


async def test_a_session_whose_driver_failed_is_queued_again_as_that(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as an attempt, and is not left to the audits."""
    monkeypatch.setattr(runner, "_PAUSE_AFTER_BUG_S", 0.01)
    released: list[tuple[str, bool]] = []

    async def drive() -> None:
        raise RuntimeError("a bug")

    async def release(replica: str, session_id: str, *, failed: bool = False) -> None:
        released.append((session_id, failed))

    harness.drive, harness.store.release = drive, release  # type: ignore[method-assign]
    harness.store.claims = [Claim("a", 1, "e")]
    await harness.runner.start()
    await until(lambda: released)

    assert released == [("a", True)]


async def test_one_suspect_is_tried_at_a_time(harness: Harness) -> None:
    """The other one is given back; a session that was tried less often is driven."""
    driven = 0

    async def drive() -> None:
        nonlocal driven
        driven += 1
        await asyncio.Event().wait()

    harness.drive = drive
    harness.store.claims = [Claim("a", 1, "e", 3), Claim("b", 1, "e", 3), Claim("c", 1, "e", 2)]
    await harness.runner.start()
    await until(lambda: driven == 2 and harness.store.suspended)

    assert harness.store.suspended == ["b"]


async def test_draining_tells_every_driver_to_leave_and_claims_nothing_more(harness: Harness) -> None:
    """It ends with the last driver; the lease is renewed until then."""
    ends = asyncio.Event()
    harness.drive = ends.wait  # type: ignore[assignment]  # what it returns is not used
    harness.store.claims = [Claim("a", 1, "e")]
    await harness.runner.start()
    await until(lambda: "a" in harness.drivers)
    draining = asyncio.create_task(harness.runner.drain())
    await until(harness.drivers["a"].left.is_set)
    claims, renewals = harness.store.calls["claim"], harness.store.calls.get("renew_lease", 0)
    harness.store.claims = [Claim("b", 1, "e")]
    harness.runner.wake()
    await until(lambda: harness.store.calls.get("renew_lease", 0) > renewals + 2)

    assert not draining.done()
    assert harness.store.calls["claim"] <= claims + 1  # one may have been under way
    assert "b" not in harness.drivers
    ends.set()
    await asyncio.wait_for(draining, 10)


async def test_a_chore_for_a_log_that_cannot_be_read_is_dropped(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """It would fail again every minute."""

    async def chore(name: str) -> bool:
        raise CorruptLogError("no events")

    harness.chore = chore
    harness.store.due = ["hook:a/9"]
    await harness.runner.start()
    await until(lambda: harness.store.finished)

    assert harness.store.finished == ["hook:a/9"]
    assert "hook:a/9 is dropped: no events" in caplog.text

"""This replica's share of the work: claims sessions, drives each in a task, and renews its lease.

One lease covers every session that a replica drives, so it costs the same for ten thousand sessions as for one. Differences
that a lost response or a long pause may leave are found by auditing the sessions that Redis says this replica owns against
those it drives.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from orchestrator.execution.driver import Driver
from orchestrator.execution.quarantine import CRASHED, MOST_ATTEMPTS, TRIAL_S, UNREADABLE, Quarantine
from orchestrator.execution.session_durations import SessionDurations
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports.errors import FencedError, PortError, StorageUnavailableError
from orchestrator.ports.stores import Claim, Recorded, Sessions, Share, Wanted
from orchestrator.webhooks.sender import CHORES
from services.serving import logs
from services.serving.background import run_forever

log = logging.getLogger(__name__)

_IDLE_S: Final = 1.0
_BETWEEN_CLAIMS_S: Final = 0.02
"""Notifications come in bursts: a claim that got nothing is not repeated at once."""
_BATCH: Final = 64
"""Sessions of one editor in one claim; urgent sessions in one claim; chores under way, for webhooks and for archives each."""
_HEARTBEATS_PER_AUDIT: Final = 3
_HEARTBEATS_PER_CHORE: Final = 15
"""The time limit of a chore: five leases. After six, a chore is handed out again, here or elsewhere."""
_MAX_CONSECUTIVE_BUGS: Final = 30
"""Of a background loop, after which the replica reports that it is not alive."""
_PAUSE_AFTER_BUG_S: Final = 5.0
_MAX_STOP_S: Final = 5.0


class Notifications(Protocol):
    """Notifications for the replica: a session became claimable, or somebody wrote to one that it drives."""

    def new_work(self) -> AsyncIterator[None]:
        """One item whenever there may be something to claim."""
        ...

    def session_writes(self) -> AsyncIterator[str]:
        """Ids of sessions that somebody else wrote to; "" when some notifications may have been missed."""
        ...


class EditorCapacity(Protocol):
    """How many more sessions each editor has capacity for."""

    def spare(self) -> Mapping[str, int]:
        """More sessions that can be started now, by editor."""
        ...

    def shares(self) -> Mapping[str, Share]:
        """Further sessions for tenants that have less than their share, by editor."""
        ...

    def add_claimed(self, editor: str, session_id: str) -> None:
        """A session was claimed and will soon ask for an edit."""
        ...

    def remove_claimed(self, editor: str, session_id: str) -> None:
        """A session will ask for no edit: it ended, or another replica owns it."""
        ...

    def edit_durations(self) -> Mapping[str, float]:
        """Seconds that an edit takes, by editor, where that is known."""
        ...


class FleetObserver(Protocol):
    """Observes sessions that are queued again; metrics implement it."""

    def recovered(self, sessions: int) -> None:
        """Sessions of dead replicas were queued again."""
        ...

    def orphaned(self, sessions: int) -> None:
        """Sessions that this replica owned without driving them were queued again."""
        ...

    def quarantined(self, session_id: str, code: str) -> None:
        """A session that cannot be driven was finished, with that error."""
        ...


@dataclass(frozen=True, slots=True)
class Replica:
    """This process among the replicas.

    Attributes:
        name: unique to this start of the process.
        capacity: sessions driven at a time; urgent ones come on top.
        heartbeat_s: seconds between two heartbeats; a third of the lease.
        thinkers: the names of thinkers that it knows now; None if it takes sessions of all.
    """

    name: str
    capacity: int
    heartbeat_s: float
    thinkers: Collection[str] | None = None


class Runner:
    """Claims and drives sessions until it is stopped.

    Args:
        replica: this process.
        sessions: the store.
        drive: makes the driver of a claim from its log.
        notifications: from the store.
        editors: the capacity of the editors.
        chore: does work that belongs to no driver; False if it has set a time to be handed out again. `PortError` postpones it.
        observer: of the fleet.
    """

    def __init__(
        self,
        replica: Replica,
        sessions: Sessions,
        drive: Callable[[Claim, list[Recorded]], Driver],
        notifications: Notifications,
        *,
        editors: EditorCapacity,
        chore: Callable[[str], Awaitable[bool]],
        observer: FleetObserver,
    ) -> None:
        self._replica = replica.name
        self._sessions = sessions
        self._drive = drive
        self._notifications = notifications
        self._editors = editors
        self._chore = chore
        self._observer = observer
        self._quarantine = Quarantine(sessions)
        self._suspect: tuple[Claim, float] | None = None
        """The session at its last attempt that is on trial here, and until when (monotonic)."""
        self._nothing_queued = False
        """Whether the last claim had capacity at every editor, and brought nothing."""
        self._claim_lost = False
        """Whether the answer to a claim was lost, or a driver gave up: sessions may be owned that nobody drives."""
        self._thinkers = replica.thinkers
        self._rounds = itertools.count()
        self._capacity = replica.capacity
        self._heartbeat_s = replica.heartbeat_s
        self._claims: dict[str, Claim] = {}
        self._drivers: dict[str, Driver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._chores: dict[str, asyncio.Task[None]] = {}
        self._early_signals: set[str] = set()
        """Sessions that somebody wrote to between their claim and the start of their driver."""
        self._orphans: set[str] = set()
        """Sessions that were owned without being driven at the last audit."""
        self._unowned: set[Claim] = set()
        """Claims that were driven without being owned at the last audit."""
        self._durations = SessionDurations()
        self._heartbeats = itertools.count(1)
        self._wake = asyncio.Event()
        self._draining = False
        self._loops: list[asyncio.Task[None]] = []

    @property
    def driving(self) -> int:
        """Sessions that this replica drives."""
        return len(self._tasks)

    def alive(self) -> bool:
        """Whether all background loops are running."""
        return bool(self._loops) and not any(task.done() for task in self._loops)

    def wake(self) -> None:
        """Claim soon: there may be capacity for another session. Not if none was queued at the last claim: of one that is queued
        since, Redis notifies. Otherwise each edit would cost a claim.
        """
        if not self._nothing_queued:
            self._wake.set()

    async def start(self) -> None:
        """Start the background loops."""
        steps = {
            "claiming": self._claim_step,
            "heartbeat": self._heartbeat_step,
            "new work": self._follow_new_work,
            "session writes": self._follow_session_writes,
        }
        # At most a heartbeat, so that a bug in that loop does not cost the lease.
        pause_s = min(_IDLE_S, self._heartbeat_s)
        loops = (run_forever(name, step, pause_s=pause_s, max_failures=_MAX_CONSECUTIVE_BUGS) for name, step in steps.items())
        self._loops = [asyncio.create_task(loop) for loop in loops]

    async def drain(self) -> None:
        """Claim nothing more, and leave each session to other replicas once its jobs under way have ended."""
        self._draining = True
        for driver in self._drivers.values():
            driver.leave()
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def stop(self) -> None:
        """Give up every session, so that other replicas can claim them at once; no recorded event is lost."""
        everything = {*self._loops, *self._tasks.values(), *self._chores.values()}
        for task in everything:
            task.cancel()
        if everything:
            # Without Redis, sessions cannot be given up; the lease then expires instead.
            await asyncio.wait(everything, timeout=_MAX_STOP_S)

    # --- claims ---------------------------------------------------------------------------------------------

    async def _claim_step(self) -> None:
        self._wake.clear()
        if await self._claim():
            return
        await asyncio.sleep(_BETWEEN_CLAIMS_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_IDLE_S, self._heartbeat_s)):
                await self._wake.wait()

    async def _claim(self) -> bool:
        """Claim once; True if that brought a session, or there may be more to bring."""
        before = list(self._tasks.values())
        try:
            if self._claim_lost:
                await self._release_lost_claims()
            if self._draining:
                return False
            self._nothing_queued = False
            wanted = self._wanted()
            taken = await self._sessions.claim(self._replica, wanted)
        except StorageUnavailableError as exc:
            log.warning("cannot claim sessions: %s", exc.message)
            self._claim_lost = True
            return False
        if taken.joined and before:
            self._lease_lost(before)
        if taken.recovered:
            log.warning("%d sessions of dead replicas were queued again", taken.recovered)
            self._observer.recovered(taken.recovered)
        has_capacity = wanted.capacity.keys() == self._editors.spare().keys()
        self._nothing_queued = has_capacity and not taken.claims and not taken.more
        for claim in taken.claims:
            self._begin(claim)
        for chore in taken.chores:
            if chore not in self._chores:
                self._chores[chore] = asyncio.create_task(self._do(chore), name=chore)
        return bool(taken.claims) or taken.more

    async def _release_lost_claims(self) -> None:
        """Queue sessions again that a claim without an answer may have brought. No claim is under way, so one look is enough."""
        driven = set(self._claims)
        orphans = await self._sessions.owned(self._replica) - driven - self._claims.keys()
        await self._release(orphans)
        self._claim_lost = False

    async def _release(self, orphans: Iterable[str]) -> None:
        released = 0
        for session_id in orphans:
            await self._sessions.release(self._replica, session_id)
            released += 1
        if released:
            self._observer.orphaned(released)

    def _wanted(self) -> Wanted:
        """Sessions for each editor, together at most as many as this replica can drive; and chores."""
        webhook_chores = sum(map(_is_for_webhooks, self._chores))
        free = max(0, self._capacity - len(self._tasks))
        spare = {editor: min(count, _BATCH) for editor, count in self._editors.spare().items() if count > 0 and free}
        fair = max(1, free // max(1, len(spare)))
        # Where there is less capacity than editors, each is the first in its turn.
        names = sorted(spare)
        start = next(self._rounds) % max(1, len(names))
        return Wanted(
            {editor: min(spare[editor], fair) for editor in names[start:] + names[:start]},
            urgent=_BATCH,
            chores=_BATCH - len(self._chores) + webhook_chores,
            webhook_chores=_BATCH - webhook_chores,
            shares={editor: share for editor, share in self._editors.shares().items() if share.more and free},
            most=free,
            thinkers=self._thinkers,
        )

    async def _do(self, chore: str) -> None:
        timeout_s = _HEARTBEATS_PER_CHORE * self._heartbeat_s
        try:
            async with asyncio.timeout(timeout_s):
                if await self._chore(chore):
                    await self._sessions.complete_chore(chore)
        except TimeoutError:
            log.warning("%s is postponed: it took longer than %g s", chore, timeout_s)
        except PortError as exc:
            log.warning("%s is postponed: %s", chore, exc.message)
        except CorruptLogError as exc:
            log.error("%s is dropped: %s", chore, exc)  # noqa: TRY400 - expected, no trace needed
            with contextlib.suppress(StorageUnavailableError):
                await self._sessions.complete_chore(chore)
        except Exception:  # the edge of a chore: a bug in one must not stop the others
            log.exception("%s failed because of a bug, and will be tried again", chore)
        finally:
            del self._chores[chore]

    # --- sessions -------------------------------------------------------------------------------------------

    def _begin(self, claim: Claim) -> None:
        session_id = claim.session_id
        running = self._tasks.get(session_id)
        if running is not None:
            # The session was taken over and claimed back: the new fence is valid, the old driver's is not.
            running.cancel()
        self._editors.add_claimed(claim.editor, session_id)
        self._claims[session_id] = claim
        self._tasks[session_id] = asyncio.create_task(self._run(claim), name=session_id)

    async def _run(self, claim: Claim) -> None:
        session_id = claim.session_id
        logs.bind(session_id=session_id)
        try:
            if claim.attempts > MOST_ATTEMPTS:
                await self._quarantine.end_crashed(claim)
                self._observer.quarantined(session_id, CRASHED.code)
            elif claim.attempts == MOST_ATTEMPTS and self._is_trying_a_suspect():
                await self._quarantine.postpone(claim)
            else:
                await self._drive_claim(claim)
        except FencedError:
            log.info("session %s belongs to another replica now", session_id)
        except StorageUnavailableError as exc:
            log.error("session %s is given up: %s", session_id, exc)  # noqa: TRY400 - expected, no trace needed
            self._claim_lost = True
        except asyncio.CancelledError:
            with contextlib.suppress(FencedError, StorageUnavailableError):
                await self._sessions.suspend(claim, 0, None)
            raise
        except Exception:  # the edge of a session: a bug in one must not stop the others
            log.exception("session %s is given up because of a bug, and will be driven again", session_id)
            await asyncio.sleep(_PAUSE_AFTER_BUG_S)
            with contextlib.suppress(StorageUnavailableError):
                await self._sessions.release(self._replica, session_id, failed=True)
        finally:
            if self._claims.get(session_id) == claim:
                del self._claims[session_id]
                self._drivers.pop(session_id, None)
                self._early_signals.discard(session_id)
                self._tasks.pop(session_id, None)
                self._editors.remove_claimed(claim.editor, session_id)
                self._wake.set()

    async def _drive_claim(self, claim: Claim) -> None:
        session_id = claim.session_id
        if claim.attempts == MOST_ATTEMPTS:
            self._suspect = claim, time.monotonic() + TRIAL_S
        try:
            events = await self._sessions.read(session_id)
            if not events:
                raise CorruptLogError("it has no log")
            driver = self._driver(claim, events)
            began = time.monotonic()
            await driver.run()
            if driver.finished:
                self._durations.ended(claim.editor, driver.finished, time.monotonic() - began)
        except CorruptLogError as exc:
            log.error("session %s has a log that cannot be read: %s", session_id, exc)  # noqa: TRY400 - expected, no trace needed
            if await self._quarantine.end_unreadable(claim):
                self._observer.quarantined(session_id, UNREADABLE.code)
        finally:
            if self._suspect and self._suspect[0] == claim:
                self._suspect = None

    def _driver(self, claim: Claim, events: list[Recorded]) -> Driver:
        """The driver of a session, told what happened since its claim."""
        driver = self._drivers[claim.session_id] = self._drive(claim, events)
        if claim.session_id in self._early_signals:
            driver.signal()
        if self._draining:
            driver.leave()
        return driver

    def _is_trying_a_suspect(self) -> bool:
        if self._suspect is None:
            return False
        claim, until = self._suspect
        driver = self._drivers.get(claim.session_id)
        return time.monotonic() < until and (driver is None or driver.last_event <= claim.seq)

    # --- leases ---------------------------------------------------------------------------------------------

    async def _heartbeat_step(self) -> None:
        """Renew the lease, report durations, and audit from time to time."""
        await asyncio.sleep(self._heartbeat_s)
        try:
            before = list(self._tasks.values())
            if not await self._sessions.renew_lease(self._replica):
                self._lease_lost(before)
            with contextlib.suppress(StorageUnavailableError):  # a full Redis; the lease and the audit matter more
                await self._sessions.report_durations(self._editors.edit_durations(), self._durations.most())
            if next(self._heartbeats) % _HEARTBEATS_PER_AUDIT == 0:
                await self._audit()
        except StorageUnavailableError as exc:
            log.warning("cannot renew the lease: %s", exc.message)

    def _lease_lost(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        log.warning("this replica's lease expired; its sessions belong to other replicas now")
        for task in tasks:
            task.cancel()

    async def _audit(self) -> None:
        """Stop driving sessions that this replica does not own, and queue sessions again that it owns without driving them (the
        response to a claim was lost, or a driver failed). Act only if the mismatch persists for two consecutive audits, to
        tolerate races with claims and ends.
        """
        driven = dict(self._claims)
        owned = await self._sessions.owned(self._replica)
        unowned = {claim for name, claim in driven.items() if name not in owned and self._claims.get(name) == claim}
        lost = unowned & self._unowned
        for claim in lost:
            self._tasks[claim.session_id].cancel()
        self._unowned = unowned - lost
        orphans = owned - self._claims.keys()
        persistent = orphans & self._orphans
        await self._release(persistent)
        self._orphans = orphans - persistent

    # --- notifications --------------------------------------------------------------------------------------

    async def _follow_new_work(self) -> None:
        async for _ in self._notifications.new_work():
            self._wake.set()

    async def _follow_session_writes(self) -> None:
        async for session_id in self._notifications.session_writes():
            if session_id in self._tasks and session_id not in self._drivers:
                self._early_signals.add(session_id)
            drivers = [self._drivers[session_id]] if session_id in self._drivers else []
            for driver in drivers if session_id else list(self._drivers.values()):
                driver.signal(missed=not session_id)


def _is_for_webhooks(chore: str) -> bool:
    """Whether a chore is for webhooks. They are counted apart, so that a hanging bucket does not stop deliveries."""
    return chore.partition(":")[0] in CHORES

"""This replica's share of the work: claims sessions, drives each in a task, and renews its lease.

One lease covers every session that a replica drives, so it costs the same for ten thousand sessions as for one. Differences
that a lost response or a long pause may leave are found by auditing the sessions that Redis says this replica owns against
those it drives. Renewal, reports and audits have a loop and a period each, so that one that hangs does not cost the lease.
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

from orchestrator.execution.chores import Audit, Chores
from orchestrator.execution.driver import Driver
from orchestrator.execution.held import Held
from orchestrator.execution.quarantine import CRASHED, MOST_ATTEMPTS, UNREADABLE, Quarantine
from orchestrator.execution.session_durations import SessionDurations
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports.errors import FencedError, StorageUnavailableError
from orchestrator.ports.stores import Claim, Recorded, Sessions, Share, Wanted
from services.serving import logs
from services.serving.background import run_forever

log = logging.getLogger(__name__)

_IDLE_S: Final = 1.0
_BETWEEN_CLAIMS_S: Final = 0.02
"""Notifications come in bursts: a claim that got nothing is not repeated at once."""
_BATCH: Final = 64
"""Sessions of one editor in one claim; urgent sessions in one claim."""
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
        thinkers: the names of thinkers and judges that it knows now; None if it takes sessions of all.
    """

    name: str
    capacity: int
    heartbeat_s: float
    thinkers: Callable[[], Collection[str]] | None = None


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
        self._observer = observer
        self._quarantine = Quarantine(sessions)
        self._nothing_queued = False
        """Whether the last claim had capacity at every editor, and brought nothing."""
        self._claim_lost = False
        """Whether the answer to a claim was lost, or a driver gave up: sessions may be owned that nobody drives."""
        self._thinkers = replica.thinkers
        self._rounds = itertools.count()
        self._capacity = replica.capacity
        self._heartbeat_s = replica.heartbeat_s
        self._held: dict[str, Held] = {}
        self._chores = Chores(sessions, chore, _HEARTBEATS_PER_CHORE * replica.heartbeat_s)
        self._audit = Audit(replica.name, sessions, self._held, observer.orphaned)
        self._durations = SessionDurations()
        self._wake = asyncio.Event()
        self._draining = False
        self._loops: list[asyncio.Task[None]] = []

    @property
    def driving(self) -> int:
        """Sessions that this replica drives."""
        return len(self._held)

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
            "renewing the lease": self._renew_step,
            "reports": self._report_step,
            "audits": self._audit_step,
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
        for held in self._held.values():
            if held.driver is not None:
                held.driver.leave()
        while self._held:
            await asyncio.wait(self._driving_tasks())

    async def stop(self) -> None:
        """Give up every session, so that other replicas can claim them at once; no recorded event is lost."""
        everything = {*self._loops, *self._driving_tasks(), *self._chores.tasks}
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
        before = self._driving_tasks()
        try:
            if self._claim_lost:
                await self._audit.release_unheld()
                self._claim_lost = False
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
        self._chores.begin(taken.chores)
        return bool(taken.claims) or taken.more

    def _wanted(self) -> Wanted:
        """Sessions for each editor, together at most as many as this replica can drive; and chores."""
        chores, webhook_chores = self._chores.free()
        free = max(0, self._capacity - len(self._held))
        spare = {editor: min(count, _BATCH) for editor, count in self._editors.spare().items() if count > 0 and free}
        fair = max(1, free // max(1, len(spare)))
        # Where there is less capacity than editors, each is the first in its turn.
        names = sorted(spare)
        start = next(self._rounds) % max(1, len(names))
        return Wanted(
            {editor: min(spare[editor], fair) for editor in names[start:] + names[:start]},
            urgent=_BATCH,
            chores=chores,
            webhook_chores=webhook_chores,
            shares={editor: share for editor, share in self._editors.shares().items() if share.more and free},
            most=free,
            thinkers=self._thinkers() if self._thinkers else None,
        )

    # --- sessions -------------------------------------------------------------------------------------------

    def _driving_tasks(self) -> list[asyncio.Task[None]]:
        return [held.task for held in self._held.values()]

    def _begin(self, claim: Claim) -> None:
        session_id = claim.session_id
        before = self._held.get(session_id)
        if before is not None:
            # The session was taken over and claimed back: the new fence is valid, the old driver's is not.
            before.task.cancel()
        self._editors.add_claimed(claim.editor, session_id)
        held = self._held[session_id] = Held(claim)
        held.task = asyncio.create_task(self._run(held), name=session_id)

    async def _run(self, held: Held) -> None:
        claim = held.claim
        session_id = claim.session_id
        logs.bind(session_id=session_id)
        try:
            if claim.attempts > MOST_ATTEMPTS:
                await self._quarantine.end_crashed(claim)
                self._observer.quarantined(session_id, CRASHED.code)
            elif claim.attempts == MOST_ATTEMPTS and any(other.on_trial for other in self._held.values()):
                await self._quarantine.postpone(claim)
            else:
                await self._drive_claim(held)
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
            if self._held.get(session_id) is held:
                del self._held[session_id]
                self._editors.remove_claimed(claim.editor, session_id)
                self._wake.set()

    async def _drive_claim(self, held: Held) -> None:
        claim = held.claim
        session_id = claim.session_id
        if claim.attempts == MOST_ATTEMPTS:
            held.begin_trial()
        try:
            events = await self._sessions.read(session_id)
            if not events:
                raise CorruptLogError("it has no log")
            driver = self._drive(claim, events)
            held.drive(driver, leaving=self._draining)
            began = time.monotonic()
            await driver.run()
            if driver.finished:
                self._durations.ended(claim.editor, driver.finished, time.monotonic() - began)
        except CorruptLogError as exc:
            log.error("session %s has a log that cannot be read: %s", session_id, exc)  # noqa: TRY400 - expected, no trace needed
            if await self._quarantine.end_unreadable(claim):
                self._observer.quarantined(session_id, UNREADABLE.code)

    # --- leases ---------------------------------------------------------------------------------------------

    async def _renew_step(self) -> None:
        await asyncio.sleep(self._heartbeat_s)
        before = self._driving_tasks()
        try:
            if not await self._sessions.renew_lease(self._replica):
                self._lease_lost(before)
        except StorageUnavailableError as exc:
            log.warning("cannot renew the lease: %s", exc.message)

    async def _report_step(self) -> None:
        await asyncio.sleep(self._heartbeat_s)
        with contextlib.suppress(StorageUnavailableError):  # a full Redis, or none; the next report has it all
            await self._sessions.report_durations(self._editors.edit_durations(), self._durations.most())

    async def _audit_step(self) -> None:
        await asyncio.sleep(_HEARTBEATS_PER_AUDIT * self._heartbeat_s)
        with contextlib.suppress(StorageUnavailableError):  # the renewal of the lease tells of it
            await self._audit.compare()

    def _lease_lost(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        log.warning("this replica's lease expired; its sessions belong to other replicas now")
        for task in tasks:
            task.cancel()

    # --- notifications --------------------------------------------------------------------------------------

    async def _follow_new_work(self) -> None:
        async for _ in self._notifications.new_work():
            self._wake.set()

    async def _follow_session_writes(self) -> None:
        async for session_id in self._notifications.session_writes():
            for held in [held for held in (self._held.get(session_id),) if held] if session_id else list(self._held.values()):
                held.signal(missed=not session_id)

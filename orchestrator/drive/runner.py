"""This replica's share of the work: claims sessions, drives each in a task, holds their leases.

How a session is claimed and held is the store's business: `Sessions.claim`, `renew` and `park` are the seam.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

from orchestrator.drive.driver import Driver
from orchestrator.loop.session import CorruptLog
from orchestrator.ports import Claim, Fenced, Recorded, Sessions, StorageUnavailable

log = logging.getLogger(__name__)

_IDLE_S: Final = 1.0
_PAUSE_AFTER_A_BUG_S: Final = 5.0
_PAUSE_FOR_A_CORRUPT_LOG_S: Final = 60.0
_LONGEST_STOP_S: Final = 5.0


class Wakes(Protocol):
    """News for the replica: a session became claimable (wake), or somebody wrote to one it drives (signal)."""

    def wakes(self) -> AsyncIterator[None]:
        """One item whenever there may be something to claim."""
        ...

    def signals(self) -> AsyncIterator[str]:
        """Session ids that somebody else wrote to; "" when some may have been missed."""
        ...


class Runner:
    """Claims and drives sessions until it is stopped.

    Args:
        replica: this process's name; new at every start.
        sessions: the store.
        drive: makes the driver of a claim from its log.
        wakes: news from the store.
        capacity: sessions driven at a time.
        renew_s: seconds between two renewals of the leases.
    """

    def __init__(
        self,
        replica: str,
        sessions: Sessions,
        drive: Callable[[Claim, list[Recorded]], Driver],
        wakes: Wakes,
        *,
        capacity: int,
        renew_s: float,
    ) -> None:
        self._replica = replica
        self._sessions = sessions
        self._drive = drive
        self._wakes = wakes
        self._capacity = capacity
        self._renew_s = renew_s
        self._claims: dict[str, Claim] = {}
        self._drivers: dict[str, Driver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._early: set[str] = set()
        """Sessions that somebody wrote to between their claim and the start of their driver."""
        self._wake = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def driving(self) -> int:
        """Sessions in this replica's hands."""
        return len(self._tasks)

    def alive(self) -> bool:
        """Whether the loops that keep sessions moving still run."""
        return bool(self._loops) and not any(task.done() for task in self._loops)

    async def start(self) -> None:
        """Begin to claim."""
        loops = (self._claiming(), self._renewing(), self._waking(), self._signalling())
        self._loops = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """Let go of every session, so that another replica can take it at once; nothing recorded is lost."""
        for task in (*self._loops, *self._tasks.values()):
            task.cancel()
        if everything := {*self._loops, *self._tasks.values()}:
            # With Redis away, letting go takes for ever; then the leases run out instead.
            await asyncio.wait(everything, timeout=_LONGEST_STOP_S)

    async def _claiming(self) -> None:
        while True:
            self._wake.clear()
            try:
                free = self._capacity - len(self._tasks)
                claims = await self._sessions.claim(self._replica, min(free, 64)) if free > 0 else []
            except StorageUnavailable as exc:
                log.warning("cannot claim sessions: %s", exc.message)
                claims = []
            for claim in claims:
                self._begin(claim)
            if not claims:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE_S):
                        await self._wake.wait()

    def _begin(self, claim: Claim) -> None:
        session_id = claim.session_id
        mine = self._tasks.get(session_id)
        if mine is not None:
            # Our own lease ran out (a stall); the new fence is valid, the old driver is not.
            mine.cancel()
        self._claims[session_id] = claim
        self._tasks[session_id] = asyncio.create_task(self._run(claim), name=session_id)

    async def _run(self, claim: Claim) -> None:
        session_id = claim.session_id
        try:
            events = await self._sessions.read(session_id)
            if not events:
                log.error("session %s is on the agenda but has no log", session_id)
                return
            driver = self._drive(claim, events)
            self._drivers[session_id] = driver
            if session_id in self._early:
                driver.signal()
            await driver.run()
        except Fenced:
            log.info("session %s belongs to another replica now", session_id)
        except StorageUnavailable as exc:
            log.error("session %s is let go: %s", session_id, exc)  # noqa: TRY400 - expected, no trace needed
        except CorruptLog as exc:
            log.error("session %s cannot be read and waits: %s", session_id, exc)  # noqa: TRY400 - as above
            await asyncio.sleep(_PAUSE_FOR_A_CORRUPT_LOG_S)
        except asyncio.CancelledError:
            await self._release(claim)
            raise
        except Exception:  # the edge of a session: a bug in one must not stop the others
            log.exception("session %s is let go because of a bug; it is taken up again after its lease", session_id)
            await asyncio.sleep(_PAUSE_AFTER_A_BUG_S)
        finally:
            if self._claims.get(session_id) == claim:
                del self._claims[session_id]
                self._drivers.pop(session_id, None)
                self._early.discard(session_id)
                self._tasks.pop(session_id, None)
                self._wake.set()

    async def _release(self, claim: Claim) -> None:
        """Put a session back on the agenda for now; if that fails, its lease runs out instead."""
        with contextlib.suppress(Fenced, StorageUnavailable):
            events = await self._sessions.read(claim.session_id)
            if events:
                await self._sessions.park(claim, events[-1].seq, None)

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            claims = list(self._claims.values())
            for start in range(0, len(claims), 500):
                await self._renew(claims[start : start + 500])

    async def _renew(self, claims: Sequence[Claim]) -> None:
        try:
            lost = await self._sessions.renew(claims)
        except StorageUnavailable as exc:
            log.warning("cannot renew leases: %s", exc.message)
            return
        for claim in lost:
            if self._claims.get(claim.session_id) == claim:
                self._tasks[claim.session_id].cancel()

    async def _waking(self) -> None:
        async for _ in self._wakes.wakes():
            self._wake.set()

    async def _signalling(self) -> None:
        async for session_id in self._wakes.signals():
            if session_id in self._tasks and session_id not in self._drivers:
                self._early.add(session_id)
            drivers = [self._drivers[session_id]] if session_id in self._drivers else []
            for driver in drivers if session_id else list(self._drivers.values()):
                driver.signal()

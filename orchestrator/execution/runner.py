"""This replica's share of the work: claims sessions, drives each in a task, and tells the others that it lives.

One lease covers everything a replica drives, so holding it costs the same for ten thousand sessions as for one. What a
lost answer or a long pause may have put wrong is found by comparing what Redis says we own with what we drive.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from orchestrator.execution.driver import Driver
from orchestrator.execution.session_durations import SessionDurations
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports import Claim, FencedError, PortError, Recorded, Sessions, StorageUnavailableError
from orchestrator.webhooks.sender import CHORES
from services.serving import logs
from services.serving.background import run_forever

log = logging.getLogger(__name__)

_IDLE_S: Final = 1.0
_BETWEEN_ROUNDS_S: Final = 0.02
"""News come in bursts: a round that brought nothing is not followed by another at once."""
_AT_A_TIME: Final = 64
"""Sessions claimed in one round for one editor; urgent sessions. Chores under way: webhooks', and as many of the blob store."""
_BEATS_PER_AUDIT: Final = 3
_BEATS_PER_CHORE: Final = 15
"""What a chore may take: five leases, which is less than the six after which it comes again, here or elsewhere."""
_BUGS_IN_A_ROW: Final = 30
"""After which a replica is no longer said to be alive."""
_PAUSE_AFTER_A_BUG_S: Final = 5.0
_PAUSE_FOR_A_CORRUPT_LOG_S: Final = 60.0
_LONGEST_STOP_S: Final = 5.0


class Notifications(Protocol):
    """News for the replica: a session became claimable (wake), or somebody wrote to one it drives (signal)."""

    def new_work(self) -> AsyncIterator[None]:
        """One item whenever there may be something to claim."""
        ...

    def session_writes(self) -> AsyncIterator[str]:
        """Session ids that somebody else wrote to; "" when some may have been missed."""
        ...


class EditorCapacity(Protocol):
    """How many more sessions each editor could do with."""

    def room(self) -> Mapping[str, int]:
        """By editor, those that have any."""
        ...

    def expect(self, editor: str, session_id: str) -> None:
        """A session was claimed and will soon ask for an edit."""
        ...

    def forget(self, editor: str, session_id: str) -> None:
        """It will not: it ended, or is another replica's."""
        ...

    def paces(self) -> Mapping[str, float]:
        """Seconds that an edit takes, by editor, where that is known."""
        ...


class Watch(Protocol):
    """Who is told what happens to the fleet."""

    def recovered(self, sessions: int) -> None:
        """Sessions of dead replicas went back into line."""
        ...

    def strayed(self, sessions: int) -> None:
        """Sessions that this replica owned without driving them went back into line."""
        ...


@dataclass(frozen=True, slots=True)
class Replica:
    """This process among the others.

    Attributes:
        name: new at every start.
        capacity: sessions driven at a time; urgent ones come on top.
        beat_s: seconds between two signs of life; a third of the lease.
    """

    name: str
    capacity: int
    beat_s: float


class Runner:
    """Claims and drives sessions until it is stopped.

    Args:
        replica: this process.
        sessions: the store.
        drive: makes the driver of a claim from its log.
        wakes: news from the store.
        rooms: which sessions are worth claiming.
        chore: does work that belongs to no driver; False if it set a time to come again, `PortError` if it did not.
        watch: is told what happens to the fleet.
    """

    def __init__(
        self,
        replica: Replica,
        sessions: Sessions,
        drive: Callable[[Claim, list[Recorded]], Driver],
        wakes: Notifications,
        *,
        rooms: EditorCapacity,
        chore: Callable[[str], Awaitable[bool]],
        watch: Watch,
    ) -> None:
        self._replica = replica.name
        self._sessions = sessions
        self._drive = drive
        self._wakes = wakes
        self._rooms = rooms
        self._chore = chore
        self._watch = watch
        self._capacity = replica.capacity
        self._beat_s = replica.beat_s
        self._claims: dict[str, Claim] = {}
        self._drivers: dict[str, Driver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._chores: dict[str, asyncio.Task[None]] = {}
        self._early: set[str] = set()
        """Sessions that somebody wrote to between their claim and the start of their driver."""
        self._strays: set[str] = set()
        """Sessions that were owned without being driven when we last looked."""
        self._missed: set[Claim] = set()
        """Claims that were driven without being owned when we last looked."""
        self._lengths = SessionDurations()
        self._beats = itertools.count(1)
        self._wake = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def driving(self) -> int:
        """Sessions in this replica's hands."""
        return len(self._tasks)

    def alive(self) -> bool:
        """Whether the loops that keep sessions moving still run."""
        return bool(self._loops) and not any(task.done() for task in self._loops)

    def nudge(self) -> None:
        """There may be room for another session."""
        self._wake.set()

    async def start(self) -> None:
        """Begin to claim."""
        steps = (self._claiming, self._living, self._waking, self._signalling)
        # No longer than a beat, or a bug beside the beats would cost the lease.
        pause_s = min(_IDLE_S, self._beat_s)
        loops = (run_forever(step.__name__.strip("_"), step, pause_s=pause_s, max_failures=_BUGS_IN_A_ROW) for step in steps)
        self._loops = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """Let go of every session, so that another replica can take it at once; nothing recorded is lost."""
        everything = {*self._loops, *self._tasks.values(), *self._chores.values()}
        for task in everything:
            task.cancel()
        if everything:
            # With Redis away, letting go takes for ever; then the lease runs out instead.
            await asyncio.wait(everything, timeout=_LONGEST_STOP_S)

    # --- rounds ---------------------------------------------------------------------------------------------

    async def _claiming(self) -> None:
        self._wake.clear()
        if await self._round():
            return
        await asyncio.sleep(_BETWEEN_ROUNDS_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_IDLE_S, self._beat_s)):
                await self._wake.wait()

    async def _round(self) -> bool:
        """Claim once; whether that brought a session."""
        before = list(self._tasks.values())
        news = sum(map(_is_news, self._chores))
        hands = {"chores": _AT_A_TIME - len(self._chores) + news, "webhook_chores": _AT_A_TIME - news}
        try:
            taken = await self._sessions.claim(self._replica, self._room(), urgent=_AT_A_TIME, **hands)
        except StorageUnavailableError as exc:
            log.warning("cannot claim sessions: %s", exc.message)
            return False
        if taken.joined and before:
            self._lost(before)
        if taken.recovered:
            log.warning("%d sessions of dead replicas went back into line", taken.recovered)
            self._watch.recovered(taken.recovered)
        for claim in taken.claims:
            self._begin(claim)
        for chore in taken.chores:
            if chore not in self._chores:
                self._chores[chore] = asyncio.create_task(self._do(chore), name=chore)
        return bool(taken.claims)

    def _room(self) -> dict[str, int]:
        """Sessions to claim for each editor, so that all of them together are no more than we can drive."""
        free = max(0, self._capacity - len(self._tasks))
        wanted = {editor: min(room, _AT_A_TIME) for editor, room in self._rooms.room().items() if room > 0}
        share = max(1, free // max(1, len(wanted)))
        room: dict[str, int] = {}
        for editor, count in wanted.items():
            room[editor] = min(count, share, free)
            free -= room[editor]
        return {editor: count for editor, count in room.items() if count}

    async def _do(self, chore: str) -> None:
        may_take_s = _BEATS_PER_CHORE * self._beat_s
        try:
            async with asyncio.timeout(may_take_s):
                if await self._chore(chore):
                    await self._sessions.complete_chore(chore)
        except TimeoutError:
            log.warning("%s is put off: it took longer than %g s", chore, may_take_s)
        except PortError as exc:
            log.warning("%s is put off: %s", chore, exc.message)
        except Exception:  # the edge of a chore: a bug in one must not stop the others
            log.exception("%s failed because of a bug, and comes again", chore)
        finally:
            del self._chores[chore]

    # --- sessions -------------------------------------------------------------------------------------------

    def _begin(self, claim: Claim) -> None:
        session_id = claim.session_id
        mine = self._tasks.get(session_id)
        if mine is not None:
            # It was taken from us and given back; the new fence is valid, the old driver is not.
            mine.cancel()
        self._rooms.expect(claim.editor, session_id)
        self._claims[session_id] = claim
        self._tasks[session_id] = asyncio.create_task(self._run(claim), name=session_id)

    async def _run(self, claim: Claim) -> None:
        session_id = claim.session_id
        logs.bind(session_id=session_id)
        try:
            events = await self._sessions.read(session_id)
            if not events:
                log.error("session %s is in line but has no log", session_id)
                return
            driver = self._drive(claim, events)
            self._drivers[session_id] = driver
            if session_id in self._early:
                driver.signal()
            began = time.monotonic()
            await driver.run()
            if driver.finished:
                self._lengths.ended(claim.editor, driver.finished, time.monotonic() - began)
        except FencedError:
            log.info("session %s belongs to another replica now", session_id)
        except StorageUnavailableError as exc:
            log.error("session %s is let go: %s", session_id, exc)  # noqa: TRY400 - expected, no trace needed
        except CorruptLogError as exc:
            log.error("session %s cannot be read and waits: %s", session_id, exc)  # noqa: TRY400 - as above
            await asyncio.sleep(_PAUSE_FOR_A_CORRUPT_LOG_S)
        except asyncio.CancelledError:
            with contextlib.suppress(FencedError, StorageUnavailableError):
                await self._sessions.suspend(claim, 0, None)
            raise
        except Exception:  # the edge of a session: a bug in one must not stop the others
            log.exception("session %s is let go because of a bug; it is taken up again in a while", session_id)
            await asyncio.sleep(_PAUSE_AFTER_A_BUG_S)
        finally:
            if self._claims.get(session_id) == claim:
                del self._claims[session_id]
                self._drivers.pop(session_id, None)
                self._early.discard(session_id)
                self._tasks.pop(session_id, None)
                self._rooms.forget(claim.editor, session_id)
                self._wake.set()

    # --- leases ---------------------------------------------------------------------------------------------

    async def _living(self) -> None:
        """Tell the others that we live, and look whether they agree about what we drive."""
        await asyncio.sleep(self._beat_s)
        try:
            before = list(self._tasks.values())
            if not await self._sessions.renew_lease(self._replica):
                self._lost(before)
            await self._sessions.report_durations(self._rooms.paces(), self._lengths.most())
            if next(self._beats) % _BEATS_PER_AUDIT == 0:
                await self._audit()
        except StorageUnavailableError as exc:
            log.warning("cannot hold the lease: %s", exc.message)

    def _lost(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        log.warning("this replica was taken for dead; what it drove belongs to others now")
        for task in tasks:
            task.cancel()

    async def _audit(self) -> None:
        """Stop what we drive and do not own; give back what we own and do not drive: a claim whose answer was lost, or a driver
        that broke. Both for the second time only: a session may have been claimed, or have ended, a moment ago.
        """
        driven = dict(self._claims)
        owned = await self._sessions.owned(self._replica)
        missed = {claim for name, claim in driven.items() if name not in owned and self._claims.get(name) == claim}
        gone = missed & self._missed
        for claim in gone:
            self._tasks[claim.session_id].cancel()
        self._missed = missed - gone
        strays = owned - self._claims.keys()
        again = strays & self._strays
        for session_id in again:
            await self._sessions.release(self._replica, session_id)
        if again:
            self._watch.strayed(len(again))
        self._strays = strays - again

    # --- news -----------------------------------------------------------------------------------------------

    async def _waking(self) -> None:
        async for _ in self._wakes.new_work():
            self._wake.set()

    async def _signalling(self) -> None:
        async for session_id in self._wakes.session_writes():
            if session_id in self._tasks and session_id not in self._drivers:
                self._early.add(session_id)
            drivers = [self._drivers[session_id]] if session_id in self._drivers else []
            for driver in drivers if session_id else list(self._drivers.values()):
                driver.signal()


def _is_news(chore: str) -> bool:
    """Whether it is a webhook's, and not the blob store's: a bucket that hangs takes no hands from webhooks."""
    return chore.partition(":")[0] in CHORES

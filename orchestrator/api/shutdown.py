"""How this replica ends: it drains, while its callers get their answers, and then it closes.

    draining   its sessions are left to other replicas, which continue them; its waiting callers follow them until they end.
               It is not ready, so that balancers send new callers elsewhere; those who come nevertheless are served.
    closing    callers who still wait are told to repeat the request, and the repeat joins the same session.

A replica without others closes at once: nobody would continue its sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator

from orchestrator.ports.errors import PortError, StorageUnavailableError
from services.serving.background import run_forever

log = logging.getLogger(__name__)


class Callers:
    """The calls that wait for their session on this replica.

    Those without an idempotency key are the only ones who can get the result of their session. Their leases are renewed
    together; when they end, since this process was killed, the session ends at its next step (`Driver`).

    Args:
        renew: renews the leases of the callers of these sessions.
        period_s: between two renewals; a third of the lease.
    """

    def __init__(self, renew: Callable[[Collection[str]], Awaitable[None]], period_s: float) -> None:
        self._renew = renew
        self._period_s = period_s
        self._waiting = 0
        self._leased: Counter[str] = Counter()
        self._left = asyncio.Event()
        self._left.set()
        self._later: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def waiting(self, session_id: str, *, leased: bool) -> Iterator[None]:
        """A caller waits for a session; `leased`, if nobody else can get its result."""
        self._waiting += 1
        if leased:
            self._leased[session_id] += 1
        self._left.clear()
        try:
            yield
        finally:
            self._waiting -= 1
            if leased:
                self._leased[session_id] -= 1
                # Not left at zero: the lease of a caller who is gone would be renewed.
                if not self._leased[session_id]:
                    del self._leased[session_id]
            if not self._waiting:
                self._left.set()

    def later(self, after_s: float, step: Callable[[], Awaitable[None]]) -> None:
        """Do something for a caller who left, unless this process ends before: the lease of the caller then ends alike."""

        async def wait() -> None:
            await asyncio.sleep(after_s)
            try:
                await step()
            except PortError as exc:
                log.warning("cannot end the session of a caller who left: %s", exc.message)

        task = asyncio.create_task(wait(), name="caller who left")
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def close(self) -> None:
        """Forget those who left."""
        for task in self._later:
            task.cancel()

    async def left(self) -> None:
        """Wait until nobody waits."""
        await self._left.wait()

    async def renew_forever(self) -> None:
        """Renew the leases, for as long as the process lives."""
        await run_forever("callers", self._renew_step, pause_s=self._period_s)

    async def _renew_step(self) -> None:
        await asyncio.sleep(self._period_s)
        try:
            if self._leased:
                await self._renew(list(self._leased))
        except StorageUnavailableError as exc:
            log.warning("cannot renew the leases of waiting callers: %s", exc.message)


class Shutdown:
    """The end of this replica.

    Args:
        drain_s: seconds that draining may take.

    Attributes:
        draining, closing: set when that begins.
    """

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self.draining = asyncio.Event()
        self.closing = asyncio.Event()
        self._at_once = asyncio.Event()
        self._steps: tuple[Callable[[], Awaitable[None]], ...] = ()
        self._others: Callable[[], Awaitable[bool]] | None = None

    def prepare(self, *steps: Callable[[], Awaitable[None]], others: Callable[[], Awaitable[bool]]) -> None:
        """Set what draining waits for, and what tells whether there are other replicas."""
        self._steps, self._others = steps, others

    def close_at_once(self) -> None:
        """Drain no longer. May be called from a signal handler."""
        self._at_once.set()

    async def drain(self) -> None:
        """Drain, then set `closing`."""
        self.draining.set()
        if await self._has_others():
            ends = [asyncio.create_task(end) for end in (self._drained(), self._at_once.wait())]
            await asyncio.wait(ends, timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            for outcome in await asyncio.gather(*ends, return_exceptions=True):
                if isinstance(outcome, Exception):
                    log.error("draining failed because of a bug", exc_info=outcome)
        self.closing.set()

    async def _drained(self) -> bool:
        await asyncio.gather(*(step() for step in self._steps))
        return True

    async def _has_others(self) -> bool:
        try:
            return self._others is not None and await self._others()
        except StorageUnavailableError:
            return False

"""What a replica does besides driving sessions: chores that Redis hands out, and the audit of what it holds.

A chore is ``<kind>:<session id>`` with a time at which it is due: to archive a session, to purge its images, to deliver a
webhook. `claim` hands out as many as there is capacity for. Each runs in a task of its own and is handed out again, here or
elsewhere, until it is completed, so that neither a slow chore nor a backlog of them delays a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from orchestrator.execution.held import Held
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports.errors import PortError, StorageUnavailableError
from orchestrator.ports.stores import Sessions
from orchestrator.webhooks.sender import CHORES

log = logging.getLogger(__name__)
MOST: Final = 64
"""Chores under way, for webhooks and for archives each."""


class Chores:
    """The chores under way.

    Args:
        sessions: the store, which hands them out.
        do: does one; False if it has set a time to be handed out again. `PortError` postpones it.
        timeout_s: of one. `claim.lua` hands out a chore again after a little more.
    """

    def __init__(self, sessions: Sessions, do: Callable[[str], Awaitable[bool]], timeout_s: float) -> None:
        self._sessions = sessions
        self._do = do
        self._timeout_s = timeout_s
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def tasks(self) -> Iterable[asyncio.Task[None]]:
        """Those under way."""
        return self._tasks.values()

    def free(self) -> tuple[int, int]:
        """How many more can be begun: archives and the like, and webhooks. They are counted apart, so that a bucket that hangs
        does not stop deliveries.
        """
        webhooks = sum(chore.partition(":")[0] in CHORES for chore in self._tasks)
        return MOST - len(self._tasks) + webhooks, MOST - webhooks

    def begin(self, chores: Iterable[str]) -> None:
        """Begin chores that were handed out, but for those that are under way."""
        for chore in chores:
            if chore not in self._tasks:
                self._tasks[chore] = asyncio.create_task(self._run(chore), name=chore)

    async def _run(self, chore: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                if await self._do(chore):
                    await self._sessions.complete_chore(chore)
        except TimeoutError:
            log.warning("%s is postponed: it took longer than %g s", chore, self._timeout_s)
        except PortError as exc:
            log.warning("%s is postponed: %s", chore, exc.message)
        except CorruptLogError as exc:
            log.error("%s is dropped: %s", chore, exc)  # noqa: TRY400 - expected, no trace needed
            with contextlib.suppress(StorageUnavailableError):
                await self._sessions.complete_chore(chore)
        except Exception:  # the edge of a chore: a bug in one must not stop the others
            log.exception("%s failed because of a bug, and will be tried again", chore)
        finally:
            del self._tasks[chore]


class Audit:
    """Compares the sessions that Redis says this replica owns with those that it holds.

    Args:
        replica: its name.
        sessions: the store.
        held: what it holds, by session.
        orphaned: told how many sessions were queued again.
    """

    def __init__(self, replica: str, sessions: Sessions, held: Mapping[str, Held], orphaned: Callable[[int], None]) -> None:
        self._replica = replica
        self._sessions = sessions
        self._held = held
        self._orphaned = orphaned
        self._orphans: set[str] = set()
        """Sessions that were owned without being held at the last audit."""

    async def compare(self) -> None:
        """Stop driving sessions that this replica does not own, and queue sessions again that it owns without holding them (the
        response to a claim was lost, or a driver failed). Act only if the mismatch persists for two consecutive audits, to
        tolerate races with claims and ends.
        """
        before = dict(self._held)
        owned = await self._sessions.owned(self._replica)
        for session_id, held in before.items():
            if self._held.get(session_id) is not held:
                continue
            if session_id not in owned and held.unowned:
                held.task.cancel()
            held.unowned = session_id not in owned and not held.unowned
        orphans = owned - self._held.keys()
        persistent = orphans & self._orphans
        await self.release(persistent)
        self._orphans = orphans - persistent

    async def release_unheld(self) -> None:
        """Queue sessions again that a claim without an answer may have brought. No claim may be under way: one look is enough."""
        before = set(self._held)
        owned = await self._sessions.owned(self._replica)
        await self.release(owned - before - self._held.keys())

    async def release(self, orphans: Iterable[str]) -> None:
        """Queue sessions again that nobody drives."""
        released = 0
        for session_id in orphans:
            await self._sessions.release(self._replica, session_id)
            released += 1
        if released:
            self._orphaned(released)

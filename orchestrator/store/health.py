"""Whether Redis and the blob store accept writes, and whether there is room for new sessions.

Both are tried every second or so, so that a store that refuses writes is reported before a caller meets it: Redis at its
`maxmemory`, a replica that was not promoted, a full disk. New sessions are refused a little before Redis is full, so that those
that run can end, and be cancelled and deleted. A Redis that deletes keys when it is full is no place for a session at all: with
allkeys-lru 234 of 300 acknowledged sessions were lost (2026-11-29).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from orchestrator.ports.errors import StorageUnavailableError
from services.serving.background import run_forever

log = logging.getLogger(__name__)
_PAUSE_S: Final = 1.0
_TENANTS_IN_REDIS: Final = 4
"""A tenant's default share of Redis' maxmemory is one in so many, so that none alone makes it full for all."""
_RETRY_AFTER_S: Final = 10.0
_BLOBS_S: Final = 5.0
"""For the blob store's answer. A bucket's client waits for half a minute, in which Redis would not be looked at either."""
_BROKEN_S: Final = 1.0
"""An answer that took longer than this is missing since Redis is silent; asking again would tell of it later."""


@dataclass(frozen=True, slots=True)
class RedisMemory:
    """Redis' memory, and whether it keeps what it has.

    Attributes:
        used: bytes that count toward `most`, which is its maxmemory (0: no limit).
        policy: what it does at its maxmemory.
        append_only: whether it writes an append-only file.
    """

    used: int
    most: int
    policy: str
    append_only: bool = True

    @property
    def evicts(self) -> bool:
        """Whether it would delete sessions."""
        return self.most > 0 and self.policy != "noeviction"

    @property
    def percent(self) -> float:
        """How full it is; 0 without a limit."""
        return 100 * self.used / self.most if self.most else 0.0


class StorageObserver(Protocol):
    """Observes the stores; metrics implement it."""

    def storage_checked(self, writable: Mapping[str, bool], redis_percent: float | None) -> None:
        """Whether each store accepts writes; None if Redis did not report its memory."""
        ...


class EvictingRedisError(Exception):
    """Redis' maxmemory-policy lets it delete sessions."""


class StorageHealth:
    """`orchestrator.ports.stores.StorageStatus`, kept up to date by a background loop.

    Args:
        redis: writes to Redis and returns its memory; raises where that is refused.
        blobs: writes to the blob store; raises where that is refused.
        full_percent: of Redis' memory, above which new sessions are refused.
        observer: of each check.
        fsync: Redis' appendfsync; None where it does not tell.
    """

    def __init__(
        self,
        redis: Callable[[], Awaitable[RedisMemory]],
        blobs: Callable[[], Awaitable[None]],
        full_percent: float,
        observer: StorageObserver,
        fsync: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._fsync = fsync
        self._probe_redis = redis
        self._probe_blobs = blobs
        self._full_percent = full_percent
        self._observer = observer
        self._refusals: dict[str, StorageUnavailableError] = {}
        self._memory: RedisMemory | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def refusals(self) -> Mapping[str, str]:
        """Why a store refuses writes, by its name (``redis``, ``blobs``); empty when both accept them."""
        return {name: exc.shown or f"{name} cannot be reached" for name, exc in self._refusals.items()}

    @property
    def tenant_share(self) -> int | None:
        """Bytes of Redis that one tenant's logs may take where nobody set another number; None if Redis has no limit."""
        return self._memory.most // _TENANTS_IN_REDIS if self._memory and self._memory.most else None

    def check_new_session(self) -> None:
        """Refuse a new session where it could not be stored, or would take the room that running ones need.

        Raises:
            StorageUnavailableError: with a text for the caller.
        """
        for exc in self._refusals.values():
            raise type(exc)(exc.message, shown=exc.shown, retry_after=_RETRY_AFTER_S)
        if self._memory is not None and self._memory.percent >= self._full_percent:
            shown = f"the session store is {self._memory.percent:.0f} % full and takes no new sessions; delete finished ones"
            raise StorageUnavailableError(shown, shown=shown, retry_after=_RETRY_AFTER_S)

    async def start(self) -> None:
        """Check once, and again and again in the background.

        Raises:
            EvictingRedisError: when Redis would delete sessions.
        """
        await self.check()
        if self._memory is not None and self._memory.evicts:
            raise EvictingRedisError(_eviction(self._memory).message)
        if self._memory is not None and not self._memory.append_only:
            log.warning("Redis writes no append-only file: when it crashes, sessions are lost; set appendonly yes")
        elif self._memory is not None and await self._fsync() == "no":
            log.warning("Redis' appendfsync is no: a power failure loses half a minute of sessions; set it to everysec or always")
        self._task = asyncio.create_task(run_forever("the storage check", self._step, pause_s=_PAUSE_S), name="storage check")

    async def stop(self) -> None:
        """Stop checking."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def check(self) -> None:
        """Try both stores."""
        refusals: dict[str, StorageUnavailableError] = {}
        self._memory = None
        try:
            self._memory = await self._ask_redis()
            if self._memory.evicts:
                refusals["redis"] = _eviction(self._memory)
        except StorageUnavailableError as exc:
            refusals["redis"] = exc
        try:
            async with asyncio.timeout(_BLOBS_S):
                await self._probe_blobs()
        except StorageUnavailableError as exc:
            refusals["blobs"] = exc
        except TimeoutError:
            message = f"it did not answer within {_BLOBS_S:g} s"
            refusals["blobs"] = StorageUnavailableError(message, shown="the blob store does not answer")
        for name in refusals.keys() - self._refusals.keys():
            log.error("%s accepts no writes: %s", name, refusals[name].message)
        for name in self._refusals.keys() - refusals.keys():
            log.warning("%s accepts writes again", name)
        self._refusals = refusals
        writable = {name: name not in refusals for name in ("redis", "blobs")}
        self._observer.storage_checked(writable, self._memory.percent if self._memory else None)

    async def _ask_redis(self) -> RedisMemory:
        """Try Redis; twice if a connection broke, since that alone says nothing of Redis, and new sessions would be refused."""
        began = time.monotonic()
        try:
            return await self._probe_redis()
        except StorageUnavailableError as exc:
            if exc.shown is not None or time.monotonic() - began > _BROKEN_S:
                raise
        return await self._probe_redis()

    async def _step(self) -> None:
        await asyncio.sleep(_PAUSE_S)
        await self.check()


def _eviction(memory: RedisMemory) -> StorageUnavailableError:
    message = f"Redis' maxmemory-policy is {memory.policy}: at its maxmemory it would delete sessions; set it to noeviction"
    return StorageUnavailableError(message, shown="the session store is set to delete sessions when it is full")

"""Follows a session's events, recorded and live, each exactly once and in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar, cast
from weakref import WeakValueDictionary

import stamina
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator.loop.events import Event, Finished
from orchestrator.loop.session import CorruptLogError, Session, fold
from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.ports.stores import History, Recorded, SessionArchive, SessionFacts, Silence
from services.errors import ApiError

_Result = TypeVar("_Result")
_OUTAGE_S: Final = 60.0
_RETRY_S: Final = 5
"""The Retry-After of a tenant at its limit of streams."""


class ClientDisconnectedError(Exception):
    """The client closed the connection while it waited."""


class AccessEndedError(Exception):
    """The caller's key was revoked or has expired while it waited or read a stream."""


class HistoryLostError(Exception):
    """The log no longer has what was followed: Redis was restored from an older state, or failed over to a replica behind it."""


class SessionDeletedError(ApiError):
    """The session was deleted while it was followed."""

    def __init__(self, session_id: str) -> None:
        message = f"the session {session_id!r} was deleted, or the session store lost it"
        super().__init__("session_not_found", message, param="session_id")


class ShuttingDownError(Exception):
    """This replica shuts down while a caller waits; another replica continues the session."""


async def follow(history: History, session_id: str, after: int = 0, *, waits: bool = False) -> AsyncGenerator[Recorded | None]:
    """Events after `after` until the session is finished; None is a heartbeat.

    Live messages may be lost; a gap is filled from the log.

    Raises:
        SessionDeletedError: when it is deleted.
        HistoryLostError: when the log does not go on from what was followed: start again, from its first event.
        StorageUnavailableError: when the log cannot be read.

    Args:
        waits: for a caller who waits for the end, and cannot come back for it: read the log at each heartbeat too, since it
            would not notice a lost message, and wait out an outage.
    """
    last, known = after, None
    async with contextlib.aclosing(history.listen(session_id)) as live:
        async for item in live:
            if item is Silence.QUIET and not waits:
                yield None
                continue
            if isinstance(item, Recorded) and item.seq <= last:
                continue
            if isinstance(item, Recorded) and item.seq == last + 1:
                batch = [item]
            else:
                read = partial(_missed, history, session_id, last, known)
                batch = await waited_out(read) if waits else await read()
                if not batch:
                    yield None
            for recorded in batch:
                last, known = recorded.seq, recorded.event
                yield recorded
                if isinstance(recorded.event, Finished):
                    return


async def _missed(history: History, session_id: str, last: int, known: Event | None) -> list[Recorded]:
    """The events after the last one that was followed, which is `known` if it was sent."""
    # Read with the last one itself: a log that was restored may have grown past it, with other events.
    found = await history.read(session_id, max(0, last - 1))
    if found and last == 0:
        return found
    if found and found[0].seq == last and (known is None or known == found[0].event):
        return found[1:]
    if await history.tail(session_id) is None:
        raise SessionDeletedError(session_id)
    raise HistoryLostError(session_id)


class StreamLimitError(ApiError):
    """The tenant has as many streams open as it may."""


class StreamLimits:
    """Counts the open event streams of each tenant on this replica, and the calls that wait for a session of an earlier one.

    Args:
        most: of one tenant; None is no bound.
        what: they are, for messages.
    """

    def __init__(self, most: int | None, what: str = "event streams") -> None:
        self._most = most
        self._what = what
        self._open: Counter[str] = Counter()

    def open(self, tenant: str) -> contextlib.ExitStack:
        """A slot for one stream, which is released by closing it.

        Raises:
            StreamLimitError: ``quota_exceeded``, when the tenant is at its limit.
        """
        if self._most is not None and self._open[tenant] >= self._most:
            message = f"you have {self._most:,} {self._what} open, which is the most; close one first"
            raise StreamLimitError("quota_exceeded", message, retry_after=_RETRY_S)
        self._open[tenant] += 1
        slot = contextlib.ExitStack()
        slot.callback(self._release, tenant)
        return slot

    def _release(self, tenant: str) -> None:
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]


class Listings:
    """Bounds how many lists of sessions are made at a time, since each holds logs in memory: one for each tenant, and few in all.

    Args:
        most: lists at a time; others wait.
    """

    def __init__(self, most: int = 4) -> None:
        self._all = asyncio.Semaphore(most)
        self._of_tenant: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it."""
        lock = self._of_tenant.setdefault(tenant, asyncio.Lock())
        async with lock, self._all:
            yield


class SlotResponse(StreamingResponse):
    """A stream that releases its slot however it ends."""

    def __init__(
        self, frames: AsyncIterator[bytes], slot: contextlib.ExitStack, *, media_type: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(frames, media_type=media_type, headers={"cache-control": "no-store", **headers})
        self._frames = frames
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        # Not in the generator: its cleanup does not run if it was never started.
        with self._slot:
            try:
                await super().__call__(scope, receive, send)
            finally:
                # Not left to the garbage collector: a frame that was not sent holds its picture.
                if isinstance(self._frames, AsyncGenerator):
                    await self._frames.aclose()


class EventStreamResponse(SlotResponse):
    """Server-sent events."""

    def __init__(
        self, frames: AsyncIterator[bytes], slot: contextlib.ExitStack, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(frames, slot, media_type="text/event-stream", headers={"x-accel-buffering": "no", **(headers or {})})


async def waited_out(read: Callable[[], Awaitable[_Result]]) -> _Result:
    """What `read` returns; an outage of up to `_OUTAGE_S` is waited out, however long the caller waited before."""
    # stamina counts the time from the first attempt.
    async for attempt in stamina.retry_context(on=StorageUnavailableError, attempts=None, timeout=_OUTAGE_S, wait_max=1.0):
        with attempt:
            return await read()
    raise AssertionError("stamina either returns or raises")  # pragma: no cover


async def until_finished(history: History, session_id: str) -> tuple[Session, int]:
    """The finished session and the number of its last event; outages are waited out, see `waited_out`."""
    while True:
        with contextlib.suppress(HistoryLostError):
            log = [recorded async for recorded in follow(history, session_id, waits=True) if recorded is not None]
            return fold(recorded.event for recorded in log), log[-1].seq


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends a stream or a waiting call before its session does.

    Attributes:
        stopping: set when this replica shuts down.
        admitted: whether the caller's key is still valid; None where no key is needed.
        recheck_s: seconds between two checks of the key.
    """

    stopping: asyncio.Event
    admitted: Callable[[], Awaitable[bool]] | None = None
    recheck_s: float = 2.0

    async def come(self) -> None:
        """Wait for one of them.

        Raises:
            ShuttingDownError, AccessEndedError: when it comes.
        """
        while self.admitted is None or not self.stopping.is_set():
            try:
                async with asyncio.timeout(None if self.admitted is None else self.recheck_s):
                    await self.stopping.wait()
                    break
            except TimeoutError:
                pass
            if self.admitted is not None and not await self.admitted():
                raise AccessEndedError
        raise ShuttingDownError


async def until(ends: Ends, items: AsyncGenerator[_Result]) -> AsyncGenerator[_Result]:
    """The items, until one of the ends comes.

    Raises:
        ShuttingDownError, AccessEndedError: when it does.
    """
    end = object()

    async def next_item() -> _Result | object:
        return await anext(items, end)

    stop = asyncio.create_task(ends.come())
    try:
        while True:
            step = asyncio.create_task(next_item())
            try:
                await asyncio.wait({step, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not step.done():
                    step.cancel()
                    await asyncio.wait({step})
            if step.cancelled():
                await stop
            item = step.result()
            if item is end:
                return
            yield cast("_Result", item)
    finally:
        stop.cancel()
        await asyncio.wait({stop})
        await items.aclose()


class UnreadableSessionError(ApiError):
    """A session's log cannot be read.

    Attributes:
        facts: what is known without it.
        session: as it was before the first event that cannot be read; None if that is the first.
    """

    def __init__(self, facts: SessionFacts, session: Session | None) -> None:
        message = "this session's events cannot be read by this version of the server; cancel or delete it"
        super().__init__("session_unreadable", message, param="session_id")
        self.facts = facts
        self.session = session


async def load(history: SessionArchive, session_id: str, tenant: str | None) -> tuple[Session, int]:
    """A tenant's session; `tenant` is None for a caller who may see the sessions of all tenants.

    Raises:
        ApiError: ``session_not_found``, also for another tenant's session.
        UnreadableSessionError: when its log cannot be read.
    """
    try:
        log = await history.read(session_id)
        session = fold(recorded.event for recorded in log) if log else None
    except CorruptLogError as exc:
        raise await unreadable(history, session_id, tenant) from exc
    if session is None or tenant not in {None, session.created.tenant}:
        raise _not_found(session_id)
    return session, log[-1].seq


async def unreadable(history: SessionArchive, session_id: str, tenant: str | None) -> ApiError:
    """The error for a session whose log cannot be read; ``session_not_found`` for another tenant's."""
    found = await history.readable(session_id)
    if found is None or tenant not in {None, found[0].tenant}:
        return _not_found(session_id)
    facts, log = found
    return UnreadableSessionError(facts, fold(recorded.event for recorded in log) if log else None)


def _not_found(session_id: str) -> ApiError:
    return ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id")


async def while_connected(request: Request, ends: Ends, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is cancelled if the client disconnects or one of the ends comes first.

    Raises:
        ClientDisconnectedError, ShuttingDownError, AccessEndedError: when that happens.
    """
    working = asyncio.create_task(work)
    disconnecting = asyncio.create_task(_disconnected(request))
    stop = asyncio.create_task(ends.come())
    try:
        await asyncio.wait({working, disconnecting, stop}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if stop.done():
            stop.result()
        raise ClientDisconnectedError
    finally:
        for task in (working, disconnecting, stop):
            task.cancel()
        await asyncio.gather(working, disconnecting, stop, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

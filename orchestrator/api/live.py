"""Follows a session's events: those recorded so far, then those to come, each exactly once and in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, Final, TypeVar, cast

import stamina
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator.loop.events import Finished
from orchestrator.loop.session import Session, fold
from orchestrator.ports import History, Recorded, Silence, StorageUnavailableError
from services.errors import ApiError

_Result = TypeVar("_Result")
_OUTAGE_S: Final = 60.0
_FULL_S: Final = 5
"""After which it is worth asking whether a stream has ended."""


class ClientDisconnectedError(Exception):
    """The client closed the connection while it waited."""


class ShuttingDownError(Exception):
    """This replica was told to go while a caller waited; the session goes on elsewhere."""


async def follow(history: History, session_id: str, after: int = 0) -> AsyncGenerator[Recorded | None]:
    """Events after `after` until the session is finished; None is a heartbeat.

    Live messages are a hint that may be lost; whenever one is missing, the log fills the gap.
    """
    last = after
    async with contextlib.aclosing(history.listen(session_id)) as live:
        async for item in live:
            if item is Silence.QUIET:
                yield None
                continue
            if isinstance(item, Recorded) and item.seq <= last:
                continue
            batch = [item] if isinstance(item, Recorded) and item.seq == last + 1 else await history.read(session_id, last)
            if not batch:
                tail = await history.tail(session_id)
                if tail is None or tail.seq < last or (isinstance(tail.event, Finished) and tail.seq == last):
                    # Deleted meanwhile, restored from an older file, or asked for more than there is.
                    return
                yield None
            for recorded in batch:
                last = recorded.seq
                yield recorded
                if isinstance(recorded.event, Finished):
                    return


class Streams:
    """The event streams that are open here.

    Args:
        most: of one tenant; None is no bound.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def place(self, tenant: str) -> contextlib.ExitStack:
        """A place for one more, which is given back by closing it.

        Raises:
            ApiError: ``quota_exceeded`` when the tenant has as many as it may have.
        """
        if self._most is not None and self._open[tenant] >= self._most:
            message = f"you have {self._most:,} event streams open, which is the most; close one, or follow fewer sessions"
            raise ApiError("quota_exceeded", message, retry_after=_FULL_S)
        self._open[tenant] += 1
        place = contextlib.ExitStack()
        place.callback(self._leave, tenant)
        return place

    def _leave(self, tenant: str) -> None:
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]


class StreamOf(StreamingResponse):
    """Server-sent events in a place, which they leave however they end."""

    def __init__(self, frames: AsyncIterator[bytes], place: contextlib.ExitStack) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(frames, media_type="text/event-stream", headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        # Not in the generator: one whose first item nobody asked for has no end.
        with self._place:
            await super().__call__(scope, receive, send)


async def until_finished(history: History, session_id: str) -> tuple[Session, int]:
    """The finished session and the number of its last event; a short absence of Redis is waited out."""
    async for attempt in stamina.retry_context(on=StorageUnavailableError, attempts=None, timeout=_OUTAGE_S, wait_max=1.0):
        with attempt:
            log = [recorded async for recorded in follow(history, session_id) if recorded is not None]
    if not log:
        raise ApiError("session_not_found", f"the session {session_id!r} was deleted", param="session_id")
    return fold(recorded.event for recorded in log), log[-1].seq


async def unless_stopping(stopping: asyncio.Event, items: AsyncGenerator[_Result]) -> AsyncGenerator[_Result]:
    """The items, until this replica is told to go.

    Raises:
        ShuttingDownError: when it is.
    """
    end = object()

    async def following() -> _Result | object:
        return await anext(items, end)

    stop = asyncio.create_task(stopping.wait())
    try:
        while True:
            step = asyncio.create_task(following())
            try:
                await asyncio.wait({step, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not step.done():
                    step.cancel()
                    await asyncio.wait({step})
            if step.cancelled():
                raise ShuttingDownError
            item = step.result()
            if item is end:
                return
            yield cast("_Result", item)
    finally:
        stop.cancel()
        await items.aclose()


async def load(history: History, session_id: str, tenant: str | None) -> tuple[Session, int]:
    """A tenant's session as it is now; None is for a caller who may see it whosever it is.

    Raises:
        ApiError: ``session_not_found``, also for another tenant's session.
    """
    log = await history.read(session_id)
    session = fold(recorded.event for recorded in log) if log else None
    if session is None or tenant not in {None, session.created.tenant}:
        raise ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id")
    return session, log[-1].seq


async def while_connected(request: Request, stopping: asyncio.Event, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, unless the client leaves or this replica is told to go first; then `work` is stopped.

    Raises:
        ClientDisconnectedError, ShuttingDownError: when that happens.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    going = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, leaving, going}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ShuttingDownError if going.done() else ClientDisconnectedError
    finally:
        for task in (working, leaving, going):
            task.cancel()
        await asyncio.gather(working, leaving, going, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

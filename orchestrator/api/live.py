"""Follows a session's events: those recorded so far, then those to come, each exactly once and in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from orchestrator.loop.events import Finished
from orchestrator.loop.session import Session, fold
from orchestrator.ports import Recorded, Sessions
from services.wire.errors import ApiError

_Result = TypeVar("_Result")


class CallerLeft(Exception):
    """The client closed the connection while it waited."""


async def follow(sessions: Sessions, session_id: str, after: int = 0) -> AsyncGenerator[Recorded | None]:
    """Events after `after` until the session is finished; None is a heartbeat.

    Live messages are a hint that may be lost; whenever one is missing, the log fills the gap.
    """
    last = after
    async with contextlib.aclosing(sessions.listen(session_id)) as live:
        async for item in live:
            if item is not None and item.seq <= last:
                continue
            batch = [item] if item is not None and item.seq == last + 1 else await sessions.read(session_id, last)
            if not batch:
                tail = await sessions.tail(session_id)
                if tail is None or (isinstance(tail.event, Finished) and tail.seq <= last):
                    # Deleted meanwhile, or asked for more than there will ever be.
                    return
                yield None
            for recorded in batch:
                last = recorded.seq
                yield recorded
                if isinstance(recorded.event, Finished):
                    return


async def until_finished(sessions: Sessions, session_id: str) -> tuple[Session, int]:
    """The finished session and the number of its last event."""
    log = [recorded async for recorded in follow(sessions, session_id) if recorded is not None]
    if not log:
        raise ApiError("session_not_found", f"the session {session_id!r} was deleted", param="session_id")
    return fold(recorded.event for recorded in log), log[-1].seq


async def load(sessions: Sessions, session_id: str, tenant: str) -> tuple[Session, int]:
    """A tenant's session as it is now.

    Raises:
        ApiError: ``session_not_found``, also for another tenant's session.
    """
    log = await sessions.read(session_id)
    session = fold(recorded.event for recorded in log) if log else None
    if session is None or session.created.tenant != tenant:
        raise ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id")
    return session, log[-1].seq


async def while_connected(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, unless the client leaves first.

    Raises:
        CallerLeft: when it does; `work` is stopped.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CallerLeft
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

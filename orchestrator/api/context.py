"""What the routes work with, made once by the composition root and found on the application's state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import Request
from prometheus_client import CollectorRegistry

from orchestrator.api.intake import Intake
from orchestrator.loop.events import CancelRequested, Event
from orchestrator.loop.session import Session, apply, fold
from orchestrator.ports import Blobs, Clock, Editor, Fenced, Thinker
from orchestrator.store.archive import Archive
from orchestrator.store.sessions import RedisSessions
from orchestrator.telemetry import Telemetry
from services.wire.errors import ApiError


@dataclass(frozen=True, slots=True)
class Context:
    """The parts behind the routes.

    Attributes:
        sessions: those in Redis.
        history: the same and the archived ones; whatever is read of a session is read there.
        driving: whether this replica's runner keeps sessions moving.
        stopping: set when this replica is told to go.
    """

    sessions: RedisSessions
    history: Archive
    blobs: Blobs
    clock: Clock
    intake: Intake
    editors: Mapping[str, Editor]
    thinkers: Mapping[str, Thinker]
    telemetry: Telemetry
    registry: CollectorRegistry
    driving: Callable[[], bool]
    stopping: asyncio.Event
    tenant: str = "default"

    async def cancel(self, session_id: str, *, by: str) -> Session:
        """Ask a session to stop; asking again, or when it is finished, changes nothing."""

        def event(session: Session) -> Event | None:
            return None if session.finished or session.cancelled else CancelRequested(at=self.clock.now(), by=by)

        session, _ = await self.write(session_id, event)
        return session

    async def write(self, session_id: str, event: Callable[[Session], Event | None]) -> tuple[Session, int]:
        """Record an event that depends on the session, however busy its driver is; the session afterwards.

        Args:
            event: from the session as it is now; None records nothing. It may raise an `ApiError` to refuse.
        """
        while True:
            log = await self.history.read(session_id)
            session = fold(recorded.event for recorded in log) if log else None
            if session is None or session.created.tenant != self.tenant:
                raise ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id")
            seq = log[-1].seq
            wanted = event(session)
            if wanted is None:
                return session, seq
            try:
                if await self.sessions.append(session_id, seq, [wanted], None):
                    return apply(session, wanted), seq + 1
            except Fenced as exc:
                raise ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id") from exc


def context(request: Request) -> Context:
    """The context of the application that serves this request."""
    found: Context = request.app.state.context
    return found

"""What the routes work with, made once by the composition root, and handed to each request as its caller may use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CollectorRegistry

from orchestrator.api.access import BEARER, Access
from orchestrator.api.intake import Intake, Tenant
from orchestrator.api.links import Links
from orchestrator.api.live import Streams
from orchestrator.api.readiness import Checks
from orchestrator.loop.events import CancelRequested, Event
from orchestrator.loop.session import Session, apply, fold
from orchestrator.metrics import Metrics
from orchestrator.ports import Blobs, Clock, FencedError, Scope, SessionArchive, SessionStore
from orchestrator.webhooks.model import Endpoints, WebhookTester
from services.errors import ApiError
from services.serving import logs

_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
_Expires = Annotated[str | None, Query(alias="expires", max_length=20, description="Of a signed link.")]
_Signature = Annotated[str | None, Query(max_length=100, description="Of a signed link: in place of a key.")]


@dataclass(frozen=True, slots=True)
class Context:
    """The parts behind the routes.

    Attributes:
        sessions: those in Redis.
        history: the same and the archived ones; whatever is read of a session is read there.
        driving: whether this replica's runner keeps sessions moving.
        checks: which editors and thinkers can be asked now.
        streams: the event streams that are open here.
        hooks: webhook endpoints and deliveries; webhooks: who sends them.
        stopping: set when this replica is told to go.
        tenant: the caller's; it sees its own sessions only.
        vouched: a signed link says that whoever has it may see the picture at this path.
    """

    sessions: SessionStore
    history: SessionArchive
    blobs: Blobs
    clock: Clock
    intake: Intake
    telemetry: Metrics
    registry: CollectorRegistry
    driving: Callable[[], bool]
    stopping: asyncio.Event
    access: Access
    links: Links
    endpoints: Endpoints
    webhooks: WebhookTester
    checks: Checks
    streams: Streams
    tenant: str = "default"
    vouched: bool = False

    async def whose(self) -> Tenant:
        """The caller's tenant, and what it may have."""
        return Tenant(self.tenant, await self.access.bounds_of(self.tenant))

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
            except FencedError as exc:
                raise ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id") from exc


def context(request: Request) -> Context:
    """The context of the application that serves this request, for routes that everybody may use."""
    found: Context = request.app.state.context
    return found


async def reading(request: Request, _: _Bearer) -> Context:
    """For routes that look at sessions: the context of a caller who may."""
    return await _admitted(request, "read")


async def editing(request: Request, _: _Bearer) -> Context:
    """For routes that change sessions."""
    return await _admitted(request, "edit")


async def making(request: Request, _: _Bearer) -> Context:
    """For routes that make sessions, which are counted before anything is read of them."""
    found = await _admitted(request, "edit")
    await found.access.count(found.tenant)
    return found


async def viewing(request: Request, _: _Bearer, _expires: _Expires = None, signature: _Signature = None) -> Context:
    """For pictures: a caller who may look at sessions, or anyone with a link that was signed for it."""
    found = context(request)
    if signature is None or not found.links.signed:
        return await _admitted(request, "read")
    try:
        await found.links.check(request.scope["path"], request.query_params.multi_items(), found.clock.now())
    except ApiError:
        if "authorization" in request.headers:
            return await _admitted(request, "read")
        raise
    return replace(found, vouched=True)


async def _admitted(request: Request, scope: Scope) -> Context:
    found = context(request)
    caller = await found.access.admit(request, scope)
    logs.bind(tenant=caller.tenant, **({"key_id": caller.key_id} if caller.key_id else {}))
    return replace(found, tenant=caller.tenant)

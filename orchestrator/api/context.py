"""The collaborators of the routes, made by the composition root, and the dependencies that authenticate a request."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from fastapi import Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CollectorRegistry

from orchestrator.api.access import BEARER, Access
from orchestrator.api.intake import Intake, Tenant
from orchestrator.api.links import Links
from orchestrator.api.live import Ends, Listings, StreamLimits, unreadable
from orchestrator.api.marks import Marks
from orchestrator.api.queries import check_query
from orchestrator.api.readiness import ReadinessChecks
from orchestrator.api.shutdown import Callers, Shutdown
from orchestrator.api.transcodes import Transcodes
from orchestrator.loop.events import CancelRequested, Critiqued, Event, Refined, Verified
from orchestrator.loop.session import CorruptLogError, Session, SessionBounds, apply, fold
from orchestrator.metrics import Metrics
from orchestrator.ports.collaborators import CheckResult, Clock, CritiquePrompt
from orchestrator.ports.errors import FencedError, PortError, StorageUnavailableError
from orchestrator.ports.stores import (
    MadeLog,
    Preferences,
    ReadableBlobs,
    Recorded,
    Scope,
    SessionArchive,
    SessionFacts,
    SessionShare,
    SessionShares,
    SessionStore,
    StorageStatus,
    Training,
)
from orchestrator.webhooks.model import Endpoints, WebhookTester
from services.errors import ApiError
from services.serving import logs
from services.serving.byte_budget import ByteBudget

_REFUSALS: Final = frozenset({"overloaded", "quota_exceeded", "rate_limited", "storage_unavailable"})
_MAX_EXPORTS: Final = 2
"""Of one tenant on this replica: each holds sixteen sessions' events for a reader that may be slow."""
_MAX_WATCHERS: Final = 50
"""Of one share on this replica, so that a link that went far leaves its owner's streams to others."""
NOT_SHARED: Final = "this link is not valid for this: it was changed, has expired or was revoked, or shows something else"
JOIN_S: Final = 60.0
"""How long a session waits for the repeat of a caller who was told to repeat; clients do so within seconds."""
_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
_Expires = Annotated[str | None, Query(alias="expires", max_length=20, description="When a signed link expires.")]
_Share = Annotated[str | None, Query(max_length=400, description="The token of a share of this session, in place of a key.")]
_Signature = Annotated[str | None, Query(max_length=100, description="The signature of a signed link, in place of a key.")]


@dataclass(frozen=True, slots=True)
class Waits:
    """How a call that waits for its session is treated.

    Attributes:
        reply_starts_s: seconds after which its reply begins, with white space; 0 is never.
        rejoin_s: seconds in which a caller who left can join its session by repeating the request.
    """

    reply_starts_s: float = 45.0
    rejoin_s: float = 60.0

    @property
    def space_s(self) -> float:
        """Seconds between two spaces: below what any client or proxy waits for the next byte, which is 60 s at least."""
        return self.reply_starts_s / 3


@dataclass(frozen=True, slots=True)
class Context:
    """The collaborators of the routes, for one caller.

    Attributes:
        sessions: the live sessions.
        history: live and archived sessions; routes read sessions here.
        driving: whether this replica's runner drives sessions.
        readiness: of the editors and thinkers.
        streams: the open event streams of each tenant.
        transcodes: of stored images.
        uploads: bytes of bodies in flight.
        replies: bytes of pictures that are held until their reader has them.
        storage: whether the stores accept writes.
        preferences: what people prefer.
        bounds: what one session may grow to.
        started_at: Unix seconds.
        kept_s: seconds for which a finished session is kept; None is for good.
        waits: how calls that wait for their session are treated.
        marks: of pictures that are served.
        made: the digests of pictures made.
        judge_checks: by thinker or judge, what came of its check.
        training: which sessions may be used for training.
        critique_prompt: makes the request again that a critique of a session answered.
        shares: links with which people without a key look at a session.
        watchers: the open event streams of each share.
        endpoints: webhook endpoints and deliveries.
        webhooks: checks URLs and sends test events.
        shutdown: how this replica ends.
        callers: the calls that wait for their session.
        listings: bounds lists that are made at a time.
        exports: the open exports of each tenant.
        tenant: the caller's; it sees its own sessions only.
        admitted: whether the caller's key is still valid; None where no key is needed.
        share: the share by which the caller looks at its session; None for a caller with a key.
        signed_link: the request has a valid signed link, which gives access to the image at its path without a key.
    """

    sessions: SessionStore
    history: SessionArchive
    blobs: ReadableBlobs
    clock: Clock
    intake: Intake
    metrics: Metrics
    registry: CollectorRegistry
    driving: Callable[[], bool]
    shutdown: Shutdown
    callers: Callers
    access: Access
    links: Links
    endpoints: Endpoints
    webhooks: WebhookTester
    readiness: ReadinessChecks
    streams: StreamLimits
    transcodes: Transcodes
    uploads: ByteBudget
    replies: ByteBudget
    storage: StorageStatus
    preferences: Preferences
    shares: SessionShares
    training: Training
    critique_prompt: Callable[[str, Session, Critiqued | Verified | Refined], Awaitable[CritiquePrompt]]
    bounds: SessionBounds = field(default_factory=SessionBounds)
    kept_s: float | None = None
    started_at: int = field(default_factory=lambda: int(time.time()))
    waits: Waits = field(default_factory=Waits)
    judge_checks: Mapping[str, CheckResult] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)
    made: MadeLog | None = None
    listings: Listings = field(default_factory=Listings)
    exports: StreamLimits = field(default_factory=lambda: StreamLimits(_MAX_EXPORTS, "exports"))
    watchers: StreamLimits = field(default_factory=lambda: StreamLimits(_MAX_WATCHERS, "event streams by this link"))
    tenant: str = "default"
    share: SessionShare | None = None
    signed_link: bool = False
    admitted: Callable[[], Awaitable[bool]] | None = None

    @property
    def ends(self) -> Ends:
        """What ends the calls of this caller that wait for a result."""
        return Ends(self.shutdown.closing, self.admitted)

    @property
    def stream_ends(self) -> Ends:
        """What ends the streams and waits that this caller can resume elsewhere."""
        return Ends(self.shutdown.draining, self.admitted)

    @contextlib.contextmanager
    def counting_refusals(self) -> Iterator[None]:
        """Count errors that refuse a new session for want of capacity or storage."""
        try:
            yield
        except (PortError, ApiError) as exc:
            if exc.code in _REFUSALS:
                self.metrics.refused(exc.code)
            raise

    async def tenant_bounds(self) -> Tenant:
        """The caller's tenant with its bounds."""
        grant = await self.training.grant(self.tenant)
        bounds = await self.access.bounds_of(self.tenant, self.storage.tenant_share)
        return Tenant(self.tenant, bounds, grant.id if grant else None)

    async def confirm(self) -> None:
        """Wait until a result that a caller is to be told would survive a failover, where that is asked for.

        The caller gets it anyway: it is made, and paid for.
        """
        with contextlib.suppress(StorageUnavailableError):
            await self.sessions.confirm()

    async def cancel(self, session_id: str, *, by: str) -> tuple[Session, int]:
        """Request cancellation, which changes nothing when repeated or for a finished session; the session afterwards."""

        def event(session: Session) -> Event | None:
            return None if session.finished or session.cancelled else CancelRequested(at=self.clock.now(), by=by)

        return await self.write(session_id, event)

    async def cancel_unreadable(self, session_id: str, facts: SessionFacts, *, by: str) -> None:
        """Request cancellation of a session whose log cannot be read; a replica then ends it without reading it."""
        while not facts.finished:
            if await self.sessions.append(session_id, facts.seq, [CancelRequested(at=self.clock.now(), by=by)], None):
                return
            facts = await self.sessions.facts(session_id) or replace(facts, finished=True)

    async def hand_over(self, session_id: str, fingerprint: str, *, for_s: float = JOIN_S) -> None:
        """Let the repeat of a caller without an idempotency key join its session."""
        with contextlib.suppress(StorageUnavailableError):
            await self.sessions.hand_over(session_id, self.tenant, fingerprint, for_s)

    async def let_rejoin(self, session_id: str, fingerprint: str) -> None:
        """As `hand_over`, for a caller who left: the session begins nothing more, and is cancelled if nobody comes in time."""
        for_s = self.waits.rejoin_s
        if for_s:
            with contextlib.suppress(StorageUnavailableError):
                await self.sessions.hand_over(session_id, self.tenant, fingerprint, for_s, left=True)
                self.callers.later(for_s, lambda: self._give_up(session_id, fingerprint))
                return
        await self.cancel(session_id, by="disconnect")

    async def _give_up(self, session_id: str, fingerprint: str) -> None:
        if await self.sessions.take_back(session_id, self.tenant, fingerprint):
            await self.cancel(session_id, by="disconnect")

    async def write(self, session_id: str, event: Callable[[Session], Event | None]) -> tuple[Session, int]:
        """Record an event that depends on the session, retrying while other writers append; the session afterwards.

        Args:
            event: makes the event from the current session; None records nothing. It may raise an `ApiError` to refuse.
        """
        session: Session | None = None
        last: Recorded | None = None
        while True:
            try:
                entries = await self.history.read(session_id, last.seq - 1 if last else 0)
                if last and entries[:1] != [last]:
                    # The log does not go on from what was read: another Redis has taken over.
                    session, entries = None, await self.history.read(session_id)
                for recorded in entries[1:] if session else entries:
                    session = apply(session, recorded.event) if session else fold([recorded.event], self.bounds)
                last = entries[-1] if entries else None
            except CorruptLogError as exc:
                raise await unreadable(self.history, session_id, self.tenant) from exc
            if session is None or last is None or session.created.tenant != self.tenant:
                raise ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id")
            new = event(session)
            if new is None:
                return session, last.seq
            try:
                if await self.sessions.append(session_id, last.seq, [new], None):
                    return apply(session, new), last.seq + 1
            except FencedError as exc:
                raise ApiError("session_not_found", f"there is no session {session_id!r}", param="session_id") from exc


def context(request: Request) -> Context:
    """The context for routes that need no key."""
    found: Context = request.app.state.context
    return found


async def read_access(request: Request, _: _Bearer) -> Context:
    """The context for routes that read sessions."""
    return await _admitted(request, "read")


async def shared_access(request: Request, _: _Bearer, share: _Share = None) -> Context:
    """The context for routes that read one session: for a key that may read sessions, or a share of the session."""
    return await _admitted(request, "read") if share is None else await _shared(request, share)


async def edit_access(request: Request, _: _Bearer) -> Context:
    """The context for routes that change sessions."""
    return await _admitted(request, "edit")


async def any_access(request: Request, _: _Bearer) -> Context:
    """The context for routes about the key itself."""
    return await _admitted(request, None)


async def create_access(request: Request, _: _Bearer) -> Context:
    """The context for routes that create sessions; the rate limit, and full stores, refuse it before the body is read."""
    found = await _admitted(request, "edit")
    with found.counting_refusals():
        found.storage.check_new_session()
        await found.access.count(request, found.tenant)
    return found


async def image_access(
    request: Request, _: _Bearer, _expires: _Expires = None, signature: _Signature = None, share: _Share = None
) -> Context:
    """The context for routes that serve images: for a key that may read sessions, a signed link, or a share of the session."""
    found = context(request)
    if share is not None:
        return await _shared(request, share)
    if signature is None or not found.links.signed:
        return await _admitted(request, "read")
    try:
        await found.links.check(request.scope["path"], request.query_params.multi_items(), found.clock.now())
    except ApiError:
        if "authorization" in request.headers:
            return await _admitted(request, "read")
        raise
    check_query(request)
    return replace(found, signed_link=True)


async def _admitted(request: Request, scope: Scope | None) -> Context:
    found = context(request)
    caller = await found.access.admit(request, scope)
    check_query(request)
    logs.bind(tenant=caller.tenant, **({"key_id": caller.key_id} if caller.key_id else {}))
    if not found.access.required:
        return replace(found, tenant=caller.tenant)

    async def admitted() -> bool:
        try:
            await found.access.admit(request, scope)
        except StorageUnavailableError:
            pass  # As before, until Redis says otherwise.
        except ApiError:
            return False
        return True

    return replace(found, tenant=caller.tenant, admitted=admitted)


async def _shared(request: Request, token: str) -> Context:
    """The context for a guest: of the share's tenant, for the share's session or its pictures alone.

    Raises:
        ApiError: ``forbidden``, the same for every reason.
    """
    found = context(request)
    named = await found.links.shared(token)
    share = await found.shares.find(*named) if named else None
    if share is None or not _shows(share, request):
        raise ApiError("forbidden", NOT_SHARED, param="share")
    check_query(request)
    logs.bind(tenant=share.tenant, share_id=share.id)

    async def admitted() -> bool:
        try:
            return await found.shares.find(share.session_id, share.id) is not None
        except StorageUnavailableError:
            return True  # As before, until Redis says otherwise.

    return replace(found, tenant=share.tenant, share=share, admitted=admitted)


def _shows(share: SessionShare, request: Request) -> bool:
    """Whether a share gives access to what a request asks for."""
    path: dict[str, str] = request.path_params
    if path["session_id"] != share.session_id:
        return False
    if "share_id" in path:
        return path["share_id"] == share.id
    route = request.scope["route"].path
    if share.pictures and route.endswith("/preview"):
        return False  # unfinished: another picture than the one that is compared
    is_source = route.endswith("/{session_id}/source")
    picture = f"{path['turn']}/{path['candidate']}" if "turn" in path else "source" if is_source else None
    return not share.pictures or picture in share.pictures

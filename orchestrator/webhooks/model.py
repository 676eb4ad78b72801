"""What is told to whom: webhook endpoints, the deliveries of a session's events, and when each is tried again.

All of it is a value; `sender` sends, `storage` keeps. Records are read by older replicas too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol

import orjson
from pydantic import BaseModel, ConfigDict

from orchestrator.loop.session import fold
from orchestrator.ports import Recorded

Topic = Literal["session.finished", "session.awaiting_review"]
TOPICS: Final[Mapping[str, Topic]] = {"finished": "session.finished", "review_requested": "session.awaiting_review"}
"""What is told, by the type of the session's event; `lua/append.lua` names the same types."""
TEST: Final = "webhook.test"
State = Literal["pending", "delivered", "failed", "dropped"]
Outcome = Literal["delivered", "retried", "failed", "disabled"]

WAITS_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds between two attempts, as the Standard Webhooks specification suggests: ten attempts in three days."""
JITTER: Final = 0.1
LONGEST_WAIT_S: Final = 86_400.0
"""The most that a receiver's Retry-After is honoured."""
OVERLAP_S: Final = 86_400.0
"""For which a secret that was replaced goes on signing beside the new one."""
THROTTLES: Final = frozenset({429, 502, 503, 504})
_GONE: Final = 410
_OK: Final = range(200, 300)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Retired(_Record):
    """A secret that was replaced, and until when it goes on signing."""

    secret: str
    until: float


class Endpoint(_Record):
    """Where a tenant wants to be told of what. The secrets sign, so they are kept as they are."""

    id: str
    url: str
    secret: str
    retired: tuple[Retired, ...] = ()
    events: tuple[str, ...]
    description: str = ""
    created_at: float
    disabled_at: float | None = None
    """When it answered 410, and was told nothing more."""

    def secrets(self, now: float) -> list[str]:
        """What signs: the secret, and those that it replaced lately, the latest first."""
        return [self.secret, *(retired.secret for retired in self.retired if now < retired.until)]

    def rotated(self, secret: str, now: float) -> Endpoint:
        """The endpoint with a new secret."""
        left = (Retired(secret=self.secret, until=now + OVERLAP_S), *(old for old in self.retired if now < old.until))
        return self.model_copy(update={"secret": secret, "retired": left})


class Attempt(_Record):
    """One request: the status it was answered with, or why there was no answer."""

    at: float
    status: int | None = None
    error: str | None = None
    duration_s: float = 0.0
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether it was taken."""
        return self.status in _OK

    @property
    def gone(self) -> bool:
        """Whether the receiver wants nothing more."""
        return self.status == _GONE


class Delivery(_Record):
    """One event on its way to one endpoint.

    Attributes:
        id: the ``webhook-id``, the same at every attempt.
        body: what is sent, the same at every attempt.
        next_at: when the next attempt is due; None when there is none.
        note: why it was dropped.
    """

    id: str
    tenant: str
    session_id: str
    seq: int
    webhook: str
    type: str
    body: str
    state: State = "pending"
    attempts: tuple[Attempt, ...] = ()
    next_at: float | None = None
    note: str | None = None


class Endpoints(Protocol):
    """The webhook endpoints of tenants, and the deliveries of a session, as the API manages and shows them."""

    async def add(self, tenant: str, endpoint: Endpoint) -> None:
        """Store a new endpoint."""
        ...

    async def remove(self, tenant: str, endpoint_id: str) -> bool:
        """Remove an endpoint, whose pending deliveries are dropped; False if there is none of that id."""
        ...

    async def endpoints(self, tenant: str) -> list[Endpoint]:
        """A tenant's endpoints, the oldest first."""
        ...

    async def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """One of them; None if there is none of that id."""
        ...

    async def enable(self, tenant: str, endpoint_id: str, *, disabled_at: float | None) -> None:
        """Disable an endpoint, or (None) enable it again."""
        ...

    async def change(self, tenant: str, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint | None:
        """Change an endpoint atomically; the endpoint afterwards, None if there is none of that id.

        Args:
            change: may be called again, and may raise to refuse.
        """
        ...

    async def deliveries(self, session_id: str) -> list[Delivery]:
        """The deliveries of a session, in the order of its events."""
        ...


class WebhookTester(Protocol):
    """What the API asks of the sender."""

    def check(self, url: str) -> None:
        """Whether a URL may be called, as far as that shows without resolving its host; raises `InvalidURLError`."""
        ...

    async def test(self, tenant: str, endpoint: Endpoint, event_id: str) -> Attempt:
        """Send ``webhook.test`` once, and return the attempt."""
        ...


class Deliveries(Protocol):
    """Where endpoints and deliveries are kept."""

    async def endpoints(self, tenant: str) -> list[Endpoint]:
        """A tenant's endpoints, the oldest first."""
        ...

    async def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """One of them; None if there is none of that id."""
        ...

    async def enable(self, tenant: str, endpoint_id: str, *, disabled_at: float | None) -> None:
        """Tell an endpoint nothing more, or (None) tell it again."""
        ...

    async def plan(self, session_id: str, deliveries: Sequence[Delivery]) -> None:
        """Keep what is to be delivered, each with a timer; what is planned already stays as it is."""
        ...

    async def find(self, session_id: str, delivery_id: str) -> tuple[Delivery, bytes] | None:
        """A delivery, and how it is written; None if its session was deleted."""
        ...

    async def replace(self, delivery: Delivery, written: bytes) -> bool:
        """Write it anew, and set its timer or remove it; False if it is no longer what was read."""
        ...

    async def put_off(self, delivery: Delivery, at: float) -> None:
        """Set its timer, in Unix seconds."""
        ...


def planned(session_id: str, log: Sequence[Recorded], seq: int, endpoints: Sequence[Endpoint], now: float) -> list[Delivery]:
    """What to deliver of the event `seq` of a session."""
    known = [recorded for recorded in log if recorded.seq <= seq]
    topic = TOPICS.get(known[-1].event.type) if known and known[-1].seq == seq else None
    if topic is None:
        return []
    session = fold(recorded.event for recorded in known)
    reason = session.finished.reason if session.finished else None
    data = {"id": session_id, "status": session.status, "finish_reason": reason}
    text = body(topic, known[-1].event.at, data)
    return [
        Delivery(
            id=delivery_id(session_id, seq, endpoint.id),
            tenant=session.created.tenant,
            session_id=session_id,
            seq=seq,
            webhook=endpoint.id,
            type=topic,
            body=text,
            next_at=now,
        )
        for endpoint in endpoints
        if topic in endpoint.events and endpoint.disabled_at is None
    ]


def body(topic: str, at: float, data: Mapping[str, Any]) -> str:
    """A thin event: what happened to which session; the rest is asked for."""
    timestamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"type": topic, "timestamp": timestamp, "data": data}).decode()


def delivery_id(session_id: str, seq: int, endpoint_id: str) -> str:
    """The same for the same event and endpoint, whoever plans it and however often."""
    return "msg_" + hashlib.sha256(f"{session_id}/{seq}/{endpoint_id}".encode()).hexdigest()[:32]


def wait_s(attempts: int, *, scale: float, jitter: float, retry_after_s: float | None = None) -> float | None:
    """Seconds from a failed attempt to the next; None when there is none.

    Args:
        attempts: how many there were.
        scale: of the schedule; 1 but for tests.
        jitter: from 0 to 1.
        retry_after_s: what the receiver asked for; it makes a wait longer, never shorter.
    """
    if attempts > len(WAITS_S):
        return None
    scheduled = WAITS_S[attempts - 1] * scale * (1 + JITTER * jitter)
    return max(scheduled, min(retry_after_s or 0.0, LONGEST_WAIT_S))


def after(delivery: Delivery, attempt: Attempt, *, scale: float, jitter: float) -> tuple[Delivery, Outcome]:
    """The delivery after an attempt, and what that came to."""
    attempts = (*delivery.attempts, attempt)
    if attempt.delivered:
        return delivery.model_copy(update={"attempts": attempts, "state": "delivered", "next_at": None}), "delivered"
    wait = None
    if not attempt.gone:
        wait = wait_s(len(attempts), scale=scale, jitter=jitter, retry_after_s=attempt.retry_after_s)
    if wait is None:
        failed = delivery.model_copy(update={"attempts": attempts, "state": "failed", "next_at": None})
        return failed, "disabled" if attempt.gone else "failed"
    due = attempt.at + attempt.duration_s + wait
    return delivery.model_copy(update={"attempts": attempts, "next_at": due}), "retried"

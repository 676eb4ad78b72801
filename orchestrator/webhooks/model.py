"""Webhook endpoints, the deliveries of events to them, and the protocols of their stores.

Older replicas read the same records, so fields are added and never renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

Topic = Literal["session.finished", "session.awaiting_review"]
TOPICS: Final[Mapping[str, Topic]] = {"finished": "session.finished", "review_requested": "session.awaiting_review"}
"""The topic of each type of event that is delivered; `lua/append.lua` names the same types."""
TEST: Final = "webhook.test"
State = Literal["pending", "delivered", "failed", "dropped"]
Outcome = Literal["delivered", "retried", "failed", "disabled"]

SECRET_OVERLAP_S: Final = 86_400.0
"""How long a rotated secret signs in addition to the new one."""
_GONE: Final = 410
_OK: Final = range(200, 300)


OWN_ENDPOINT: Final = "request"
"""The id of the endpoint that was named with a session and is notified of it alone."""


def host_of(url: str) -> str:
    """The host of a URL, lower case and without a final dot."""
    return (urlsplit(url).hostname or "").rstrip(".")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Retired(_Record):
    """A secret that was rotated, and until when it still signs."""

    secret: str
    until: float


class Endpoint(_Record):
    """A tenant's webhook: a URL and the topics it subscribes to. Secrets are stored in plain text, since they sign."""

    id: str
    url: str
    secret: str
    retired: tuple[Retired, ...] = ()
    events: tuple[str, ...]
    description: str = ""
    created_at: float
    disabled_at: float | None = None
    """When it answered 410, after which nothing is sent to it."""

    @property
    def host(self) -> str:
        """The host that is called, lower case."""
        return host_of(self.url)

    def secrets(self, now: float) -> list[str]:
        """The secrets that sign now: the current one, then rotated ones, the latest first."""
        return [self.secret, *(retired.secret for retired in self.retired if now < retired.until)]

    def rotated(self, secret: str, now: float) -> Endpoint:
        """The endpoint with a new secret."""
        retired = (
            Retired(secret=self.secret, until=now + SECRET_OVERLAP_S),
            *(old for old in self.retired if now < old.until),
        )
        return self.model_copy(update={"secret": secret, "retired": retired})


class Attempt(_Record):
    """One request: the status of its response, or why there was none."""

    at: float
    status: int | None = None
    error: str | None = None
    duration_s: float = 0.0
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver accepted it."""
        return self.status in _OK

    @property
    def gone(self) -> bool:
        """Whether the receiver asked for no further requests."""
        return self.status == _GONE


class Delivery(_Record):
    """The delivery of one event to one endpoint.

    Attributes:
        id: the ``webhook-id``, the same for every attempt.
        body: the body of the request, the same for every attempt.
        next_at: when the next attempt is due; None when there is none.
        note: why it was dropped.
        host: of the endpoint when the delivery was scheduled; empty in records of older versions.
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
    host: str = ""


class Endpoints(Protocol):
    """The stored endpoints of tenants, and the deliveries of a session, as the API manages and shows them."""

    async def add(self, tenant: str, endpoint: Endpoint, check: Callable[[Sequence[Endpoint]], None]) -> None:
        """Store a new endpoint.

        Args:
            check: of the tenant's others; may be called again, and may raise to refuse.
        """
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
    """The stored endpoints and deliveries, as the sender uses them."""

    async def endpoints(self, tenant: str) -> list[Endpoint]:
        """A tenant's endpoints, the oldest first."""
        ...

    async def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """One of them; None if there is none of that id."""
        ...

    async def own_endpoint(self, session_id: str) -> Endpoint | None:
        """The endpoint that is notified of this session alone; None if it has none."""
        ...

    async def enable(self, tenant: str, endpoint_id: str, *, disabled_at: float | None) -> None:
        """Disable an endpoint, or (None) enable it again."""
        ...

    async def schedule(self, session_id: str, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries, each with a timer; those already scheduled are kept as they are."""
        ...

    async def find(self, session_id: str, delivery_id: str) -> tuple[Delivery, bytes] | None:
        """A delivery and its stored bytes; None if its session was deleted."""
        ...

    async def replace(self, delivery: Delivery, stored: bytes) -> bool:
        """Replace a delivery and set or remove its timer, if the stored bytes are still the same."""
        ...

    async def postpone(self, delivery: Delivery, at: float) -> None:
        """Set its timer, in Unix seconds."""
        ...

"""Ports to storage: sessions, images, archives, keys and rates, and the values that go through them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, Protocol, get_args

from orchestrator.loop.events import Event, SessionCreated
from orchestrator.loop.session import Session


class Blob(Protocol):
    """Bytes with their digest: a picture, or the manifests of one."""

    @property
    def data(self) -> bytes:
        """The bytes."""
        ...

    @property
    def sha256(self) -> str:
        """Their digest, in hex: their name."""
        ...


class Blobs(Protocol):
    """Images, each in the folder of its session under the SHA-256 of its bytes."""

    async def put(self, session_id: str, image: Blob) -> None:
        """Store an image; storing the same bytes again changes nothing."""
        ...

    async def get(self, session_id: str, sha256: str) -> bytes:
        """The bytes of that digest; raises `BlobNotFoundError`."""
        ...


class ReadableBlobs(Blobs, Protocol):
    """Images that can be read in parts, for readers that may be slow."""

    async def read(self, session_id: str, sha256: str, start: int, end: int) -> bytes:
        """A part of these bytes; raises `BlobNotFoundError`."""
        ...


class Folders(Blobs, Protocol):
    """The folders of sessions, which also hold a document once their session is archived."""

    async def write_document(self, session_id: str, data: bytes) -> None:
        """Store the document, replacing an earlier one."""
        ...

    async def read_document(self, session_id: str) -> bytes | None:
        """The document; None if there is none."""
        ...

    async def prune(self, session_id: str, named: Collection[str]) -> None:
        """Remove the images whose digests are not among these."""
        ...

    async def remove(self, session_id: str) -> None:
        """Remove everything; a folder that does not exist is not an error."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its sequence number in the session, counted from 1."""

    seq: int
    event: Event


class Silence(Enum):
    """What a listener receives between events."""

    QUIET = "quiet"
    """No event for a while; none was missed."""
    GAP = "gap"
    """Events may have been missed: read the log."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Ownership of a session by this replica, until another claims it; its writes carry the fencing token `fence`.

    Attributes:
        attempts: claims of this session since a driver last recorded an event, this one included. The drivers of the others
            died with their replicas, or failed because of a bug.
        seq: where its log ended.
        at: when it was made, in Unix seconds by the store's clock.
        deadline_at: Unix seconds; None if unknown.
    """

    session_id: str
    fence: int
    editor: str = ""
    attempts: int = 1
    seq: int = 0
    at: float = 0.0
    deadline_at: float | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """How a repeat of a request is known, so that it joins the session that exists.

    Attributes:
        key: the caller's idempotency key; empty for a call without one that waits for its session. Such a session ends when
            its caller is gone (`SessionStore.renew_callers`), unless a repeat joins it (`SessionStore.hand_over`).
        fingerprint: a digest of what the request asks for.
        former: the digest that earlier versions made of it, which replicas of those versions compare.
    """

    key: str
    fingerprint: str
    former: str = ""

    def fits(self, created: Created) -> bool:
        """Whether the session that was found under the key is that of this request."""
        return created.fresh or created.fingerprint in {self.fingerprint, self.former}


@dataclass(frozen=True, slots=True)
class Bounds:
    """A tenant's limits on new sessions; None is no limit.

    Attributes:
        unfinished: sessions that are not finished.
        editor_s_per_day: editor seconds in a day (UTC).
        log_bytes: bytes of its sessions' events in Redis.
        blob_bytes: bytes of its sessions' images, archived ones too. At it, unfinished sessions make no more.
    """

    unfinished: int | None = None
    editor_s_per_day: float | None = None
    log_bytes: int | None = None
    blob_bytes: int | None = None


Appended = Literal["ok", "full"]
"""Events were recorded; ``full``: and the tenant's images take all the bytes that they may."""


@dataclass(frozen=True, slots=True)
class Created:
    """The session that `create` made, now or earlier under the same idempotency key."""

    session_id: str
    fresh: bool
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What a replica got from one `claim`.

    Attributes:
        claims: sessions it drives from now on.
        chores: due work that belongs to no driver, as ``<kind>:<session id>``; each is handed out again until it is done.
        recovered: sessions of dead replicas that were queued again.
        joined: whether the replica was not registered: it is new, or its lease expired and it has lost its sessions.
        more: whether more is due than one call looks at.
    """

    claims: tuple[Claim, ...] = ()
    chores: tuple[str, ...] = ()
    recovered: int = 0
    joined: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What is known of a session whose log cannot be read.

    Attributes:
        seq: where its log ends.
        created_at: Unix seconds.
    """

    tenant: str
    seq: int
    finished: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class Share:
    """What tenants that drive less than their share of an editor may get although others fill it.

    Attributes:
        more: sessions to claim in addition, one for each such tenant.
        slots: edits that this replica keeps in flight there; a share is twice the slots of all replicas by the number of tenants.
    """

    more: int = 0
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a replica can take in one `claim`.

    Attributes:
        capacity: sessions at most, by editor.
        urgent: sessions in addition that need no editor slot first (cancelled, accepted, late).
        chores: chores at most.
        webhook_chores: webhook chores in addition.
        shares: by editor, what tenants may get beyond the capacity while others fill it.
        most: sessions of all editors together, the urgent ones apart; None is no limit.
        thinkers: those that this replica knows, judges among them, so that sessions of others are left for other replicas; None
            is all.
    """

    capacity: Mapping[str, int]
    urgent: int = 0
    chores: int = 0
    webhook_chores: int = 0
    shares: Mapping[str, Share] = field(default_factory=dict)
    most: int | None = None
    thinkers: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A session's position in its editor's queue: how many are ahead of it, and its expected wait in seconds, if known."""

    ahead: int
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Queued sessions by editor, sessions that are not finished, and live replicas."""

    queued: Mapping[str, int]
    unfinished: int
    replicas: int


class Sessions(Protocol):
    """The session logs, the queue of sessions, and which replica owns which session."""

    async def create(
        self,
        session_id: str,
        event: SessionCreated,
        idempotency: Idempotency | None,
        bounds: Bounds | None = None,
        webhook: str = "",
    ) -> Created:
        """Record a new session and queue it, if its tenant is within its limits.

        Args:
            webhook: the record of an endpoint that is notified of this session alone.
        """
        ...

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        """The events after that sequence number, in order; empty for an unknown session."""
        ...

    async def tail(self, session_id: str) -> Recorded | None:
        """The last event; None for an unknown session."""
        ...

    async def stored(self, session_id: str) -> list[tuple[int, bytes]]:
        """The entries of the log as they are stored, (sequence number, text), also where the events cannot be read."""
        ...

    async def append(self, session_id: str, expected: int, events: Sequence[Event], fence: int | None) -> Appended | None:
        """Record events if the log still ends at `expected`; None if it does not.

        Raises:
            FencedError: another replica owns the session, or it was deleted.
            AbandonedError: for its driver, when the caller is gone; events that end the session are recorded.
            CallerLeftError: for its driver, when the caller left and may come back; events that begin nothing are recorded.
        """
        ...

    async def claim(self, replica: str, wanted: Wanted) -> Taken:
        """Claim queued sessions and due chores for a replica."""
        ...

    async def complete_chore(self, chore: str) -> None:
        """Remove a chore that is done, which would be due again otherwise."""
        ...

    async def renew_lease(self, replica: str) -> bool:
        """Renew the lease on every session of this replica; False if it had expired and other replicas took them over."""
        ...

    async def report_durations(self, edits: Mapping[str, float], sessions: Mapping[str, float]) -> None:
        """Report by editor the seconds that an edit takes, and a session from its first turn to its end; admission uses them."""
        ...

    async def owned(self, replica: str) -> set[str]:
        """The sessions that this replica owns."""
        ...

    async def release(self, replica: str, session_id: str, *, failed: bool = False) -> None:
        """Queue again a session that this replica owns without driving it.

        Args:
            failed: whether its driver failed because of a bug, which counts as an attempt.
        """
        ...

    async def suspend(self, claim: Claim, expected: int, until: float | None, *, untried: bool = False) -> bool:
        """Release a session until a caller writes to it or until that time (Unix seconds); None: queue it again at once.

        Args:
            untried: whether it was not driven; earlier attempts then still count.

        Returns:
            False if its log has grown past `expected`.
        """
        ...

    def listen(self, session_id: str) -> AsyncGenerator[Recorded | Silence]:
        """Events as they are recorded, and `Silence` between them."""
        ...


class SessionStore(Sessions, Protocol):
    """The session logs with what the API asks of them beyond driving sessions."""

    async def page(self, tenant: str, before_ms: int | None, limit: int) -> list[tuple[str, int]]:
        """A tenant's sessions, newest first: (id, creation in Unix milliseconds), those before `before_ms` only."""
        ...

    async def renew_callers(self, session_ids: Collection[str]) -> None:
        """Renew the lease of the callers who wait for these sessions without an idempotency key."""
        ...

    async def hand_over(self, session_id: str, tenant: str, fingerprint: str, for_s: float, *, left: bool = False) -> None:
        """Let the next request of that tenant and fingerprint join the session: its caller was told to repeat it, or left."""
        ...

    async def take_back(self, session_id: str, tenant: str, fingerprint: str) -> bool:
        """Let nobody join the session any more whose caller did not come back in time; False if somebody did."""
        ...

    async def queue_position(self, session_id: str) -> QueuePosition | None:
        """Where a session stands in its queue; None when it is not queued."""
        ...

    async def queue_stats(self) -> QueueStats:
        """How much there is to do."""
        ...

    async def delete(self, session_id: str, tenant: str) -> bool:
        """Delete a finished session; False while it is not finished."""
        ...

    async def confirm(self) -> bool:
        """Wait until replicas have what was written, where that is asked for; False if they did not confirm it in time."""
        ...

    async def facts(self, session_id: str) -> SessionFacts | None:
        """What the store knows of a session without its log; None for one that is not in it."""
        ...

    async def ping(self) -> bool:
        """Whether the store answers."""
        ...


class StorageStatus(Protocol):
    """Whether Redis and the blob store accept writes."""

    @property
    def refusals(self) -> Mapping[str, str]:
        """Why a store refuses writes, by its name (``redis``, ``blobs``); empty when both accept them."""
        ...

    @property
    def tenant_share(self) -> int | None:
        """Bytes of Redis that one tenant's logs may take where nobody set another number; None if Redis has no limit."""
        ...

    def check_new_session(self) -> None:
        """Raises `StorageUnavailableError` where a new session could not be stored."""
        ...


class History(Protocol):
    """The events of a session, live or archived.

    Reading raises `orchestrator.loop.session.CorruptLogError` for events that this version does not understand.
    """

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        """The events after that sequence number, in order; empty for an unknown session."""
        ...

    async def tail(self, session_id: str) -> Recorded | None:
        """The last event; None for an unknown session."""
        ...

    def listen(self, session_id: str) -> AsyncGenerator[Recorded | Silence]:
        """Events as they are recorded, and what may lie between them."""
        ...


class SessionArchive(History, Protocol):
    """The events of all sessions, and finished sessions as documents."""

    async def read_many(self, session_ids: Sequence[str]) -> list[list[Recorded]]:
        """The whole logs of several sessions; empty for one that is gone or cannot be read."""
        ...

    def documents(
        self, tenant: str, since: float, until: float | None, status: str | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """A tenant's finished sessions, oldest first, created from `since` up to before `until` (Unix seconds).

        Args:
            status: only those that ended so; a document that cannot be read is then left out.
        """
        ...

    async def remove(self, session_id: str) -> None:
        """Remove the images and the document of a deleted session."""
        ...

    async def readable(self, session_id: str) -> tuple[SessionFacts, list[Recorded]] | None:
        """What is known of a session whose log cannot be read: the events before the first that cannot be; None if unknown."""
        ...


Scope = Literal["edit", "read", "admin"]
"""`edit` makes and steers sessions, `read` looks at them, `admin` may do both, for every tenant."""
SCOPES: Final[frozenset[Scope]] = frozenset(get_args(Scope))


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret.

    Attributes:
        id: names the key in lists and logs.
        tenant: the tenant that it belongs to.
        name: what it is for, as its maker said.
        created_at, expires_at: Unix seconds; None never expires.
    """

    id: str
    tenant: str
    scopes: frozenset[str]
    name: str
    created_at: float
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """What a tenant may use; None is no bound.

    Attributes:
        rate: new sessions in a time, as ``60/minute``.
        unfinished: sessions that are not finished.
        editor_s_per_day: editor seconds in a day (UTC).
        redis_bytes: bytes of its sessions' events in Redis.
        blob_bytes: bytes of its sessions' images, archived ones too.
    """

    rate: str | None = None
    unfinished: int | None = None
    editor_s_per_day: float | None = None
    redis_bytes: int | None = None
    blob_bytes: int | None = None


def check_tenant(tenant: str) -> None:
    """Raises ValueError for a name that cannot be a tenant's: it is part of keys in Redis."""
    if not 1 <= len(tenant) <= 64 or not tenant.isascii() or not all(c.isalnum() or c in "-_." for c in tenant):  # noqa: PLR2004
        raise ValueError("a tenant's name is 1 to 64 letters, digits, hyphens, underscores and dots")


@dataclass(frozen=True, slots=True)
class SignIn:
    """A browser that is signed in with a key, until `expires_at` (Unix seconds)."""

    key: ApiKey
    expires_at: float


@dataclass(frozen=True, slots=True)
class SessionShare:
    """A link with which people without a key may look at one session, until it expires or is revoked.

    Attributes:
        tenant: the session's; what its guests read counts as this tenant's.
        created_at, expires_at: Unix seconds.
        pictures: the only ones that it shows, each ``source`` or ``<turn>/<candidate>``; empty is the whole session.
    """

    id: str
    session_id: str
    tenant: str
    created_at: float
    expires_at: float
    pictures: tuple[str, ...] = ()


class SessionShares(Protocol):
    """The shares of sessions that are in effect."""

    async def create(self, session_id: str, tenant: str, for_s: float, pictures: Sequence[str] = ()) -> SessionShare | None:
        """A new share, for so many seconds; None where the tenant has as many as it may."""
        ...

    async def find(self, session_id: str, share_id: str) -> SessionShare | None:
        """A share of a session; None for one that is unknown, revoked or expired."""
        ...

    async def all(self, session_id: str, tenant: str) -> list[SessionShare]:
        """The shares of a session, the oldest first."""
        ...

    async def revoke(self, share: SessionShare) -> None:
        """End a share: nobody finds it any more, on any replica."""
        ...


class ApiKeys(Protocol):
    """API keys, the browsers that are signed in with one, and the quotas of tenants."""

    async def find(self, secret: str) -> ApiKey | None:
        """The key of that secret; None for one that is unknown, revoked or expired."""
        ...

    async def sign_in(self, secret: str, for_s: float) -> str:
        """A token that stands for the key of that secret, for so many seconds."""
        ...

    async def signed_in(self, token: str) -> SignIn | None:
        """The sign-in of that token; None for one that is unknown, signed out or expired, and once its key is not valid."""
        ...

    async def sign_out(self, token: str) -> None:
        """Forget a token."""
        ...

    async def quota(self, tenant: str) -> Quota | None:
        """What was set for a tenant; None if nothing was."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingGrant:
    """A tenant's consent that its sessions are used for training, from `at` (Unix seconds) on. A later consent has another id."""

    id: str
    at: float


class Training(Protocol):
    """Which sessions may be used for training: those made under a grant that is still in effect, and not withheld."""

    async def grant(self, tenant: str) -> TrainingGrant | None:
        """The consent of a tenant; None where it has given none, or withdrawn it."""
        ...

    async def deny(self, tenant: str) -> TrainingGrant | None:
        """Withdraw a tenant's consent: the grant that it had; None if it had none."""
        ...

    async def withhold(self, tenant: str, session_id: str) -> None:
        """Withdraw one session, for good."""
        ...

    async def allows(self, tenant: str, session_id: str, grant: str | None) -> bool:
        """Whether a session may be used for training now, which was made under that grant."""
        ...


@dataclass(frozen=True, slots=True)
class RateUsage:
    """What a tenant has left of one rate.

    Attributes:
        name: of the window: ``minute``, ``2-hour``.
        limit: requests in a window of `window_s` seconds.
        remaining: requests that are left now.
        reset_s: seconds until more are.
    """

    name: str
    limit: int
    window_s: int
    remaining: int
    reset_s: int


class RateLimiter(Protocol):
    """Counts requests of tenants, for all replicas together."""

    async def hit(self, rate: str, tenant: str) -> tuple[bool, tuple[RateUsage, ...]]:
        """Count one request: whether it is within the rate, and what is left of each of the rate's parts."""
        ...


class MadeLog(Protocol):
    """The digests of the pictures that were made for each tenant."""

    @property
    def keeps(self) -> bool:
        """Whether digests are kept at all."""
        ...

    async def add(self, tenant: str, digests: Sequence[bytes]) -> None:
        """Keep the digests of a picture."""
        ...

    async def knows(self, tenant: str, digests: Sequence[bytes]) -> bool:
        """Whether one of them is kept."""
        ...


Choice = Literal["a", "b", "tie", "skip"]


@dataclass(frozen=True, slots=True)
class JudgedPicture:
    """A picture that a person looked at, and who made it.

    Attributes:
        turn, candidate: None for the session's source; so are those who made it.
        sha256: digest of the picture, as the editor made it.
        judge: who scored it; the thinker, unless the session had another.
    """

    session_id: str
    sha256: str
    turn: int | None = None
    candidate: int | None = None
    editor: str | None = None
    thinker: str | None = None
    judge: str | None = None
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """What a person said of two pictures of one source and instruction (`a`, `b`, `choice`), or of one session (`rating`).

    Attributes:
        id: of a rating, that of its session, so that a session has one.
        created_at: Unix seconds.
        sessions: those that it is about; it is deleted with the first of them.
        rating: 1 to 5.
        label: what was compared, in the caller's words.
        fingerprint: a digest of the request.
    """

    id: str
    created_at: float
    sessions: tuple[str, ...]
    a: JudgedPicture | None = None
    b: JudgedPicture | None = None
    choice: Choice | None = None
    rating: int | None = None
    label: str | None = None
    reason: str | None = None
    fingerprint: str = ""


def rating_id(session_id: str) -> str:
    """The id of a session's rating: a session has one."""
    return f"rating_{session_id}"


class Preferences(Protocol):
    """What people prefer, of each tenant; kept for as long as the sessions that it is about."""

    async def add(self, tenant: str, preference: Preference) -> Preference:
        """Store a preference, and return what is stored under its id: that of an earlier request, unless it is a rating.

        Raises:
            PortError: ``session_not_found`` when one of its sessions was deleted, ``quota_exceeded`` when those of the tenant
                take all the bytes that they may.
        """
        ...

    async def remove(self, tenant: str, preference_id: str) -> bool:
        """Remove one; False if there is none of that id."""
        ...

    async def page(self, tenant: str, before_ms: int | None, limit: int) -> list[tuple[int, Preference]]:
        """The newest first: (creation in Unix milliseconds, preference), those before `before_ms` only."""
        ...

    async def created_between(
        self, tenant: str, since_ms: float, until_ms: float | None, limit: int
    ) -> list[tuple[int, Preference]]:
        """The oldest first, as `page`: from `since_ms` up to before `until_ms`."""
        ...

    async def ratings(self, tenant: str, session_ids: Sequence[str]) -> list[int | None]:
        """The ratings of these sessions; None for one that was not rated."""
        ...


class SessionObserver(Protocol):
    """Observes recorded events; logging and metrics implement it."""

    def recorded(self, session_id: str, recorded: Recorded, session: Session) -> None:
        """This replica recorded an event; `session` includes it."""
        ...

    def forgotten(self, session_id: str, events: int) -> None:
        """Redis lost recorded events: it was restored from an older snapshot."""
        ...

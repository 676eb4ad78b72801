"""Everything outside the orchestrator, as it sees it: the protocols that `drive`, `store` and `app` fill in."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Protocol

from orchestrator.loop.events import ChecklistAnswer, ChecklistQuestion, Event, ImageRef, SessionCreated
from orchestrator.loop.session import Session
from orchestrator.request_timing import RequestTiming
from services.imaging.codec import CheckedImage


class PortError(Exception):
    """Something outside did not do what it was asked.

    Attributes:
        code, retryable: a row of the error table, and whether to try again later may help.
        kind: ``busy`` and ``away`` were not taken up and may be later, ``refused`` will not be; a ``fault`` is all else.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        kind: Literal["busy", "away", "refused", "fault"] = "fault",
        retryable: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after


class EditorError(PortError):
    """An edit that brought no image."""


class ThinkerError(PortError):
    """A critique that brought no scores."""


class StorageUnavailableError(PortError):
    """Redis or the blob store cannot be reached; nothing is known to be lost."""

    def __init__(self, message: str) -> None:
        super().__init__("storage_unavailable", message, retryable=True)


class BlobNotFoundError(PortError):
    """An image is not in the blob store."""

    def __init__(self, sha256: str) -> None:
        super().__init__("image_not_found", f"image {sha256} is not stored")


class FencedError(Exception):
    """Another replica owns the session now; let go of it."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that is loaded when it is sent, so that thousands of waiting edits hold none in memory."""

    ref: ImageRef
    load: Callable[[], Awaitable[bytes]]


def image_ref(image: CheckedImage) -> ImageRef:
    """How events name an image."""
    return ImageRef(
        sha256=image.sha256, media_type=image.media_type, bytes=len(image.data), width=image.width, height=image.height
    )


@dataclass(frozen=True, slots=True)
class EditOrder:
    """One edit: source (and mask), instruction, seed, the caller's options for the editor.

    Attributes:
        key: idempotency key, unique in the world.
        timeout_s: seconds until the answer is of no use.
        later: whether its session has edits already: it goes before those that have none, so that what was begun gets done.
        tries: gets each sending, as it happens.
        start_s: seconds after which it waits no longer for a place, since it would come too late.
        session_id: whose it is.
    """

    source: StoredImage
    mask: StoredImage | None
    instruction: str
    seed: int
    key: str
    timeout_s: float
    options: Mapping[str, Any] = field(default_factory=dict)
    later: bool = False
    tries: list[RequestTiming] = field(default_factory=list)
    start_s: float = math.inf
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class EditReply:
    """An edited image, and timings as the editor reports them.

    Attributes:
        replayed: whether it is the answer to an earlier request with the same key, made once for both.
        editor: which one made it, where it was a fallback.
    """

    image: CheckedImage
    timings: Mapping[str, float] = field(default_factory=dict)
    replayed: bool = False
    editor: str | None = None


@dataclass(frozen=True, slots=True)
class CritiqueOrder:
    """One critique: source and candidate, the wish, the instruction used; seconds allowed; the session's checklist."""

    source: StoredImage
    candidate: StoredImage
    original_instruction: str
    instruction: str
    timeout_s: float
    questions: tuple[ChecklistQuestion, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a thinker counted: of the prompt, of them those it had computed before, and of the reply."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class CritiqueReply:
    """What the thinker said. `instruction` is None where it leaves the instruction as it is.

    Attributes:
        answers: to the checklist, where there is one.
        samples: how many usable replies the scores are the means of; the spreads are their standard deviations.
        thinker: which one answered, where it was a fallback.
        repaired: whether it had to write its reply again.
    """

    semantic: float
    quality: float
    reasoning: str
    instruction: str | None
    usage: Usage = field(default_factory=Usage)
    answers: tuple[ChecklistAnswer, ...] = ()
    samples: int = 1
    semantic_spread: float = 0.0
    quality_spread: float = 0.0
    thinker: str | None = None
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class ChecklistOrder:
    """The questions of a session: its source and its wish; seconds allowed."""

    source: StoredImage
    original_instruction: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ChecklistReply:
    """The questions that the critiques of a session will answer."""

    questions: tuple[ChecklistQuestion, ...]
    usage: Usage = field(default_factory=Usage)


class Editor(Protocol):
    """Any image editor."""

    async def edit(self, order: EditOrder) -> EditReply:
        """Edit; raises `EditorError`."""
        ...

    async def ready(self) -> bool:
        """Whether it can be asked now."""
        ...


class Thinker(Protocol):
    """Any judge that refines instructions."""

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        """Critique; raises `ThinkerError`."""
        ...

    async def checklist(self, order: ChecklistOrder) -> ChecklistReply:
        """Write the questions of a session; raises `ThinkerError`."""
        ...

    async def ready(self) -> bool:
        """Whether it can be asked now."""
        ...


class Blobs(Protocol):
    """Images, each in the folder of its session under the SHA-256 of its bytes."""

    async def put(self, session_id: str, image: CheckedImage) -> None:
        """Store an image; storing the same bytes again changes nothing."""
        ...

    async def get(self, session_id: str, sha256: str) -> bytes:
        """The bytes of that digest; raises `BlobNotFoundError`."""
        ...


class Folders(Blobs, Protocol):
    """The folders themselves, which hold a document too once their session is archived."""

    async def write_document(self, session_id: str, data: bytes) -> None:
        """Store the document, in place of an earlier one."""
        ...

    async def read_document(self, session_id: str) -> bytes | None:
        """The document; None if there is none."""
        ...

    async def prune(self, session_id: str, named: Collection[str]) -> None:
        """Remove the images whose digests are not among these."""
        ...

    async def remove(self, session_id: str) -> None:
        """Remove everything; a folder that is gone already is no error."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its place in the session, counted from 1."""

    seq: int
    event: Event


class Silence(Enum):
    """What a listener hears between events."""

    QUIET = "quiet"
    """Nothing for a while, and nothing is known to be missing."""
    GAP = "gap"
    """Something may be missing: read the log."""


@dataclass(frozen=True, slots=True)
class Claim:
    """This replica owns the session until another claims it; the fence is what it shows when it writes."""

    session_id: str
    fence: int
    editor: str = ""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's key, and a digest of the request it was used for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a tenant may have: sessions that are not finished, and editor seconds a day (UTC); None is no bound."""

    unfinished: int | None = None
    editor_s_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """The session that a create made, or had made before under the same key."""

    session_id: str
    fresh: bool
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What a replica got in one round.

    Attributes:
        claims: sessions it drives from now on.
        chores: work that is due and belongs to no driver, as ``<kind>:<session id>``; each comes again until it is done.
        recovered: how many sessions of dead replicas went back into line.
        joined: whether the replica was not known: it is new, or was taken for dead and has lost all it had.
    """

    claims: tuple[Claim, ...] = ()
    chores: tuple[str, ...] = ()
    recovered: int = 0
    joined: bool = False


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Where a session stands in line: how many go before it, and for how many seconds it will wait, if that is known."""

    ahead: int
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Queued sessions by editor, sessions that are not finished, and live replicas."""

    queued: Mapping[str, int]
    unfinished: int
    replicas: int


class Sessions(Protocol):
    """The session logs, and who drives which session."""

    async def create(
        self, session_id: str, event: SessionCreated, idempotency: Idempotency | None, bounds: Bounds | None = None
    ) -> Created:
        """Record a new session and queue it, if its tenant is within its bounds."""
        ...

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        """The events after that sequence number, in order; empty for an unknown session."""
        ...

    async def tail(self, session_id: str) -> Recorded | None:
        """The last event; None for an unknown session."""
        ...

    async def append(self, session_id: str, expected: int, events: Sequence[Event], fence: int | None) -> bool:
        """Record events if the log still ends at `expected`; False if it does not. Raises `FencedError`."""
        ...

    async def claim(
        self, replica: str, capacity: Mapping[str, int], *, urgent: int, chores: int, webhook_chores: int = 0
    ) -> Taken:
        """Claim queued sessions, up to the capacity for each editor, and urgent ones; and due chores of each kind."""
        ...

    async def complete_chore(self, chore: str) -> None:
        """Remove a chore that is done, which would be due again otherwise."""
        ...

    async def renew_lease(self, replica: str) -> bool:
        """Renew the lease on every session of this replica; False when it was taken for dead and lost them."""
        ...

    async def report_durations(self, edits: Mapping[str, float], sessions: Mapping[str, float]) -> None:
        """Report by editor the seconds that an edit takes, and a session from its first turn to its end; admission uses them."""
        ...

    async def owned(self, replica: str) -> set[str]:
        """The sessions that this replica is to drive."""
        ...

    async def release(self, replica: str, session_id: str) -> None:
        """Queue again a session that this replica owns without driving it."""
        ...

    async def suspend(self, claim: Claim, expected: int, until: float | None) -> bool:
        """Release a session until a caller writes to it or until that time (Unix seconds); None: queue it again at once.

        Returns:
            False if its log has grown past `expected`.
        """
        ...

    def listen(self, session_id: str) -> AsyncGenerator[Recorded | Silence]:
        """Events as they are recorded, and what may lie between them."""
        ...


class SessionStore(Sessions, Protocol):
    """The session logs with what the API asks of them beyond driving sessions."""

    async def page(self, tenant: str, before_ms: int | None, limit: int) -> list[tuple[str, int]]:
        """A tenant's sessions, newest first: (id, creation in Unix milliseconds), those before `before_ms` only."""
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

    async def ping(self) -> bool:
        """Whether the store answers."""
        ...


class History(Protocol):
    """The events of a session, live or archived."""

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


Scope = Literal["edit", "read", "admin"]
"""`edit` makes and steers sessions, `read` looks at them, `admin` may do both, for every tenant."""


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
    """

    rate: str | None = None
    unfinished: int | None = None
    editor_s_per_day: float | None = None


def check_tenant(tenant: str) -> None:
    """Raises ValueError for a name that cannot be a tenant's: it is part of keys in Redis."""
    if not 1 <= len(tenant) <= 64 or not tenant.isascii() or not all(c.isalnum() or c in "-_." for c in tenant):  # noqa: PLR2004
        raise ValueError("a tenant's name is 1 to 64 letters, digits, hyphens, underscores and dots")


class ApiKeys(Protocol):
    """API keys, and the quotas of tenants."""

    async def find(self, secret: str) -> ApiKey | None:
        """The key of that secret; None for one that is unknown, revoked or expired."""
        ...

    async def quota(self, tenant: str) -> Quota | None:
        """What was set for a tenant; None if nothing was."""
        ...


class RateLimiter(Protocol):
    """Counts requests of tenants, for all replicas together."""

    async def hit(self, rate: str, tenant: str) -> float | None:
        """Count one request; or the seconds after which to try again, where the rate is exceeded."""
        ...


class Clock(Protocol):
    """The time."""

    def now(self) -> float:
        """Unix seconds."""
        ...


class SessionObserver(Protocol):
    """Observation in the loop's own vocabulary; logging and metrics are implementations."""

    def recorded(self, session_id: str, recorded: Recorded, session: Session) -> None:
        """An event was recorded by this replica; `session` is as it is since."""
        ...

    def forgotten(self, session_id: str, events: int) -> None:
        """Redis came back without events that it had recorded: it was restored from an older file."""
        ...

"""The client of the EditThinker Serving REST API, blocking and async.

    >>> from editthinker import EditThinker
    >>> with EditThinker("http://127.0.0.1:8080") as server:  # doctest: +SKIP
    ...     server.edit("photo.jpg", "make it feel like golden hour").save("out.png")

`calls`, `retry` and `sse` hold the protocol and do no I/O; `sync` and `aio` perform it with httpx. `errors` has the tree of
exceptions.
"""

from typing import TYPE_CHECKING

from editthinker.client.aio import AsyncEditThinker, AsyncSessions
from editthinker.client.calls import ImageFormat, ImageSource, SessionOptions
from editthinker.client.errors import (
    RENAMED,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    EditThinkerError,
    InternalServerError,
    InvalidImageError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SessionFailedError,
)
from editthinker.client.export import Moment
from editthinker.client.models import (
    Candidate,
    CandidateRef,
    EditOutcome,
    Event,
    Failure,
    ImageRef,
    ModelCard,
    OutsideMask,
    Readiness,
    Scores,
    Session,
    SessionPage,
    Totals,
    Turn,
)
from editthinker.client.retry import Retries
from editthinker.client.sync import EditThinker, Sessions
from editthinker.deprecation import renamed

__all__ = [
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncEditThinker",
    "AsyncSessions",
    "AuthenticationError",
    "BadRequestError",
    "Candidate",
    "CandidateRef",
    "ConflictError",
    "EditOutcome",
    "EditThinker",
    "EditThinkerError",
    "Event",
    "Failure",
    "ImageFormat",
    "ImageRef",
    "ImageSource",
    "InternalServerError",
    "InvalidImageError",
    "ModelCard",
    "Moment",
    "NotFoundError",
    "OutsideMask",
    "PermissionDeniedError",
    "RateLimitError",
    "Readiness",
    "Retries",
    "Scores",
    "Session",
    "SessionFailedError",
    "SessionOptions",
    "SessionPage",
    "Sessions",
    "Totals",
    "Turn",
]

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {**RENAMED, "Place": CandidateRef})

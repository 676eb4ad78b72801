"""The client of the EditThinker Serving REST API, blocking and async.

    >>> from editthinker import EditThinker
    >>> with EditThinker("http://127.0.0.1:8080") as server:  # doctest: +SKIP
    ...     server.edit("photo.jpg", "make it feel like golden hour").save("out.png")

`calls`, `patience` and `sse` hold everything that can be right or wrong about the protocol and do no I/O; `sync` and
`aio` are thin shells of httpx around them. The errors:

    EditThinkerError
    ├── ConnectionFailed      no answer: refused, reset, timed out on the way
    ├── TimedOut              the time the caller allowed for waiting is over
    ├── BadReply              an answer that is not this API's
    ├── NotAnImage            refused before it was sent
    ├── ApiStatusError        an answer that says no
    │   ├── BadRequest  Denied  NotFound  Conflict  Overloaded  ServerError
    └── SessionFailed         the session ended without a picture
"""

from editthinker.client.aio import AsyncEditThinker, AsyncSessions
from editthinker.client.calls import ImageFormat, ImageSource, SessionOptions
from editthinker.client.errors import (
    ApiStatusError,
    BadReply,
    BadRequest,
    Conflict,
    ConnectionFailed,
    Denied,
    EditThinkerError,
    NotAnImage,
    NotFound,
    Overloaded,
    ServerError,
    SessionFailed,
    TimedOut,
)
from editthinker.client.export import Moment
from editthinker.client.models import (
    Candidate,
    EditOutcome,
    Event,
    Failure,
    ImageRef,
    ModelCard,
    Place,
    Readiness,
    Scores,
    Session,
    SessionPage,
    Totals,
    Turn,
)
from editthinker.client.retry import Retries
from editthinker.client.sync import EditThinker, Sessions

__all__ = [
    "ApiStatusError",
    "AsyncEditThinker",
    "AsyncSessions",
    "BadReply",
    "BadRequest",
    "Candidate",
    "Conflict",
    "ConnectionFailed",
    "Denied",
    "EditOutcome",
    "EditThinker",
    "EditThinkerError",
    "Event",
    "Failure",
    "ImageFormat",
    "ImageRef",
    "ImageSource",
    "ModelCard",
    "Moment",
    "NotAnImage",
    "NotFound",
    "Overloaded",
    "Place",
    "Readiness",
    "Retries",
    "Scores",
    "ServerError",
    "Session",
    "SessionFailed",
    "SessionOptions",
    "SessionPage",
    "Sessions",
    "TimedOut",
    "Totals",
    "Turn",
]

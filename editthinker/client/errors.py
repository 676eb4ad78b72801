"""What can go wrong when the API is used, as one small tree.

EditThinkerError
├── ConnectionFailed      no answer: refused, reset, timed out on the way
├── TimedOut              the time the caller allowed for waiting is over
├── BadReply              an answer that is not this API's (a proxy's page, another server)
├── NotAnImage            refused before it was sent: the bytes are no picture
├── ApiStatusError        an answer that says no: status, code, message, param, request_id, retry_after
│   ├── BadRequest        400, 413, 415, 422 and every other 4xx: the request has to change
│   ├── Denied            401, 403: the API key
│   ├── NotFound          404
│   ├── Conflict          409: not in the state the session is in
│   ├── Overloaded        429: the same request may succeed later
│   └── ServerError       5xx
└── SessionFailed         the session ended without a picture; carries the session
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from editthinker.client.models import Session


class EditThinkerError(Exception):
    """Anything this package raises on purpose."""


class ConnectionFailed(EditThinkerError):
    """The server gave no answer.

    Args:
        message: what happened, naming the server.
        sent: whether the request may have reached the server; False when no connection was made at all, which
            makes a repeat safe whatever the request.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class TimedOut(EditThinkerError):
    """The caller's own time limit passed. The session goes on."""


class BadReply(EditThinkerError):
    """The answer does not look like this API's: the base URL probably names something else."""


class NotAnImage(EditThinkerError):
    """The given bytes are not a picture of a kind that the API takes."""


class ApiStatusError(EditThinkerError):
    """The server answered with an error.

    Attributes:
        status: the HTTP status.
        code: the API's stable name for the error, such as ``invalid_image``.
        message: one sentence: what is wrong, and what to do about it.
        param: the request field at fault, or None.
        request_id: quote it when you report the error; the server's logs carry it too.
        retry_after: seconds after which a repeat makes sense, or None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        """The message, with the parameter and the request id where there are such."""
        notes = [f"status {self.status}", self.code]
        if self.param:
            notes.append(f"param {self.param}")
        if self.request_id:
            notes.append(f"request {self.request_id}")
        return f"{self.message} ({', '.join(notes)})"


class BadRequest(ApiStatusError):
    """The request has to change."""


class Denied(ApiStatusError):
    """The API key is missing, wrong, or not allowed to do this."""


class NotFound(ApiStatusError):
    """There is no such session, image or route."""


class Conflict(ApiStatusError):
    """The session is not in a state in which this can be done."""


class Overloaded(ApiStatusError):
    """The server takes no more work now."""


class ServerError(ApiStatusError):
    """The server, or something behind it, failed."""


class SessionFailed(EditThinkerError):
    """The session ended without a picture.

    Attributes:
        session: the session as it ended; ``session.error`` says why.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(_why(session))
        self.session = session


def _why(session: Session) -> str:
    if session.error is not None:
        return f"session {session.id} {session.status}: {session.error.message} ({session.error.code})"
    return f"session {session.id} {session.status} without a picture"


_BY_STATUS: Final[dict[int, type[ApiStatusError]]] = {
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    429: Overloaded,
}
_FIRST_SERVER_STATUS: Final = 500


def error_class(status: int) -> type[ApiStatusError]:
    """The class of the tree for an HTTP status of 400 or more."""
    fallback = ServerError if status >= _FIRST_SERVER_STATUS else BadRequest
    return _BY_STATUS.get(status, fallback)

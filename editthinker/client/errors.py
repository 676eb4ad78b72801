"""The exceptions of the client, as one tree. The names are those of the ``openai`` package where it has the same error.

EditThinkerError
├── APIError
│   ├── APIConnectionError            no response: refused, reset, or broken on the way
│   │   └── APITimeoutError           no response in time, or the session had not ended in the time that the caller allowed
│   ├── APIResponseError              a response that is not this API's (a proxy's page, another server)
│   └── APIStatusError                an error status: status_code, code, message, param, request_id, retry_after
│       ├── BadRequestError           400, 413, 415 and every other 4xx: the request has to change
│       ├── AuthenticationError       401: the API key is missing or wrong
│       ├── PermissionDeniedError     403: the API key lacks the scope
│       ├── NotFoundError             404
│       ├── ConflictError             409: the session's state does not allow it
│       ├── UnprocessableEntityError  422: the idempotency key was used for another request
│       ├── RateLimitError            429: the same request may succeed later
│       └── InternalServerError       5xx
├── InvalidImageError                 raised before anything is sent: this is not a picture
├── InvalidWebhookSignatureError      not sent by this server, or too long ago
└── SessionFailedError                the session ended without a picture; carries the session
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from editthinker.client.models import Session


class EditThinkerError(Exception):
    """Base class of this package's exceptions."""


class APIError(EditThinkerError):
    """Base class of what goes wrong between this client and a server."""


class APIConnectionError(APIError):
    """The server did not answer.

    Args:
        message: what happened, naming the server.
        sent: whether the request may have reached the server. False when no connection was made, so that any request is
            safe to repeat.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class APITimeoutError(APIConnectionError):
    """A response, or the end of a session, did not come within the caller's time limit. A session goes on."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message, sent=sent)


class APIResponseError(APIError):
    """The response is not one of this API; the base URL is probably wrong."""


class InvalidImageError(EditThinkerError):
    """This is not an image in a format that the API accepts."""


class InvalidWebhookSignatureError(EditThinkerError, ValueError):
    """The webhook was not signed with this secret, or too long ago. Answer it with 400 and do nothing."""


class APIStatusError(APIError):
    """The server answered with an error.

    Attributes:
        status, status_code: the HTTP status.
        code: the API's stable name for the error, such as ``invalid_image``.
        message: one sentence: what is wrong, and what to do about it.
        type: openai's kind of error, such as ``invalid_request_error``.
        param: the request field at fault, or None.
        request_id: quote it when you report the error; the server's logs carry it too.
        retry_after: seconds after which to retry, or None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str | None = None,  # noqa: A002 - openai's name
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.type = type
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def status_code(self) -> int:
        """The HTTP status, by openai's name."""
        return self.status

    def __str__(self) -> str:
        """The message, with the parameter and the request id if known."""
        notes = [f"status {self.status}", self.code]
        if self.param:
            notes.append(f"param {self.param}")
        if self.request_id:
            notes.append(f"request {self.request_id}")
        return f"{self.message} ({', '.join(notes)})"


class BadRequestError(APIStatusError):
    """The request has to change."""


class _DeniedError(APIStatusError):
    """401 or 403, under the one name that both had up to version 0.1."""


class AuthenticationError(_DeniedError):
    """The API key is missing or wrong."""


class PermissionDeniedError(_DeniedError):
    """The API key does not have the scope for this."""


class NotFoundError(APIStatusError):
    """There is no such session, image or route."""


class ConflictError(APIStatusError):
    """The session is not in a state in which this can be done."""


class UnprocessableEntityError(APIStatusError):
    """The idempotency key was used for another request."""


class RateLimitError(APIStatusError):
    """The server accepts no more work now."""


class InternalServerError(APIStatusError):
    """The server, or something behind it, failed."""


class SessionFailedError(EditThinkerError):
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


_BY_STATUS: Final[dict[int, type[APIStatusError]]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}
_FIRST_SERVER_STATUS: Final = 500


def error_class(status: int) -> type[APIStatusError]:
    """The class of the tree for an HTTP status of 400 or more."""
    fallback = InternalServerError if status >= _FIRST_SERVER_STATUS else BadRequestError
    return _BY_STATUS.get(status, fallback)


RENAMED: Final[dict[str, type[EditThinkerError]]] = {
    "ApiStatusError": APIStatusError,
    "BadReply": APIResponseError,
    "BadRequest": BadRequestError,
    "Conflict": ConflictError,
    "ConnectionFailed": APIConnectionError,
    "Denied": _DeniedError,
    "NotAnImage": InvalidImageError,
    "NotFound": NotFoundError,
    "Overloaded": RateLimitError,
    "ServerError": InternalServerError,
    "SessionFailed": SessionFailedError,
    "TimedOut": APITimeoutError,
}
"""The names of version 0.1, which `editthinker.client` still finds."""

"""EditThinker Serving for its users: a typed client, the embedded stack, and the command line.

    >>> from editthinker import EditThinker
    >>> with EditThinker() as client:  # doctest: +SKIP
    ...     client.edit("photo.jpg", "make it feel like golden hour").save("out.png")

Nothing here imports the services: the interface is HTTP, and `editthinker.local` starts them as processes.
"""

from editthinker.client import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AsyncEditThinker,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    EditOutcome,
    EditThinker,
    EditThinkerError,
    Event,
    ImagesResponse,
    InternalServerError,
    InvalidImageError,
    InvalidWebhookSignatureError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    Retries,
    Session,
    SessionFailedError,
    UnprocessableEntityError,
    WebhookEvent,
)

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncEditThinker",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "EditOutcome",
    "EditThinker",
    "EditThinkerError",
    "Event",
    "ImagesResponse",
    "InternalServerError",
    "InvalidImageError",
    "InvalidWebhookSignatureError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "Retries",
    "Session",
    "SessionFailedError",
    "UnprocessableEntityError",
    "WebhookEvent",
]

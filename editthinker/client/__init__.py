"""The client of the EditThinker Serving REST API, blocking and async.

    >>> from editthinker import EditThinker
    >>> with EditThinker() as client:  # doctest: +SKIP
    ...     client.edit("photo.jpg", "make it feel like golden hour").save("out.png")

`calls`, `pictures`, `pages`, `retry`, `sse` and `webhooks` hold the protocol; `sync` and `aio` perform it with httpx. `errors`
has the tree of exceptions.
"""

from typing import TYPE_CHECKING

from editthinker.client.aio import AsyncEditThinker, AsyncImages, AsyncModels, AsyncPreferences, AsyncSessions, AsyncWebhooks
from editthinker.client.calls import EditOptions, ImagesOptions, PictureName, SessionOptions
from editthinker.client.errors import (
    RENAMED,
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    EditThinkerError,
    InternalServerError,
    InvalidImageError,
    InvalidWebhookSignatureError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SessionFailedError,
    UnprocessableEntityError,
)
from editthinker.client.export import Moment
from editthinker.client.models import (
    Attempt,
    Box,
    Candidate,
    CandidateRef,
    Comparison,
    CritiqueRequest,
    Delivery,
    EditOutcome,
    Event,
    Failure,
    ImageData,
    ImageEvent,
    ImageRef,
    ImagesResponse,
    JudgedPicture,
    ListPage,
    ModelCard,
    OutsideMask,
    Preference,
    PreferencePage,
    Preparation,
    Provenance,
    Readiness,
    Scores,
    Session,
    SessionPage,
    Share,
    Totals,
    Turn,
    Webhook,
    WebhookData,
    WebhookEvent,
    WebhookTest,
)
from editthinker.client.pages import AsyncPages, Page
from editthinker.client.pictures import ImageFormat, Picture, Pictures
from editthinker.client.retry import Retries
from editthinker.client.sync import EditThinker, Images, Models, Preferences, Sessions, Webhooks
from editthinker.deprecation import renamed

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncEditThinker",
    "AsyncImages",
    "AsyncModels",
    "AsyncPages",
    "AsyncPreferences",
    "AsyncSessions",
    "AsyncWebhooks",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "Box",
    "Candidate",
    "CandidateRef",
    "Comparison",
    "ConflictError",
    "CritiqueRequest",
    "Delivery",
    "EditOptions",
    "EditOutcome",
    "EditThinker",
    "EditThinkerError",
    "Event",
    "Failure",
    "ImageData",
    "ImageEvent",
    "ImageFormat",
    "ImageRef",
    "Images",
    "ImagesOptions",
    "ImagesResponse",
    "InternalServerError",
    "InvalidImageError",
    "InvalidWebhookSignatureError",
    "JudgedPicture",
    "ListPage",
    "ModelCard",
    "Models",
    "Moment",
    "NotFoundError",
    "OutsideMask",
    "Page",
    "PermissionDeniedError",
    "Picture",
    "PictureName",
    "Pictures",
    "Preference",
    "PreferencePage",
    "Preferences",
    "Preparation",
    "Provenance",
    "RateLimitError",
    "Readiness",
    "Retries",
    "Scores",
    "Session",
    "SessionFailedError",
    "SessionOptions",
    "SessionPage",
    "Sessions",
    "Share",
    "Totals",
    "Turn",
    "UnprocessableEntityError",
    "Webhook",
    "WebhookData",
    "WebhookEvent",
    "WebhookTest",
    "Webhooks",
]

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {**RENAMED, "Place": CandidateRef, "ImageSource": Picture})

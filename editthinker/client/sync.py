"""The blocking client: performs the calls that `calls` builds, with httpx."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import sleep
from types import TracebackType
from typing import Any, Final, Literal, Never, Self, TypeVar, Unpack, overload

import httpx

from editthinker.client import calls, transport
from editthinker.client.calls import Call, ImagesOptions, PictureName, Reply, SessionOptions
from editthinker.client.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    EditThinkerError,
    SessionFailedError,
)
from editthinker.client.export import Lines, Moment, record
from editthinker.client.image_events import ImageEvents
from editthinker.client.models import (
    CritiqueRequest,
    Delivery,
    EditOutcome,
    Event,
    ImageEvent,
    ImagesResponse,
    ModelCard,
    Preference,
    Provenance,
    Readiness,
    Session,
    Share,
    Webhook,
    WebhookTest,
)
from editthinker.client.pages import Page
from editthinker.client.pictures import ImageFormat, Picture, Pictures
from editthinker.client.retry import Attempts, Done, Feed, Retries, RetryAfter
from editthinker.client.webhooks import Verifier
from editthinker.environment import inherited

T = TypeVar("T")
_AWAITING_REVIEW: Final = "awaiting_review"


class EditThinker:
    """A client of one server. Safe to share between threads; close it, or use it in a ``with``.

    Args:
        base_url: of the server, with or without ``/v1``; by default ``EDITTHINKER_BASE_URL``, or where ``editthinker up``
            listens.
        api_key: sent as a bearer token; white space around it is removed. By default ``EDITTHINKER_API_KEY``; ``""`` for none.
        timeout: seconds that one response may take. It does not limit the wait for a session.
        max_retries: how often a request is repeated; 0 turns it off.
        retries: how often and how long to retry, in detail.
        stall: seconds without a byte after which an event stream is reconnected.
        webhook_secret: for ``webhooks``; by default ``EDITTHINKER_WEBHOOK_SECRET``.
        tenant: on whose behalf, for a key with the scope ``admin``.

    Raises:
        ValueError: for an invalid URL or key; the message does not contain the key.

    Example:
        >>> with EditThinker("http://127.0.0.1:8080") as server:  # doctest: +SKIP
        ...     server.edit("photo.jpg", "make it feel like golden hour").save("out.png")
    """

    def __init__(  # noqa: PLR0913 - one parameter for each setting, as httpx has them
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = transport.DEFAULT_TIMEOUT,
        *,
        max_retries: int | None = None,
        retries: Retries | None = None,
        stall: float = transport.DEFAULT_STALL,
        webhook_secret: str | None = None,
        tenant: str | None = None,
    ) -> None:
        self._timeout = timeout
        self._retries = (retries or Retries()).limited(max_retries)
        self._stall = stall
        self._http = httpx.Client(**transport.client_arguments(base_url, api_key, timeout, tenant))
        self.sessions = Sessions(self)
        self.images = Images(self)
        self.models = Models(self)
        self.preferences = Preferences(self)
        self.webhooks = Webhooks(self, webhook_secret or inherited().get(transport.WEBHOOK_SECRET_VARIABLE))

    @property
    def base_url(self) -> str:
        """The server's URL, without ``/v1``."""
        return str(self._http.base_url).rstrip("/")

    def edit(
        self,
        image: Pictures,
        prompt: str,
        *,
        format: ImageFormat | None = None,  # noqa: A002 - the API's word
        **options: Unpack[SessionOptions],
    ) -> EditOutcome:
        """Edit an image and wait for the result. Ctrl-C cancels the session.

        Raises:
            SessionFailedError: when the session ended without a picture.
        """
        session = self.sessions.create(image, prompt, **options)
        try:
            ended = self.sessions.wait(session.id)
        except KeyboardInterrupt:
            with suppress(EditThinkerError):
                self.sessions.cancel(session.id)
            raise
        if ended.best is None:
            raise SessionFailedError(ended)
        return calls.outcome(ended, self.sessions.image(ended.id, format=format))

    def ready(self) -> Readiness:
        """Whether the server can accept work, and what is missing if not."""
        return self.perform(calls.ready())

    def training(self) -> Literal["allowed", "denied"]:
        """Whether your tenant allows that its new sessions are used for training."""
        return self.perform(calls.training())

    def deny_training(self) -> None:
        """Withdraw your tenant's consent to training, for all of its sessions. Only the operator can give it again."""
        self.perform(calls.deny_training())

    def provenance(self, image: Picture) -> Provenance:
        """What marks a picture carries, whether they validate, and whether this server made it for you.

        Raises:
            InvalidImageError: when the bytes are not a picture.
            OSError: when a named file cannot be read.
        """
        return self.perform(calls.provenance(image))

    def perform(self, call: Call[T]) -> T:
        """Perform one call, with retries."""
        attempts = Attempts(call, self._retries)
        while True:
            step = attempts.next_step(self._send(call))
            if isinstance(step, Done):
                return step.value
            sleep(step.seconds)

    def follow(self, feed: Feed) -> Iterator[Event]:
        """The events of a feed, reconnecting as needed."""
        while not feed.done:
            cause: APIConnectionError | APIStatusError | APIResponseError | None = None
            try:
                request, silence = feed.connect()
                with self._http.stream(**transport.stream_arguments(request, silence)) as response:
                    if transport.is_stream(response):
                        for chunk in response.iter_raw():
                            yield from feed.receive(chunk)
                            if feed.done:
                                return
                    else:
                        response.read()
                        cause = feed.rejected(transport.reply_of(response))
            except httpx.TransportError as exc:
                cause = transport.failure_of(exc, self._http.base_url)
            if cause is None and feed.silent:
                feed.check_ended(self.sessions.get(feed.session_id))
            if not feed.done:
                sleep(feed.reconnect_delay(cause))

    def stream(self, call: Call[Never], begin: Callable[[], transport.Reader[T]]) -> Iterator[T]:
        """What a reader makes of a streamed response. Retried like other calls until something has arrived."""
        attempts = Attempts(call, self._retries)
        while True:
            reader = begin()
            result: Reply | APIConnectionError
            try:
                with self._http.stream(**transport.stream_arguments(call.request, transport.STREAM_READ_TIMEOUT)) as response:
                    if transport.is_of(response, reader.media_type):
                        for chunk in response.iter_raw():
                            yield from reader.feed(chunk)
                        reader.end()
                        return
                    response.read()
                    result = transport.reply_of(response)
            except httpx.TransportError as exc:
                result = transport.failure_of(exc, self._http.base_url)
                if reader.begun:
                    raise result from None
            step = attempts.next_step(result)
            if isinstance(step, RetryAfter):
                sleep(step.seconds)

    def feed(self, session_id: str, after: int, timeout: float | None) -> Feed:
        """A feed of a session's events, with this client's retries and timeouts."""
        return Feed(session_id, after, self._retries, timeout=timeout, stall=self._stall)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Use the client in a ``with``."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        self.close()

    def _send(self, call: Call[T]) -> Reply | APIConnectionError:
        try:
            response = self._http.request(**transport.request_arguments(call.request, self._timeout))
        except httpx.TransportError as exc:
            return transport.failure_of(exc, self._http.base_url)
        return transport.reply_of(response)


class Sessions:
    """The sessions of one server."""

    def __init__(self, client: EditThinker) -> None:
        self._client = client

    def create(self, image: Pictures, prompt: str, **options: Unpack[SessionOptions]) -> Session:
        """Start a session. It is safe to call again with the same ``idempotency_key``.

        Raises:
            InvalidImageError: when the bytes are not a picture.
            OSError: when a named file cannot be read.
        """
        return self._client.perform(calls.create(image, prompt, **options))

    def get(self, session_id: str) -> Session:
        """The current state of a session."""
        return self._client.perform(calls.get(session_id))

    def list(
        self,
        limit: int | None = None,
        cursor: str | None = None,
        *,
        status: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Page[Session]:
        """Sessions, newest first: a page of them. Iterating over it goes through all pages.

        Args:
            limit: sessions in each page.
            cursor: ``next_cursor`` of the page before.
            metadata: pairs that the sessions must have.
        """
        return Page.fetch(self._client.perform, lambda after: calls.list_sessions(limit, after, status, metadata), cursor)

    def events(self, session_id: str, after: int = 0, *, timeout: float | None = None) -> Iterator[Event]:
        """The session's events after a given one, each exactly once, as they happen, up to ``finished``.

        A broken connection is resumed after the last event received.

        Raises:
            APITimeoutError: when ``timeout`` seconds have passed; checked when data arrives.
            APIConnectionError: when the server does not come back.
        """
        return self._client.follow(self._client.feed(session_id, after, timeout))

    def wait(self, session_id: str, *, timeout: float | None = None) -> Session:
        """Wait until the session has ended. A session that waits for a review has not ended."""
        for _ in self.events(session_id, timeout=timeout):
            pass
        return self.get(session_id)

    def review(self, session_id: str, *, timeout: float | None = None) -> Session:
        """Wait until the session waits for a person's review, or has ended. Answer with ``feedback``."""
        session = self.get(session_id)
        if session.ended or session.status == _AWAITING_REVIEW:
            return session
        for event in self.events(session_id, session.last_event, timeout=timeout):
            if event.type == "review_requested":
                session = self.get(session_id)
                if session.status == _AWAITING_REVIEW:
                    return session
        return self.get(session_id)

    def export(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        status: str | None = None,
        training: Literal["allowed"] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Every finished session with all its events, the oldest first, as the server archives it.

        Args:
            since: created then or later: Unix seconds, an ISO date, or a ``datetime``.
            until: created before.
            status: only sessions with this status: ``succeeded | failed | cancelled``.
            training: ``allowed``: only sessions that may be used for training.

        Raises:
            ValueError: for an invalid time.
            APIConnectionError: when the connection breaks; every session yielded before is complete. Continue with
                ``since`` at the ``created_at`` of the last one, and skip ids already received.
        """
        return self._client.stream(calls.export(since, until, status, training), lambda: Lines(record))

    def critique(self, session_id: str, seq: int) -> CritiqueRequest:
        """The chat request that a critique answered, as the thinker got it, and its reply; for training alone.

        Args:
            session_id: a session that may be used for training.
            seq: the number of its event ``critiqued``, ``verified`` or ``refined``.

        Raises:
            PermissionDeniedError: when the session may not be used for training.
            ConflictError: when the thinker is configured otherwise now.
        """
        return self._client.perform(calls.critique(session_id, seq))

    def training(self, session_id: str) -> Literal["allowed", "denied"]:
        """Whether a session may be used for training now."""
        return self._client.perform(calls.training(session_id))

    def deny_training(self, session_id: str) -> None:
        """Withhold a session from training, for good."""
        self._client.perform(calls.deny_training(session_id))

    def cancel(self, session_id: str) -> Session:
        """Cancel a session. Its images so far stay available."""
        return self._client.perform(calls.cancel(session_id))

    def feedback(
        self,
        session_id: str,
        *,
        action: str,
        turn: int | None = None,
        candidate: int | None = None,
        instruction: str | None = None,
    ) -> Session:
        """Answer a review: ``accept``, ``pick`` (turn, candidate), ``instruct`` (instruction), or ``go_on``."""
        return self._client.perform(calls.feedback(session_id, action, turn, candidate, instruction))

    def deliveries(self, session_id: str) -> Sequence[Delivery]:
        """What the session's webhooks were sent, with every attempt."""
        return self._client.perform(calls.deliveries(session_id))

    def share(self, session_id: str, *, expires_in_s: float | None = None, pictures: Sequence[str] | None = None) -> Share:
        """Make a link with which people without a key look at a session; only its result has the token.

        Args:
            expires_in_s: seconds, from a minute to 30 days; a week if None.
            pictures: two to compare in place of the session, each ``source`` or ``<turn>/<candidate>``.
        """
        return self._client.perform(calls.share(session_id, expires_in_s, pictures))

    def shares(self, session_id: str) -> Sequence[Share]:
        """The shares of a session that are in effect."""
        return self._client.perform(calls.list_shares(session_id))

    def revoke_share(self, session_id: str, share_id: str) -> None:
        """End a share: its link is worthless from now on."""
        self._client.perform(calls.revoke_share(session_id, share_id))

    def delete(self, session_id: str) -> None:
        """Delete a session and its images."""
        self._client.perform(calls.delete(session_id))

    def image(
        self,
        session_id: str,
        turn: int | None = None,
        candidate: int | None = None,
        *,
        format: ImageFormat | None = None,  # noqa: A002 - the API's word
        compression: int | None = None,
    ) -> bytes:
        """The best picture, or that of a turn and candidate (by default the first).

        Args:
            compression: quality of jpeg and webp, 0 to 100.
        """
        return self._client.perform(calls.image(session_id, turn, candidate, format, compression))

    def source(self, session_id: str, *, format: ImageFormat | None = None) -> bytes:  # noqa: A002 - the API's word
        """The picture the session started from."""
        return self._client.perform(calls.source(session_id, format))

    def reference(
        self,
        session_id: str,
        number: int = 1,
        *,
        format: ImageFormat | None = None,  # noqa: A002 - the API's word
    ) -> bytes:
        """A reference of the session, counted from 1."""
        return self._client.perform(calls.reference(session_id, number, format))

    def preview(
        self,
        session_id: str,
        turn: int,
        candidate: int = 1,
        *,
        format: ImageFormat | None = None,  # noqa: A002 - the API's word
    ) -> bytes:
        """The unfinished picture of a candidate, in a session with `reject_early`."""
        return self._client.perform(calls.preview(session_id, turn, candidate, format))

    def answer(
        self,
        session_id: str,
        turn: int,
        candidate: int = 1,
        *,
        format: ImageFormat | None = None,  # noqa: A002 - the API's word
    ) -> bytes:
        """One of a finished session's results at the size of the answer; `image` has the best, or it at the editor's own size.

        Raises:
            NotFoundError: the session has not ended, or the candidate is none of its results.
        """
        return self._client.perform(calls.answer(session_id, turn, candidate, format))

    def mask(
        self,
        session_id: str,
        *,
        format: ImageFormat | None = None,  # noqa: A002 - the API's word
    ) -> bytes:
        """The mask of the session."""
        return self._client.perform(calls.mask(session_id, format))


class Images:
    """OpenAI's images API: one call that waits for the result."""

    def __init__(self, client: EditThinker) -> None:
        self._client = client

    @overload
    def edit(
        self, image: Pictures, prompt: str, *, stream: Literal[False] = False, **options: Unpack[ImagesOptions]
    ) -> ImagesResponse: ...

    @overload
    def edit(
        self, image: Pictures, prompt: str, *, stream: Literal[True], **options: Unpack[ImagesOptions]
    ) -> Iterator[ImageEvent]: ...

    def edit(
        self, image: Pictures, prompt: str, *, stream: bool = False, **options: Unpack[ImagesOptions]
    ) -> ImagesResponse | Iterator[ImageEvent]:
        """Edit an image and wait for the best pictures, or with ``stream`` get every candidate as it is made.

        A session lives on when this call is interrupted; ``client.edit`` cancels it.

        Raises:
            InvalidImageError: when the bytes are not a picture.
            OSError: when a named file cannot be read.
            APIError: when a streamed edit fails; the message says why.
        """
        if stream:
            events = calls.stream_images(image, prompt, **options)
            return self._client.stream(events, ImageEvents)
        call = calls.edit_images(image, prompt, **options)
        return self._client.perform(call)


class Models:
    """The editors and thinkers of one server."""

    def __init__(self, client: EditThinker) -> None:
        self._client = client

    def list(self) -> Sequence[ModelCard]:
        """The editors and thinkers that the server offers, the default ones first."""
        return self._client.perform(calls.models())

    def __call__(self) -> Sequence[ModelCard]:
        """As `list`: its name in version 0.1."""
        warnings.warn("client.models() is now client.models.list()", DeprecationWarning, stacklevel=2)
        return self.list()


class Preferences:
    """What people prefer: votes on pairs of pictures, and ratings of sessions."""

    def __init__(self, client: EditThinker) -> None:
        self._client = client

    def vote(
        self,
        a: PictureName,
        b: PictureName,
        choice: str,
        *,
        label: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> Preference:
        """Store which of two pictures is better. Both are edits of one source by one instruction.

        Args:
            a, b: a session's id for its source, or (id, turn), or (id, turn, candidate).
            choice: ``a | b | tie | skip``.
            label: what was compared, such as ``strategies``.
        """
        return self._client.perform(calls.vote(a, b, choice, label, reason, idempotency_key))

    def rate(self, session_id: str, rating: int, *, label: str | None = None, reason: str | None = None) -> Preference:
        """Rate a session, 1 to 5, in place of its former rating."""
        return self._client.perform(calls.rate(session_id, rating, label, reason))

    def list(self, limit: int | None = None, cursor: str | None = None) -> Page[Preference]:
        """Votes and ratings, newest first: a page of them. Iterating over it goes through all pages."""
        return Page.fetch(self._client.perform, lambda after: calls.list_preferences(limit, after), cursor)

    def export(
        self, *, since: Moment | None = None, until: Moment | None = None, training: Literal["allowed"] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every vote but skips as a training pair, the oldest first.

        Args:
            since: created then or later: Unix seconds, an ISO date, or a ``datetime``.
            until: created before.
            training: ``allowed``: only those whose sessions may be used for training.

        Raises:
            ValueError: for an invalid time.
            APIConnectionError: when the connection breaks; continue as for ``sessions.export``.
        """
        return self._client.stream(calls.export_preferences(since, until, training), lambda: Lines(record))

    def delete(self, preference_id: str) -> None:
        """Take back a vote or a rating."""
        self._client.perform(calls.delete_preference(preference_id))


class Webhooks(Verifier):
    """The webhooks of a tenant, and what they receive."""

    def __init__(self, client: EditThinker, secret: str | None) -> None:
        super().__init__(secret)
        self._client = client

    def create(self, url: str, *, events: Sequence[str] | None = None, description: str | None = None) -> Webhook:
        """Create a webhook; only this response and that of `rotate_secret` have its secret.

        Args:
            url: an https URL that accepts POST.
            events: ``session.finished``, ``session.awaiting_review``; both by default.
        """
        return self._client.perform(calls.create_webhook(url, events, description))

    def list(self) -> Sequence[Webhook]:
        """Your webhooks, without their secrets."""
        return self._client.perform(calls.list_webhooks())

    def get(self, webhook_id: str) -> Webhook:
        """A webhook, without its secret."""
        return self._client.perform(calls.get_webhook(webhook_id))

    def rotate_secret(self, webhook_id: str) -> Webhook:
        """Give the webhook a new secret; the one before signs too for 24 hours."""
        return self._client.perform(calls.rotate_webhook_secret(webhook_id))

    def test(self, webhook_id: str) -> WebhookTest:
        """Send ``webhook.test`` once, now."""
        return self._client.perform(calls.test_webhook(webhook_id))

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook; what was not delivered is dropped."""
        self._client.perform(calls.delete_webhook(webhook_id))

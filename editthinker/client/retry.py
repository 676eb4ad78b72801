"""When to retry and when to give up, for single calls and for the event stream. No I/O."""

from __future__ import annotations

import random
import warnings
from dataclasses import KW_ONLY, InitVar, dataclass, replace
from time import monotonic
from typing import Final, Generic, TypeVar

from pydantic import ValidationError

from editthinker.client import calls
from editthinker.client.calls import Call, Reply, Request
from editthinker.client.errors import APIConnectionError, APIResponseError, APIStatusError, APITimeoutError
from editthinker.client.models import Event, Session
from editthinker.client.sse import Decoder, Message

T = TypeVar("T")

_RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})
_OK: Final = 200
_NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long to retry.

    Attributes:
        attempts: how often a request is sent in all; 1 turns retries off.
        reconnects: how often in a row an event stream is opened without a new event on it before giving up; more
            than `attempts`, because a session is worth waiting for while its server restarts.
        initial: seconds before the second attempt; the pause doubles from then on.
        max: the longest pause of the client's own choosing, in seconds.
        max_retry_after: the longest ``Retry-After`` that is waited for; a longer one is raised to the caller.
    """

    attempts: int = 4
    reconnects: int = 8
    initial: float = 0.25
    max: float = 8.0
    max_retry_after: float = 60.0
    _: KW_ONLY
    first: InitVar[float | None] = None
    longest: InitVar[float | None] = None
    obey: InitVar[float | None] = None

    def __post_init__(self, first: float | None, longest: float | None, obey: float | None) -> None:
        """Take the names of version 0.1 too, with a warning."""
        for old, new, value in (("first", "initial", first), ("longest", "max", longest), ("obey", "max_retry_after", obey)):
            if value is not None:
                warnings.warn(f"Retries({old}=…) is now {new}=…", DeprecationWarning, stacklevel=3)
                object.__setattr__(self, new, value)

    def limited(self, max_retries: int | None) -> Retries:
        """These, with another number of repeats; None keeps it.

        Raises:
            ValueError: when it is negative.
        """
        if max_retries is None:
            return self
        if max_retries < 0:
            message = f"max_retries is {max_retries}; write 0 or more"
            raise ValueError(message)
        return replace(self, attempts=max_retries + 1)

    def pause(self, attempt: int) -> float:
        """Seconds to wait after an attempt (from 1), with jitter so that clients do not retry at the same moment."""
        longest = min(self.max, self.initial * 2.0 ** (attempt - 1))
        spread: float = random.uniform(0.5, 1.0)
        return longest * spread


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Send the request again after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The call has its result."""

    value: T


class Attempts(Generic[T]):
    """The attempts at one call. It gets the outcome of each and returns what to do next."""

    def __init__(self, call: Call[T], retries: Retries) -> None:
        self._call = call
        self._retries = retries
        self._made = 0

    def next_step(self, result: Reply | APIConnectionError) -> Done[T] | RetryAfter:
        """The next step after one attempt.

        Raises:
            EditThinkerError: when the attempt failed and another would not help, or none is left.
        """
        self._made += 1
        if isinstance(result, APIConnectionError):
            if self._call.repeatable or not result.sent:
                return self._retry(result, None)
            raise result
        if calls.is_answer(self._call, result.status):
            return Done(self._call.read(result))
        if self._made > 1 and result.status == _NOT_FOUND and self._call.request.method == "DELETE":
            # An earlier attempt deleted it, and its response was lost.
            return Done(self._call.read(result))
        error = calls.read_error(result)
        # The server's own word, as the openai client takes it.
        said = result.headers.get("x-should-retry")
        if self._call.repeatable and (said == "true" or (result.status in _RETRYABLE and said != "false")):
            return self._retry(error, error.retry_after)
        raise error

    def _retry(self, error: Exception, retry_after: float | None) -> RetryAfter:
        if self._made >= self._retries.attempts or (retry_after or 0.0) > self._retries.max_retry_after:
            raise error
        return RetryAfter(self._retries.pause(self._made) if retry_after is None else retry_after)


class Feed:
    """One session's events over any number of connections: each exactly once, in order, to the last.

    Args:
        session_id: whose events.
        after: sequence number of the last event already known.
        retries: how often to reconnect without a new event.
        timeout: seconds in all, or None.
        stall: seconds without a byte after which a connection counts as dead; the server sends heartbeats.
    """

    def __init__(self, session_id: str, after: int, retries: Retries, *, timeout: float | None, stall: float) -> None:
        self.session_id = session_id
        self.last = after
        self.done = False
        self._retries = retries
        self._stall = stall
        self._timeout = timeout
        self._ends = None if timeout is None else monotonic() + timeout
        self._failures = 0
        self._news = False
        self._decoder = Decoder()

    def connect(self) -> tuple[Request, float]:
        """The request for the next connection, and the longest silence on it."""
        self._decoder = Decoder()
        self._news = False
        return calls.events(self.session_id, self.last), min(self._stall, self._left())

    def receive(self, chunk: bytes) -> list[Event]:
        """The new events in what arrived."""
        fresh = []
        for message in self._decoder.feed(chunk):
            event = _event(message)
            if event.seq and event.seq <= self.last:
                continue
            # The server has lost what it sent: it begins again with the first event.
            self.last = 0 if event.type == "reset" else max(self.last, event.seq)
            self._failures = 0
            self._news = True
            fresh.append(event)
            if event.type == "finished":
                self.done = True
                break
        if not self.done:
            self._left()
        return fresh

    def rejected(self, reply: Reply) -> APIStatusError | APIResponseError:
        """Handle a response that is not a stream: raise a permanent error, return one that a retry may avoid."""
        if reply.status == _OK:
            message = "the response to the event request is not an event stream; check the base URL"
            raise APIResponseError(message)
        error = calls.read_error(reply)
        if reply.status not in _RETRYABLE or (error.retry_after or 0.0) > self._retries.max_retry_after:
            raise error
        return error

    def check_ended(self, session: Session) -> None:
        """Finish when the session has ended and no event is left, after a connection without new events."""
        if session.ended and session.last_event <= self.last:
            self.done = True

    @property
    def silent(self) -> bool:
        """Whether the last connection brought no new event."""
        return not self._news

    def reconnect_delay(self, cause: APIConnectionError | APIStatusError | APIResponseError | None) -> float:
        """Seconds to wait before the next connection, after one that ended before the session.

        Raises:
            EditThinkerError: when that happened too often in a row without a new event.
        """
        self._failures += 1
        if self._failures >= self._retries.reconnects:
            message = f"the event stream of {self.session_id} ended {self._failures} times without a new event"
            raise cause or APIConnectionError(message, sent=True)
        retry_after = getattr(cause, "retry_after", None)
        pause = self._retries.pause(self._failures) if retry_after is None else float(retry_after)
        return min(pause, self._left())

    def _left(self) -> float:
        if self._ends is None:
            return self._stall
        left = self._ends - monotonic()
        if left <= 0:
            message = f"session {self.session_id} had not ended after {self._timeout:g} seconds; it continues"
            raise APITimeoutError(message)
        return left


def _event(message: Message) -> Event:
    try:
        return Event.model_validate_json(message.data)
    except ValidationError as exc:
        note = f"the server sent an event ({message.event}) that cannot be read"
        raise APIResponseError(note) from exc

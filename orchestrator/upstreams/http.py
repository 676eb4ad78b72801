"""One HTTP call to an upstream: bounded in time, size and retries, with its exceptions translated in one place.

Retries follow stamina's jittered exponential backoff, or the server's own ``Retry-After``; they end when the caller's
time is up, so no retry outlives the session's deadline. How long each request may be silent is `liveness`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import aiohttp
import orjson
import stamina

from orchestrator.ports.collaborators import RequestTiming
from orchestrator.ports.errors import EditorError, PortError, ThinkerError
from orchestrator.upstreams.event_stream import EventStream, TooManyLinesError, as_reply
from orchestrator.upstreams.liveness import Patience, Silence, UpstreamHealth
from services.errors import TABLE, shown
from services.protocol.images_api import RAW_IMAGE, RAW_TIMINGS
from services.serving import tracing
from services.serving.json_body import MAX_JSON_VALUES, JsonBody, TooManyValuesError
from services.serving.retry import read_retry_after

Role = Literal["editor", "thinker", "judge"]
_ERRORS: Final[Mapping[Role, type[PortError]]] = {"editor": EditorError, "thinker": ThinkerError, "judge": ThinkerError}
_CODES: Final[Mapping[Role, str]] = {"editor": "editor", "thinker": "thinker", "judge": "thinker"}
"""What the error codes of a role begin with: a judge's failures are of the same kinds as a thinker's, and concern no caller."""
_BUSY: Final = 429
_NOT_READY: Final = 503
_FULL: Final = frozenset({_BUSY, _NOT_READY})
_MISCONFIGURED: Final = frozenset({401, 403, 404})
"""Statuses that mean a misconfigured thinker: a wrong key, path or model."""
_CONTEXT_OVERFLOW: Final = re.compile(
    r"maximum (?:context|model) length|context[ _](?:length|window)|longer than the maximum|too many tokens|prompt is too long",
    re.IGNORECASE,
)
_CONTENT_CODES: Final = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})
"""OpenAI's and Azure's codes for content that they refuse."""
_CALLERS_FAULT: Final = frozenset({400, 413, 415, 422})
"""Statuses with which an editor refuses the request itself: its instruction, size or mask."""
_RETRY_AFTER_HONOURED: Final = frozenset({502, 503, 504})
_MIN_RETRY_AFTER_S: Final = 0.05
_MAX_RETRY_AFTER_S: Final = 60.0
"""Bounds of a Retry-After; the OpenAI client ignores values above a minute as well."""
_MAX_MESSAGE: Final = 500
_MAX_ERROR_BYTES: Final = 128 * 1024
"""Of an error's body that are read; its message is at the start. A list of models is shorter."""
_EVENT_STREAM: Final = "text/event-stream"
_STREAMED_PICTURES: Final = 4
"""Three unfinished pictures at most, and the result."""
_IDENTITY: Final = frozenset({"", "identity"})
_WRITE_BYTES: Final = 256 * 1024
_READY_S: Final = 2.0
_SILENT_REQUESTS: Final = 2
"""Requests of one call without an answer, after which another upstream is asked where there is one."""
_CONFIGURATION_ERRORS: Final = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The address of an upstream, and the bounds of calls to it.

    Attributes:
        url: base URL up to and including ``/v1``.
        api_key: sent as a bearer token, or None.
        attempts: requests of one call at most.
        timeout_s: seconds one call may take, retries included.
        away_s: seconds for which a call is retried while the upstream cannot be reached or is not ready (503), since it may be
            restarting.
        max_reply: bytes of a successful response's body.
    """

    url: str
    api_key: str | None = None
    attempts: int = 4
    timeout_s: float = 600.0
    away_s: float = 0.0
    max_reply: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lazy:
    """A piece of a request body that is loaded when it is sent; its size in bytes is known before."""

    size: int
    load: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """One POST.

    Attributes:
        path: below the base URL.
        body: in pieces.
        content_type: of the body.
        headers: further ones.
        max_reply: bytes that the reply to this call may have, if that is less than the upstream's bound.
        on_partial: is handed the unfinished pictures, where the call asks for a stream and gets one.
    """

    path: str
    body: Sequence[bytes | Lazy]
    content_type: str
    headers: Mapping[str, str]
    max_reply: int | None = None
    on_partial: Callable[[dict[str, Any]], Awaitable[None]] | None = None

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        return sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in self.body)

    async def pieces(self) -> AsyncIterator[bytes | memoryview]:
        """The body, each piece loaded when it is sent; can be iterated again for a retry.

        Small pieces go together with the next one, up to `_WRITE_BYTES`: each write is a system call that wakes the server up,
        and costs as much as a hundred kilobytes. Large pieces are not copied.
        """
        held: list[bytes | memoryview] = []
        size = 0
        for piece in self.body:
            loaded = piece if isinstance(piece, bytes) else await _loaded(piece)
            if size + len(loaded) <= _WRITE_BYTES:
                held.append(loaded)
                size += len(loaded)
                continue
            rest = memoryview(loaded)
            if held:
                yield b"".join([*held, rest[: _WRITE_BYTES - size]])
                rest = rest[_WRITE_BYTES - size :]
            held, size = [rest], len(rest)
            if size > _WRITE_BYTES:
                yield rest
                held, size = [], 0
        if held:
            yield b"".join(held) if len(held) > 1 else held[0]


async def _loaded(piece: Lazy) -> bytes:
    loaded = await piece.load()
    if len(loaded) != piece.size:
        # Content-Length has been sent: the server would wait for the rest of a shorter body.
        raise PortError("internal_error", f"an image to send has {len(loaded)} bytes where {piece.size} were recorded")
    return loaded


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful response: the body's JSON, the headers, and the seconds that the last request took.

    Attributes:
        raw: the body, where the call asked for `RAW_IMAGE` and got it; the JSON is then that of its header.
    """

    json: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    elapsed_s: float = 0.0
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class _RawReply:
    """A successful response before its JSON is parsed."""

    body: bytes
    headers: Mapping[str, str]
    elapsed_s: float
    is_image: bool


class RequestObserver:
    """Follows the requests of one call, retries included. This base class, for thinkers, ignores what it is notified of."""

    def request_started(self) -> RequestTiming:
        """A request is about to be sent; the client updates the timing returned."""
        return RequestTiming()

    def rejected(self) -> None:
        """The server was full: it answered 429 or 503."""


class HttpUpstream:
    """Posts to one upstream; failures are raised as that role's `PortError`.

    Args:
        name: of the upstream in the configuration, for messages.
    """

    def __init__(
        self,
        role: Role,
        upstream: Upstream,
        client: aiohttp.ClientSession,
        health: UpstreamHealth | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self._role = role
        self._who = f"{role} {name!r}" if name else role
        self._upstream = upstream
        self._client = client
        self.health = health or UpstreamHealth(max_s=upstream.timeout_s)
        self._error = _ERRORS[role]
        self._codes = _CODES[role]
        # Without a password that the URL may hold.
        address = upstream.url.partition("//")[2].partition("/")[0].rpartition("@")[2]
        self._attributes: tracing.Attributes = {
            "http.request.method": "POST",
            "server.address": address,
            "editthinker.role": role,
        }

    async def post(self, call: Call, patience: Patience, observer: RequestObserver | None = None) -> Reply:
        """Send a call, with retries, and return the response.

        Args:
            call: the request.
            patience: the time for all of it, retries included.
            observer: notified of each request.

        Raises:
            EditorError, ThinkerError: with a code of the error table; `retryable` says whether to try again later.
        """
        patience = patience.for_upstream(self.health, self._upstream.timeout_s)
        allowed = patience.left_s()
        try:
            async with asyncio.timeout(allowed):
                raw = await self._with_retries(call, patience, observer or RequestObserver())
        except TimeoutError as exc:
            message = f"the {self._who} did not answer within {allowed:.1f} s"
            raise self._error(f"{self._codes}_timeout", message, retryable=True) from exc
        # Parsed outside the retries: an unreadable response must not make the server do the work again at once.
        if raw.is_image:
            timings = self._json(raw.headers.get(RAW_TIMINGS, "{}").encode("latin-1", "replace"))
            return Reply({"timings": timings}, raw.headers, raw.elapsed_s, raw.body)
        return Reply(self._json(raw.body), raw.headers, raw.elapsed_s)

    async def ready(self) -> bool:
        """Whether the upstream answers ``GET /models``, which every server of this protocol has."""
        try:
            async with self._listing() as reply:
                # Some servers lack this route; any response that is not a server error shows that one is running.
                return reply.status < 500  # noqa: PLR2004
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False

    async def models(self) -> list[Any] | None:
        """The models that the upstream lists; none if it has no such list, and None if it does not answer."""
        try:
            async with self._listing() as reply:
                text = await _start(reply)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        if reply.status >= 500:  # noqa: PLR2004
            return None
        try:
            body = orjson.loads(text)
        except orjson.JSONDecodeError:
            return []
        found = body.get("data") if isinstance(body, dict) else None
        return found if isinstance(found, list) else []

    @contextlib.asynccontextmanager
    async def _listing(self) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to ``GET /models``, within `_READY_S`."""
        url = f"{self._upstream.url}/models"
        async with asyncio.timeout(_READY_S), self._client.get(url, headers=self._auth(), allow_redirects=False) as reply:
            yield reply

    async def _with_retries(self, call: Call, patience: Patience, observer: RequestObserver) -> _RawReply:
        """Retry faults up to `attempts` times, a busy server as long as there is time, and one that is away for `away_s`."""
        began, silent = time.monotonic(), 0
        left = max(0.001, patience.left_s())
        try:
            return await self._request(call, patience, observer)
        except PortError as exc:
            # Nearly all requests succeed, and the two contexts below cost more than a request.
            failures = [exc]

        def while_busy(exc: Exception) -> bool | float:
            if not isinstance(exc, PortError):
                return False
            away_s = 0.0 if patience.others else self._upstream.away_s
            may_return = exc.kind == "away" and time.monotonic() < began + away_s
            return _retry(exc, patience) if may_return or exc.kind == "busy" else False

        def while_faulty(exc: Exception) -> bool | float:
            nonlocal silent
            if not isinstance(exc, PortError) or exc.kind == "busy":
                return False
            silent += exc.kind == "silent"
            if patience.others and (self.health.is_open or silent >= _SILENT_REQUESTS):
                return False
            return _retry(exc, patience)

        busy = stamina.retry_context(on=while_busy, attempts=None, timeout=left, wait_initial=0.5, wait_max=10.0)
        async for when_free in busy:
            with when_free:
                faults = stamina.retry_context(
                    on=while_faulty, attempts=self._upstream.attempts, timeout=left, wait_initial=0.2, wait_max=8.0
                )
                async for attempt in faults:
                    with attempt:
                        if failures:
                            raise failures.pop()
                        return await self._request(call, patience, observer)
        raise AssertionError("stamina either returns or raises")  # pragma: no cover

    async def _request(self, call: Call, patience: Patience, observer: RequestObserver) -> _RawReply:
        if patience.others and self.health.is_open:
            message = f"the {self._who} has stopped answering, and is asked again in a while"
            raise self._error(f"{self._codes}_unreachable", message, kind="away")
        await self.health.wait_closed()
        timing = observer.request_started()
        timing.unanswered_s = self.health.usual_s or math.inf
        with tracing.span(f"POST {call.path}", "client", self._attributes):
            try:
                async with self.health.request():
                    return await self._answer(call, patience, observer, timing)
            except PortError as exc:
                # Nobody knows that a request without an answer was worked on; its repeat reports the work under its key.
                if exc.kind != "fault":
                    timing.reported_s = 0.0
                raise
            finally:
                timing.finished_at = time.monotonic()

    async def _answer(self, call: Call, patience: Patience, observer: RequestObserver, timing: RequestTiming) -> _RawReply:
        """The response to one request, within the time that this upstream may be silent."""
        began, silence = time.monotonic(), Silence(self.health.limit_s(patience.left_s()), call.size)
        try:
            async with silence:
                raw = await self._send(call, observer, timing, silence)
        except TimeoutError as exc:
            if not silence.expired:
                raise
            self.health.unanswered(began)
            message = f"the {self._who} was silent for {silence.limit_s:.1f} s"
            raise self._error(f"{self._codes}_timeout", message, kind="silent", retryable=True) from exc
        except PortError as exc:
            if exc.status is not None:
                self.health.answered()
            elif isinstance(exc, self._error) and isinstance(exc.__cause__, aiohttp.ClientError):
                self.health.unanswered(began)
            raise
        self.health.answered(max(0.0, time.monotonic() - timing.sent_at) if math.isfinite(timing.sent_at) else None)
        return raw

    async def _send(self, call: Call, observer: RequestObserver, timing: RequestTiming, silence: Silence) -> _RawReply:
        began = time.monotonic()
        load_errors: list[PortError] = []
        try:
            url = f"{self._upstream.url}{call.path}"
            headers = {
                "content-type": call.content_type,
                "content-length": str(call.size),
                "accept": "application/json",
                # Base64 images do not compress; skip gzip.
                "accept-encoding": "identity",
                **self._auth(),
                **call.headers,
                **tracing.headers(),
            }
            pieces = _observed(call.pieces(), load_errors, timing)
            async with self._client.post(url, data=pieces, headers=headers, allow_redirects=False) as reply:
                silence.received()
                ok = 200 <= reply.status < 300  # noqa: PLR2004
                is_image = reply.content_type == RAW_IMAGE and RAW_IMAGE in headers["accept"]
                streams = ok and call.on_partial is not None and reply.content_type == _EVENT_STREAM
                if streams:
                    body = await self._read_events(reply, call, silence)
                else:
                    body = await self._read(reply, call.max_reply, silence, is_image=is_image) if ok else await _start(reply)
        except _CONFIGURATION_ERRORS as exc:
            message = f"the {self._role}'s URL or key is not valid: {exc}"
            raise self._error(f"{self._codes}_unreachable", message, kind="away") from exc
        except aiohttp.ClientError as exc:
            raise load_errors[0] if load_errors else self._connection_error(exc) from exc
        timing.unanswered_s = math.inf
        if ok:
            return _RawReply(body, reply.headers, time.monotonic() - began, is_image)
        if reply.status in _FULL:
            observer.rejected()
        raise self._status_error(reply, body)

    def _connection_error(self, exc: Exception) -> PortError:
        # Other connection errors, such as a server that hangs up, come after the connection was made.
        if isinstance(exc, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError):
            message = f"the {self._who} cannot be reached ({type(exc).__name__})"
            return self._error(f"{self._codes}_unreachable", message, kind="away", retryable=True)
        message = f"the connection to the {self._who} broke ({type(exc).__name__})"
        return self._error(f"{self._codes}_failed", message, retryable=True)

    async def _read(self, reply: aiohttp.ClientResponse, max_reply: int | None, silence: Silence, *, is_image: bool) -> bytes:
        """The body of a successful response: unencoded, and bounded in bytes and values before any of it is parsed."""
        self._check_encoding(reply)
        limit = min(self._upstream.max_reply, max_reply or self._upstream.max_reply)
        body = _ImageBody() if is_image else JsonBody()
        try:
            async for chunk in reply.content.iter_any():
                if body.size + len(chunk) > limit:
                    raise self._error(f"{self._codes}_bad_reply", f"the {self._role}'s reply is larger than {limit:,} bytes")
                body.add(chunk)
                silence.received(chunk)
        except TooManyValuesError as exc:
            message = f"the {self._role}'s reply has more than {MAX_JSON_VALUES:,} values"
            raise self._error(f"{self._codes}_bad_reply", message) from exc
        return body.content()

    async def _read_events(self, reply: aiohttp.ClientResponse, call: Call, silence: Silence) -> bytes:
        """The result of a stream in the form of a whole reply; its unfinished pictures are handed on as they come."""
        self._check_encoding(reply)
        # The result and the unfinished pictures before it.
        limit = _STREAMED_PICTURES * min(self._upstream.max_reply, call.max_reply or self._upstream.max_reply)
        stream = EventStream()
        async for chunk in reply.content.iter_any():
            if stream.size + len(chunk) > limit:
                raise self._error(f"{self._codes}_bad_reply", f"the {self._role}'s stream is larger than {limit:,} bytes")
            # Each event is a sign of life, and the answer is the last of them.
            silence.received()
            try:
                pictures = stream.add(chunk)
            except TooManyValuesError as exc:
                message = f"an event of the {self._role}'s stream has more than {MAX_JSON_VALUES:,} values"
                raise self._error(f"{self._codes}_bad_reply", message) from exc
            except TooManyLinesError as exc:
                message = f"the {self._role}'s stream has too many lines"
                raise self._error(f"{self._codes}_bad_reply", message) from exc
            except orjson.JSONDecodeError:
                break
            for picture in pictures:
                assert call.on_partial is not None
                with silence.paused():
                    await call.on_partial(picture)
            if stream.completed is not None:
                return orjson.dumps(as_reply(stream.completed))
            if stream.error is not None:
                raise self._stream_error(stream.error)
        # Told outside the retries, as every reply that cannot be read: the server must not do the work again at once.
        return b"a stream without a result"

    def _stream_error(self, body: bytes) -> PortError:
        """The error of a stream that had begun: its code tells the status that it would have had, and whether to repeat it."""
        code = _error_code(body)
        row = TABLE.get(code)
        return self._error_of(row.status if row else 500, body, retry_allowed=row is None or row.retryable)

    def _check_encoding(self, reply: aiohttp.ClientResponse) -> None:
        encoding = reply.headers.get("content-encoding", "").strip().lower()
        if encoding not in _IDENTITY:
            # A few kilobytes can stand for gigabytes, and identity was asked for.
            message = f"the {self._role}'s reply has the content encoding {shown(encoding)}; identity was requested"
            raise self._error(f"{self._codes}_bad_reply", message)

    def _json(self, body: bytes) -> Any:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            start = body[:40].decode("utf-8", "replace")
            message = f"the {self._role}'s reply is not JSON: {start!r}"
            raise self._error(f"{self._codes}_bad_reply", message, retryable=True) from exc

    def _status_error(self, reply: aiohttp.ClientResponse, body: bytes) -> PortError:
        # The header overrides the status, as in OpenAI's clients: a retry may repeat work that was done.
        retry_allowed = reply.headers.get("x-should-retry") != "false"
        return self._error_of(reply.status, body, _retry_after(reply), retry_allowed=retry_allowed)

    def _error_of(self, status: int, body: bytes, retry_after: float | None = None, *, retry_allowed: bool = True) -> PortError:
        message = f"the {self._role} answered {status}: {_error_message(body)}"
        if status == _BUSY:
            code = f"{self._codes}_overloaded"
            return self._error(code, message, kind="busy", retryable=retry_allowed, retry_after=retry_after, status=status)
        if status >= 500:  # noqa: PLR2004
            kind: Literal["away", "fault"] = "away" if status == _NOT_READY else "fault"
            retry_after = retry_after if status in _RETRY_AFTER_HONOURED else None
            return self._error(
                f"{self._codes}_failed", message, kind=kind, retryable=retry_allowed, retry_after=retry_after, status=status
            )
        if _error_code(body) == "edit_failed":
            # A sentence of our own workers about this instruction, written for the caller.
            message = _error_message(body)
        retryable = retry_allowed and status == 408  # noqa: PLR2004
        code = self._refusal_code(status, _error_code(body), message)
        return self._error(code, message, kind="refused", retryable=retryable, status=status)

    def _refusal_code(self, status: int, code: str, message: str) -> str:
        """Our error code for a refusal: the server's own where it is one of ours, otherwise by its status."""
        if code in {"content_refused", "context_overflow"}:
            return code
        if code in _CONTENT_CODES:
            return "content_refused"
        if self._role == "editor":
            return "editor_refused" if status in _CALLERS_FAULT else "editor_failed"
        if code == "context_length_exceeded" or _CONTEXT_OVERFLOW.search(message):
            return "context_overflow"
        return "thinker_misconfigured" if status in _MISCONFIGURED else "thinker_failed"

    def _auth(self) -> dict[str, str]:
        key = self._upstream.api_key
        if key and not key.isascii():
            raise ValueError("the key is not ASCII")
        return {"authorization": f"Bearer {key}"} if key else {}


class _ImageBody:
    """The bytes of a picture as they arrive."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)

    def content(self) -> bytes:
        return b"".join(self._pieces)


async def _start(reply: aiohttp.ClientResponse) -> bytes:
    """The start of a body; nothing of one that is encoded."""
    if reply.headers.get("content-encoding", "").strip().lower() not in _IDENTITY:
        return b""
    start = b""
    while len(start) < _MAX_ERROR_BYTES and (chunk := await reply.content.read(_MAX_ERROR_BYTES - len(start))):
        start += chunk
    return start


async def _observed(
    pieces: AsyncIterator[bytes | memoryview], load_errors: list[PortError], timing: RequestTiming
) -> AsyncIterator[bytes | memoryview]:
    """The pieces. Errors in loading them are collected, since the transport reports them as a broken connection."""
    try:
        async for piece in pieces:
            yield piece
    except PortError as exc:
        load_errors.append(exc)
        raise
    timing.sent_at = time.monotonic()


def _retry(exc: PortError, patience: Patience) -> bool | float:
    """Whether to retry, or after how many seconds; not if the server's Retry-After is past the end of the call."""
    if not exc.retryable or exc.retry_after is None:
        return exc.retryable
    return exc.retry_after if exc.retry_after < patience.left_s() else False


def _retry_after(reply: aiohttp.ClientResponse) -> float | None:
    seconds = read_retry_after(reply.headers.get("retry-after"), time.time())
    return None if seconds is None else min(_MAX_RETRY_AFTER_S, max(_MIN_RETRY_AFTER_S, seconds))


def _error_message(body: bytes) -> str:
    """The message in an error body, in one line: in OpenAI's format, in FastAPI's, or the start of the body."""
    value = _json_or_none(body)
    text: Any = None
    if isinstance(value, dict):
        error = value.get("error")
        text = error.get("message") if isinstance(error, dict) else error or value.get("detail") or value.get("message")
    if not text or not isinstance(text, str):
        text = body[: 80 if value is None else _MAX_MESSAGE].decode("utf-8", "replace")
    return shown(" ".join(text[:_MAX_MESSAGE].split()), _MAX_MESSAGE) or "no message"


def _error_code(body: bytes) -> str:
    value = _json_or_none(body)
    error = value.get("error") if isinstance(value, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


def _json_or_none(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None

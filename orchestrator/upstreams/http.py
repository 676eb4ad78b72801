"""One HTTP call to a collaborator: bounded in time, size and retries, with its exceptions translated once.

Retries follow stamina's jittered exponential backoff, or the server's own ``Retry-After``; they end when the caller's
time is up, so a retry never outlives the session's deadline.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import aiohttp
import httpx
import orjson
import stamina

from orchestrator.ports import EditorError, PortError, ThinkerError
from orchestrator.request_timing import RequestTiming
from services.serving import tracing

Role = Literal["editor", "thinker"]
_ERRORS: Final[Mapping[Role, type[PortError]]] = {"editor": EditorError, "thinker": ThinkerError}
_BUSY: Final = 429
_NOT_READY: Final = 503
_FULL: Final = frozenset({_BUSY, _NOT_READY})
_OUR_MISTAKE: Final = frozenset({401, 403, 404})
"""What says that a thinker is not what it was configured as: a wrong key, path or model."""
_TOO_LONG: Final = re.compile(
    r"maximum (?:context|model) length|context[ _](?:length|window)|longer than the maximum|too many tokens|prompt is too long",
    re.IGNORECASE,
)
_CALLERS_FAULT: Final = frozenset({400, 413, 415, 422})
"""What an editor says of the request itself: the wish, the size, the mask. A wrong key or path is our mistake."""
_RETRY_AT_ONCE: Final = frozenset({502, 503, 504})
_LONGEST_MESSAGE: Final = 500
_LIBRARIES: Final = (httpx.HTTPError, aiohttp.ClientError)
"""What the client and its transport raise; not all of aiohttp's is translated for us."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a collaborator is, and how patiently it is asked.

    Attributes:
        url: base URL up to and including ``/v1``.
        api_key: sent as a bearer token, or None.
        attempts: tries of one call.
        timeout_s: seconds one call may take at most, retries included.
        away_s: seconds for which one that cannot be reached, or says that it is not ready (503), is waited for: it may be
            starting again.
        max_reply: bytes of reply body.
    """

    url: str
    api_key: str | None = None
    attempts: int = 4
    timeout_s: float = 600.0
    away_s: float = 0.0
    max_reply: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lazy:
    """A piece of a request body that is made when it is sent: its size in bytes is known, its bytes are not held."""

    size: int
    load: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """One POST: path below the base URL, body in pieces, content type and further headers."""

    path: str
    body: Sequence[bytes | Lazy]
    content_type: str
    headers: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        return sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in self.body)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, each piece made as it is due; can be iterated again for a retry."""
        for piece in self.body:
            if isinstance(piece, bytes):
                yield piece
                continue
            made = await piece.load()
            if len(made) != piece.size:
                # The length is announced already: a shorter body would hang at the other end.
                raise PortError("internal_error", f"an image to send has {len(made)} bytes where {piece.size} were recorded")
            yield made


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the body's JSON, the headers, and the seconds that the last try took."""

    json: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """A success as it came, and the seconds that its try took."""

    body: bytes
    headers: Mapping[str, str]
    elapsed_s: float


class HttpUpstream:
    """Posts to one collaborator; what goes wrong comes out as that role's `PortError`."""

    def __init__(self, role: Role, upstream: Upstream, client: httpx.AsyncClient) -> None:
        self._role = role
        self._upstream = upstream
        self._client = client
        self._error = _ERRORS[role]
        # Without a password that the URL may hold.
        address = upstream.url.partition("//")[2].partition("/")[0].rpartition("@")[2]
        self._facts: tracing.Attributes = {"http.request.method": "POST", "server.address": address, "editthinker.role": role}

    async def post(
        self, call: Call, timeout_s: float, busy: Callable[[], None] = lambda: None, tries: list[RequestTiming] | None = None
    ) -> Reply:
        """The reply.

        Args:
            call: what to send.
            timeout_s: seconds for all of it, retries included.
            busy: called at every 429 and 503, also where the call is repeated.
            tries: gets each sending, as it happens.

        Raises:
            EditorError, ThinkerError: with a code of the error table; `retryable` says whether to try again later.
        """
        allowed = max(0.0, min(timeout_s, self._upstream.timeout_s))
        try:
            async with asyncio.timeout(allowed):
                answer = await self._with_retries(call, time.monotonic() + allowed, busy, [] if tries is None else tries)
        except TimeoutError as exc:
            message = f"the {self._role} did not answer within {allowed:.1f} s"
            raise self._error(f"{self._role}_timeout", message, retryable=True) from exc
        # Read out here, since an answer that makes no sense is no reason to have the work done again at once.
        return Reply(self._json(answer.body), answer.headers, answer.elapsed_s)

    async def ready(self) -> bool:
        """Whether the collaborator lists its models, which every server of this protocol can."""
        try:
            reply = await self._client.get(f"{self._upstream.url}/models", headers=self._auth(), timeout=2.0)
        except (*_LIBRARIES, httpx.InvalidURL, ValueError):
            return False
        # Some servers have no such list; any answer that is not a server error shows that somebody is there.
        return reply.status_code < 500  # noqa: PLR2004

    async def _with_retries(self, call: Call, ends: float, told_busy: Callable[[], None], tries: list[RequestTiming]) -> _Answer:
        """Faults are tried `attempts` times; a server that says it is busy is waited for as long as there is time, and one
        that is away for `away_s`.
        """
        began = time.monotonic()
        left = max(0.001, ends - began)

        def while_busy(exc: Exception) -> bool | float:
            if not isinstance(exc, PortError):
                return False
            waited = exc.kind == "away" and time.monotonic() < began + self._upstream.away_s
            return _again(exc, ends) if waited or exc.kind == "busy" else False

        def while_faulty(exc: Exception) -> bool | float:
            return _again(exc, ends) if isinstance(exc, PortError) and exc.kind != "busy" else False

        busy = stamina.retry_context(on=while_busy, attempts=None, timeout=left, wait_initial=0.5, wait_max=10.0)
        async for when_free in busy:
            with when_free:
                faults = stamina.retry_context(
                    on=while_faulty, attempts=self._upstream.attempts, timeout=left, wait_initial=0.2, wait_max=8.0
                )
                async for attempt in faults:
                    with attempt:
                        tries.append(RequestTiming())
                        return await self._once(call, told_busy, tries[-1])
        raise AssertionError("stamina either returns or raises")  # pragma: no cover

    async def _once(self, call: Call, told_busy: Callable[[], None], this: RequestTiming) -> _Answer:
        with tracing.span(f"POST {call.path}", "client", self._facts):
            try:
                return await self._sent(call, told_busy, this)
            except PortError as exc:
                if exc.kind != "fault":
                    this.worked_s = 0.0
                raise
            finally:
                this.back_at = time.monotonic()

    async def _sent(self, call: Call, told_busy: Callable[[], None], this: RequestTiming) -> _Answer:
        began = time.monotonic()
        headers = {
            "content-type": call.content_type,
            "content-length": str(call.size),
            "accept": "application/json",
            # An image in base64 does not get smaller, only slower.
            "accept-encoding": "identity",
            **self._auth(),
            **call.headers,
            **tracing.headers(),
        }
        unsent: list[PortError] = []
        try:
            url = f"{self._upstream.url}{call.path}"
            async with self._client.stream("POST", url, content=_kept(call.pieces(), unsent, this), headers=headers) as reply:
                body = await self._read(reply)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as exc:
            message = f"the {self._role}'s URL or key is not valid: {exc}"
            raise self._error(f"{self._role}_unreachable", message, kind="away") from exc
        except _LIBRARIES as exc:
            raise unsent[0] if unsent else self._broken(exc) from exc
        if reply.is_success:
            return _Answer(body, reply.headers, time.monotonic() - began)
        if reply.status_code in _FULL:
            told_busy()
        raise self._refused(reply, body)

    def _broken(self, exc: Exception) -> PortError:
        if _never_connected(exc):
            message = f"the {self._role} cannot be reached ({type(exc).__name__})"
            return self._error(f"{self._role}_unreachable", message, kind="away", retryable=True)
        message = f"the connection to the {self._role} broke ({type(exc).__name__})"
        return self._error(f"{self._role}_failed", message, retryable=True)

    async def _read(self, reply: httpx.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        packed = "content-encoding" in reply.headers
        async for chunk in reply.aiter_bytes() if packed else reply.aiter_raw():
            size += len(chunk)
            if size > self._upstream.max_reply:
                message = f"the {self._role}'s reply is larger than {self._upstream.max_reply:,} bytes"
                raise self._error(f"{self._role}_bad_reply", message)
            chunks.append(chunk)
        return b"".join(chunks)

    def _json(self, body: bytes) -> Any:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            start = body[:40].decode("utf-8", "replace")
            message = f"the {self._role} answered something that is not JSON: {start!r}"
            raise self._error(f"{self._role}_bad_reply", message, retryable=True) from exc

    def _refused(self, reply: httpx.Response, body: bytes) -> PortError:
        status, wait = reply.status_code, _retry_after(reply)
        message = f"the {self._role} answered {status}: {_told(body)}"
        # A server's own word counts for more than its status: work that was done would be done again.
        wanted = reply.headers.get("x-should-retry") != "false"
        if status == _BUSY:
            code = f"{self._role}_overloaded"
            return self._error(code, message, kind="busy", retryable=wanted, retry_after=wait, status=status)
        if status >= 500:  # noqa: PLR2004
            kind: Literal["away", "fault"] = "away" if status == _NOT_READY else "fault"
            wait = wait if status in _RETRY_AT_ONCE else None
            return self._error(f"{self._role}_failed", message, kind=kind, retryable=wanted, retry_after=wait, status=status)
        retryable = wanted and status == 408  # noqa: PLR2004
        return self._error(self._named(status, _code(body), message), message, kind="refused", retryable=retryable, status=status)

    def _named(self, status: int, code: str, message: str) -> str:
        """The code of what the server refused: its own word where we know it, or what its status says."""
        if code in {"content_refused", "context_overflow"}:
            return code
        if self._role == "editor":
            return "editor_refused" if status in _CALLERS_FAULT else "editor_failed"
        if code == "context_length_exceeded" or _TOO_LONG.search(message):
            return "context_overflow"
        return "thinker_misconfigured" if status in _OUR_MISTAKE else "thinker_failed"

    def _auth(self) -> dict[str, str]:
        key = self._upstream.api_key
        return {"authorization": f"Bearer {key}"} if key else {}


async def _kept(pieces: AsyncIterator[bytes], unsent: list[PortError], this: RequestTiming) -> AsyncIterator[bytes]:
    """The pieces; an error in making one is kept, since the transport reports it as a broken connection."""
    try:
        async for piece in pieces:
            yield piece
    except PortError as exc:
        unsent.append(exc)
        raise
    this.sent_at = time.monotonic()


def _never_connected(exc: Exception) -> bool:
    cause = exc.__cause__
    if isinstance(cause, aiohttp.ClientConnectionError):
        # A server that hangs up is reported as one that was never reached.
        return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError)
    return isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def _again(exc: PortError, ends: float) -> bool | float:
    """Whether to try again, or after how many seconds; not where the server's own time lies beyond the call's end."""
    if not exc.retryable or exc.retry_after is None:
        return exc.retryable
    return exc.retry_after if time.monotonic() + exc.retry_after < ends else False


def _retry_after(reply: httpx.Response) -> float | None:
    """Seconds to wait: given as such, or as the date of the end."""
    text = reply.headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(60.0, max(0.05, seconds))


def _told(body: bytes) -> str:
    """The message in an error body, in one line: OpenAI's, FastAPI's, or the start of whatever it is."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    text: Any = None
    if isinstance(value, dict):
        error = value.get("error")
        text = error.get("message") if isinstance(error, dict) else error or value.get("detail") or value.get("message")
    if not text or not isinstance(text, str):
        text = body[: 80 if value is None else _LONGEST_MESSAGE].decode("utf-8", "replace")
    return " ".join(text[:_LONGEST_MESSAGE].split()) or "no message"


def _code(body: bytes) -> str:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = value.get("error") if isinstance(value, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""

"""One HTTP call to a collaborator: bounded in time, size and retries, with its exceptions translated once.

Retries follow stamina's jittered exponential backoff, or the server's own ``Retry-After``; they end when the caller's
time is up, so a retry never outlives the session's deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx
import orjson
import stamina

from orchestrator.ports import EditorError, PortError, ThinkerError

Role = Literal["editor", "thinker"]
_ERRORS: Final[Mapping[Role, type[PortError]]] = {"editor": EditorError, "thinker": ThinkerError}
_BUSY: Final = 429
_RETRY_AT_ONCE: Final = frozenset({502, 503, 504})
_LONGEST_MESSAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a collaborator is, and how patiently it is asked.

    Attributes:
        url: base URL up to and including ``/v1``.
        api_key: sent as a bearer token, or None.
        attempts: tries of one call.
        timeout_s: seconds one call may take at most, retries included.
        max_reply: bytes of reply body.
    """

    url: str
    api_key: str | None = None
    attempts: int = 4
    timeout_s: float = 600.0
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
            yield piece if isinstance(piece, bytes) else await piece.load()


class HttpUpstream:
    """Posts to one collaborator; what goes wrong comes out as that role's `PortError`."""

    def __init__(self, role: Role, upstream: Upstream, client: httpx.AsyncClient) -> None:
        self._role = role
        self._upstream = upstream
        self._client = client
        self._error = _ERRORS[role]

    async def post(self, call: Call, timeout_s: float) -> Any:
        """The reply's JSON.

        Raises:
            EditorError, ThinkerError: with a code of the error table; `retryable` says whether to try again later.
        """
        ends = time.monotonic() + min(timeout_s, self._upstream.timeout_s)
        try:
            async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                return await self._with_retries(call, ends)
        except TimeoutError as exc:
            message = f"the {self._role} did not answer within {timeout_s:.1f} s"
            raise self._error(f"{self._role}_timeout", message, retryable=True) from exc

    async def ready(self) -> bool:
        """Whether the collaborator lists its models, which every server of this protocol can."""
        try:
            reply = await self._client.get(f"{self._upstream.url}/models", headers=self._auth(), timeout=2.0)
        except httpx.HTTPError:
            return False
        # Some servers have no such list; any answer that is not a server error shows that somebody is there.
        return reply.status_code < 500  # noqa: PLR2004

    async def _with_retries(self, call: Call, ends: float) -> Any:
        """Faults are tried `attempts` times; a server that says it is busy is waited for as long as there is time."""
        left = max(0.001, ends - time.monotonic())
        busy = stamina.retry_context(on=_while_busy, attempts=None, timeout=left, wait_initial=0.5, wait_max=10.0)
        async for when_free in busy:
            with when_free:
                faults = stamina.retry_context(
                    on=_while_faulty, attempts=self._upstream.attempts, timeout=left, wait_initial=0.2, wait_max=8.0
                )
                async for attempt in faults:
                    with attempt:
                        return await self._once(call)
        raise AssertionError("stamina either returns or raises")  # pragma: no cover

    async def _once(self, call: Call) -> Any:
        headers = {
            "content-type": call.content_type,
            "content-length": str(call.size),
            "accept": "application/json",
            **self._auth(),
            **call.headers,
        }
        try:
            url = f"{self._upstream.url}{call.path}"
            async with self._client.stream("POST", url, content=call.pieces(), headers=headers) as reply:
                body = await self._read(reply)
        except httpx.InvalidURL as exc:
            raise self._error(f"{self._role}_unreachable", f"the {self._role}'s URL is not valid: {exc}") from exc
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as exc:
            message = f"the {self._role} cannot be reached ({type(exc).__name__})"
            raise self._error(f"{self._role}_unreachable", message, retryable=True) from exc
        except httpx.HTTPError as exc:
            message = f"the connection to the {self._role} broke ({type(exc).__name__})"
            raise self._error(f"{self._role}_failed", message, retryable=True) from exc
        if reply.is_success:
            return self._json(body)
        raise self._refused(reply, body)

    async def _read(self, reply: httpx.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in reply.aiter_bytes():
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
        status = reply.status_code
        message = f"the {self._role} answered {status}: {_told(body)}"
        if status == _BUSY:
            return self._error(f"{self._role}_overloaded", message, retryable=True, retry_after=_retry_after(reply))
        if status in _RETRY_AT_ONCE:
            return self._error(f"{self._role}_failed", message, retryable=True, retry_after=_retry_after(reply))
        if status >= 500:  # noqa: PLR2004
            return self._error(f"{self._role}_failed", message, retryable=True)
        code = _code(body)
        known = code if code in {"content_refused", "context_overflow"} else f"{self._role}_failed"
        return self._error(known, message, retryable=status == 408)  # noqa: PLR2004

    def _auth(self) -> dict[str, str]:
        key = self._upstream.api_key
        return {"authorization": f"Bearer {key}"} if key else {}


def _while_busy(exc: Exception) -> bool | float:
    if not isinstance(exc, PortError) or not exc.code.endswith("_overloaded"):
        return False
    return exc.retry_after if exc.retry_after is not None else True


def _while_faulty(exc: Exception) -> bool | float:
    if not isinstance(exc, PortError) or not exc.retryable or exc.code.endswith(("_bad_reply", "_overloaded")):
        return False
    return exc.retry_after if exc.retry_after is not None else True


def _retry_after(reply: httpx.Response) -> float | None:
    text = reply.headers.get("retry-after", "")
    try:
        return min(60.0, max(0.05, float(text)))
    except ValueError:
        return None


def _told(body: bytes) -> str:
    """The message in an error body: OpenAI's, FastAPI's, or the start of whatever it is."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        error = value.get("error")
        text = error.get("message") if isinstance(error, dict) else error or value.get("detail") or value.get("message")
        if text:
            return str(text)[:_LONGEST_MESSAGE]
    return body[:80].decode("utf-8", "replace").strip() or "no message"


def _code(body: bytes) -> str:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = value.get("error") if isinstance(value, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""

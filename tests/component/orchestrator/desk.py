"""A collaborator behind real HTTP that answers what a test puts on its desk, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.loop.events import ImageRef
from orchestrator.ports.collaborators import RequestTiming, StoredImage
from orchestrator.ports.errors import EditorError, PortError, ThinkerError
from orchestrator.upstreams.http import Call, HttpUpstream, Role, Upstream
from orchestrator.upstreams.liveness import Patience, UpstreamHealth
from orchestrator.upstreams.pool import http_client
from services.errors import TABLE
from services.imaging.codec import inspect
from tests.doubles.clock import ManualTime
from tests.doubles.waiting import turns, until

WAIT_S = 50.0
"""Of a call: half of it is what one request may be silent, and a Retry-After of a minute is past its end."""
PAUSE_S = 5.0
"""What a pause between two requests takes by the clock of a `Pace`."""


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    form: list[tuple[str, str | tuple[str | None, str | None, bytes]]]
    """(name, text) or (name, (file name, content type, bytes)), in order."""


Answer = Response | Callable[[], Response] | Callable[["Desk", Request], Awaitable[Response]]


@dataclass
class Desk:
    """What is answered, in order; the last answer is repeated. None answered yet is an error of the test."""

    answers: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a caller of `holding` or `stalling` goes away."""
    url: str = ""
    arriving: int = 0
    """Requests whose bodies are being read."""

    def reset(self) -> None:
        self.answers, self.seen = [], []
        self.arrived, self.left = threading.Event(), threading.Event()

    async def answer(self, request: Request) -> Response:
        self.arriving += 1
        try:
            self.seen.append(await _seen(request))
        finally:
            self.arriving -= 1
        answer = self.answers[min(len(self.seen), len(self.answers)) - 1]
        self.arrived.set()
        if isinstance(answer, Response):
            # A response object is sent once; a repeat is made of the same parts.
            headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
            return Response(bytes(answer.body), answer.status_code, headers)
        if asyncio.iscoroutinefunction(answer):
            held: Response = await answer(self, request)
            return held
        return answer()  # type: ignore[call-arg,return-value]

    async def quiet(self, request: Request) -> Response:
        """Answers once every request has been seen that was sent before this one, by callers that may have left since."""
        await turns()
        while self.arriving:
            await asyncio.sleep(0.001)
        return Response()

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/quiet", self.quiet), Route("/v1/{path:path}", self.answer, methods=["GET", "POST"])])


async def _seen(request: Request) -> Seen:
    body = await request.body()
    form: list[tuple[str, Any]] = []
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form() as parts:
            for name, value in parts.multi_items():
                file = isinstance(value, UploadFile)
                form.append((name, (value.filename, value.content_type, await value.read()) if file else value))  # type: ignore[union-attr]
    return Seen(request.method, request.url.path, dict(request.headers), body, form)


@dataclass
class Pace:
    """Seconds that pass when a test says so: for the times of requests, and for what waits in the test's event loop."""

    clock: ManualTime
    loop: asyncio.AbstractEventLoop
    request: RequestTiming | None = None
    """The last one to an editor."""

    def now(self) -> float:
        """`orchestrator.ports.collaborators.Clock`."""
        return self.clock.now()

    def pass_by(self, seconds: float) -> None:
        """Let so many seconds pass; in any thread."""
        self.clock.advance(seconds)
        self.loop.call_soon_threadsafe(lambda: None)

    async def work(self, seconds: float) -> None:
        """Let them pass at the editor: its caller has seen its request gone."""
        await until(lambda: self.request is not None and math.isfinite(self.request.sent_at))
        self.pass_by(seconds)


async def holding(desk: Desk, request: Request) -> Response:
    """Answers nothing until the caller leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    desk.left.set()
    return Response(status_code=499)


async def stalling(desk: Desk, request: Request) -> Response:
    """Sends the start of a body, and no more until the caller leaves."""

    async def body() -> AsyncIterator[bytes]:
        yield b'{"data": ['
        await holding(desk, request)

    return StreamingResponse(body(), media_type="application/json")


def busy(retry_after: str | None = "0", status: int = 429) -> Response:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return JSONResponse({"error": {"message": "busy"}}, status, headers)


def image_reply(data: bytes, **more: Any) -> Response:
    return JSONResponse({"created": 0, "data": [{"b64_json": base64.b64encode(data).decode()}], **more})


def stored(data: bytes) -> StoredImage:
    """A picture as the store hands it out."""
    info = inspect(data)
    sha256 = hashlib.sha256(data).hexdigest()

    async def load() -> bytes:
        return data

    ref = ImageRef(sha256=sha256, media_type=info.media_type, bytes=len(data), width=info.width, height=info.height)
    return StoredImage(ref, load)


@asynccontextmanager
async def asking(role: Role, url: str, health: UpstreamHealth | None = None, **options: Any) -> AsyncIterator[HttpUpstream]:
    """An upstream of that role, over the transport that the application uses, with connections of its own."""
    async with http_client() as client:
        yield HttpUpstream(role, Upstream(f"{url}/v1", **options), client, health)


@asynccontextmanager
async def raw_server(reply: bytes, *, lingering: bool = False) -> AsyncIterator[str]:
    """Reads a request's head, writes these bytes, and closes the connection: for answers that no framework sends.

    Lingering: only when the other end has closed.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        while lingering and await reader.read(1 << 16):
            pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    ends: list[asyncio.Future[None]] = []

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(asyncio.ensure_future(serve(reader, writer)))
        await ends[-1]

    server = await asyncio.start_server(tracked, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*ends, return_exceptions=True)


CALL = Call("/things", [b"hello ", b"there"], "text/plain", {"idempotency-key": "k"})


async def post(desk: Desk | str, call: Call = CALL, *, role: Role = "editor", timeout_s: float = WAIT_S, **options: Any) -> Any:
    async with asking(role, desk.url if isinstance(desk, Desk) else desk, **options) as upstream:
        return (await upstream.post(call, Patience.of(timeout_s))).json


async def failure(
    desk: Desk | str, *, role: Role = "editor", timeout_s: float = WAIT_S, call: Call = CALL, **options: Any
) -> PortError:
    """The error of a call; it is always the role's own, with a code of the table."""
    expected = EditorError if role == "editor" else ThinkerError
    with pytest.raises(expected) as caught:
        await post(desk, call, role=role, timeout_s=timeout_s, **options)
    assert caught.value.code in TABLE
    assert caught.value.message and "\n" not in caught.value.message and "Traceback" not in caught.value.message
    return caught.value

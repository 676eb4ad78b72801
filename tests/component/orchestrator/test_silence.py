"""Upstreams that take a request and never answer: the limit of a request, the repeat, the fallback, and what is charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from orchestrator.ports.collaborators import EditorUsage, EditReply
from orchestrator.ports.errors import EditorError
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit
from orchestrator.upstreams.editor import HttpEditor
from orchestrator.upstreams.fallback import EditorWithFallback, ThinkerWithFallback
from orchestrator.upstreams.http import HttpUpstream, Role, Upstream
from orchestrator.upstreams.liveness import Patience, Silence, UpstreamHealth
from orchestrator.upstreams.pool import http_client
from orchestrator.upstreams.thinker import HttpThinker
from tests.component.orchestrator.desk import CALL, WAIT_S, Answer, Desk, Pace, holding, image_reply
from tests.component.orchestrator.test_editor_slots import PICTURE, order
from tests.component.orchestrator.test_thinker_client import GOOD, dialect
from tests.component.orchestrator.test_thinker_client import order as critique_order
from tests.doubles.waiting import turns, until

LIMIT_S = 10.0
CALL_S = 10_000.0


def health(seconds: float = 0.01) -> UpstreamHealth:
    """Of an upstream that usually answers within so many seconds."""
    known = UpstreamHealth(min_s=LIMIT_S, max_s=CALL_S)
    for _ in range(30):
        known.answered(seconds)
    return known


def dead() -> UpstreamHealth:
    """Of an upstream whose breaker is open."""
    known = health()
    for _ in range(12):
        known.unanswered()
    return known


@dataclass
class Server:
    """What upstreams do at the pace of a test.

    Attributes:
        heard: how often a caller has seen a sign of life.
    """

    pace: Pace
    heard: int = 0

    async def silent(self, desk: Desk, request: Request) -> Response:
        """Answers nothing for longer than a request may be silent, until the caller leaves."""
        self.pace.pass_by(1.1 * LIMIT_S)
        return await holding(desk, request)

    async def stalling(self, desk: Desk, request: Request) -> Response:
        """Sends the start of a body, and no more."""

        async def body() -> AsyncIterator[bytes]:
            async for piece in self.pieces(b'{"data": [', 1, 1.1 * LIMIT_S):
                yield piece
            await holding(desk, request)

        return StreamingResponse(body(), media_type="application/json")

    async def pieces(self, piece: bytes, count: int, pause_s: float) -> AsyncIterator[bytes]:
        """The same piece again and again, with a pause after each; it begins when the caller has seen the piece."""
        for _ in range(count):
            heard = self.heard
            yield piece
            await until(lambda heard=heard: self.heard > heard)  # type: ignore[misc]  # bound at once
            self.pace.pass_by(pause_s)


@pytest.fixture
def server(pace: Pace, monkeypatch: pytest.MonkeyPatch) -> Server:
    made, received = Server(pace), Silence.received

    def seen(silence: Silence, chunk: bytes = b"") -> None:
        received(silence, chunk)
        made.heard += 1

    monkeypatch.setattr(Silence, "received", seen)
    return made


@pytest.fixture
async def upstream(desk: Desk) -> AsyncIterator[HttpUpstream]:
    async with http_client() as client:
        yield HttpUpstream("editor", Upstream(f"{desk.url}/v1", timeout_s=CALL_S), client, health())


@pytest.mark.parametrize("way", ["silent", "stalling"], ids=["no answer", "a stalled body"])
async def test_a_silent_request_is_repeated_under_the_same_key(
    desk: Desk, upstream: HttpUpstream, server: Server, way: str
) -> None:
    """Long before the call ends; the server is let go, and the answer of the repeat is the call's."""
    desk.answers = [getattr(server, way), JSONResponse({"good": True})]
    reply = await upstream.post(CALL, Patience.of(CALL_S))

    assert reply.json == {"good": True}
    assert [seen.headers["idempotency-key"] for seen in desk.seen] == ["k", "k"]
    assert await asyncio.to_thread(desk.left.wait, WAIT_S)


async def test_requests_that_stay_silent_end_the_call_early(desk: Desk, upstream: HttpUpstream, server: Server) -> None:
    """After as many as are configured."""
    desk.answers = [server.silent]
    with pytest.raises(EditorError, match=r"silent for \d+\.\d s") as caught:
        await upstream.post(CALL, Patience.of(CALL_S))

    assert (caught.value.code, caught.value.retryable) == ("editor_timeout", True)
    assert len(desk.seen) == 4


def blanks(server: Server, count: int, pause_s: float, end: bytes = b'{"good": true}') -> Answer:
    """Sends blank bytes while it works."""

    async def answer(desk: Desk, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            async for piece in server.pieces(b" ", count, pause_s):
                yield piece
            yield end

        return StreamingResponse(body(), media_type="application/json")

    return answer


async def test_a_server_that_keeps_the_connection_alive_may_take_longer(
    desk: Desk, upstream: HttpUpstream, server: Server
) -> None:
    """Three limits here."""
    desk.answers = [blanks(server, 12, LIMIT_S / 4)]

    assert (await upstream.post(CALL, Patience.of(CALL_S))).json == {"good": True}
    assert len(desk.seen) == 1


async def test_blank_bytes_do_not_keep_a_dead_request_alive(desk: Desk, upstream: HttpUpstream, server: Server) -> None:
    """After four limits it is given up."""
    desk.answers = [blanks(server, 10_000, LIMIT_S / 4), JSONResponse({"good": True})]

    assert (await upstream.post(CALL, Patience.of(CALL_S))).json == {"good": True}
    assert len(desk.seen) == 2


def stream(server: Server, count: int, pause_s: float) -> Answer:
    """Sends an unfinished picture, comments while it works, and the result."""

    async def answer(desk: Desk, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b'data: {"type": "image_edit.partial_image"}\n\n'
            async for piece in server.pieces(b": keep-alive\n\n", count, pause_s):
                yield piece
            yield b'data: {"type": "image_edit.completed", "b64_json": "AAAA"}\n\n'

        return StreamingResponse(body(), media_type="text/event-stream")

    return answer


async def test_a_stream_that_shows_signs_of_life_may_take_as_long(desk: Desk, upstream: HttpUpstream, server: Server) -> None:
    """Three limits here, as with blank bytes; and what we do with an unfinished picture is not the server's time."""

    async def storing(event: dict[str, Any]) -> None:
        server.pace.pass_by(1.5 * LIMIT_S)
        await turns()

    desk.answers = [stream(server, 12, LIMIT_S / 4)]
    reply = await upstream.post(replace(CALL, on_partial=storing), Patience.of(CALL_S))
    assert reply.json["data"] == [{"b64_json": "AAAA"}]
    assert len(desk.seen) == 1


async def test_an_answer_that_drips_is_given_up(desk: Desk, upstream: HttpUpstream, server: Server) -> None:
    """A byte now and then is not a transfer."""

    async def dripping(desk: Desk, request: Request) -> Response:
        return StreamingResponse(server.pieces(b"[", 10_000, LIMIT_S / 4), media_type="application/json")

    desk.answers = [dripping, JSONResponse({"good": True})]
    assert (await upstream.post(CALL, Patience.of(CALL_S))).json == {"good": True}


class Two:
    """A first upstream and its fallback at one desk, told apart by their keys."""

    def __init__(self, desk: Desk, client: object, first: UpstreamHealth, role: Role = "editor") -> None:
        def upstream(key: str, known: UpstreamHealth) -> HttpUpstream:
            return HttpUpstream(role, Upstream(f"{desk.url}/v1", key, timeout_s=CALL_S), client, known)  # type: ignore[arg-type]  # a client session

        self.first, self.second = upstream("first", first), upstream("second", health())
        self.limit = AdaptiveLimit(fixed=1)

    async def edit(self, usage: EditorUsage | None = None) -> EditReply:
        second = HttpEditor(self.second, limit=AdaptiveLimit())
        both = EditorWithFallback(HttpEditor(self.first, limit=self.limit), second, "spare")
        return await both.edit(order(timeout_s=CALL_S), usage or EditorUsage())


def asked(desk: Desk) -> list[str]:
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in desk.seen]


async def test_the_fallback_of_a_silent_editor_is_asked(desk: Desk, server: Server) -> None:
    """After one repeat, and within the same call; only the work of the second is charged."""
    desk.answers = [server.silent, server.silent, image_reply(PICTURE, timings={"edit_ms": 30})]
    usage = EditorUsage()
    async with http_client() as client:
        two = Two(desk, client, health())
        reply = await two.edit(usage)

    assert reply.editor == "spare"
    assert asked(desk) == ["first", "first", "second"]
    assert usage.seconds <= 0.03
    assert two.limit.in_flight == 0


async def test_an_editor_that_stopped_answering_is_not_asked(desk: Desk) -> None:
    """The fallback is, at once; a slot of the first is not waited for."""
    desk.answers = [image_reply(PICTURE)]
    async with http_client() as client:
        two = Two(desk, client, dead())
        async with two.limit.slot(later=False):
            assert (await two.edit()).editor == "spare"

    assert asked(desk) == ["second"]


async def test_an_editor_whose_breaker_opens_during_the_wait_for_a_slot_is_not_asked(desk: Desk) -> None:
    desk.answers = [image_reply(PICTURE)]
    async with http_client() as client:
        two = Two(desk, client, health())
        async with two.limit.slot(later=False):
            waiting = asyncio.create_task(two.edit())
            while not two.limit.queued:
                await asyncio.sleep(0)
            for _ in range(12):
                two.first.health.unanswered()
        assert (await waiting).editor == "spare"

    assert asked(desk) == ["second"]


async def test_the_fallback_of_a_silent_thinker_is_asked(desk: Desk, server: Server) -> None:
    """After one repeat, not after half of the session's time."""
    desk.answers = [server.silent, server.silent, JSONResponse(GOOD)]
    async with http_client() as client:
        two = Two(desk, client, health(), "thinker")
        both = ThinkerWithFallback(HttpThinker(two.first, dialect()), HttpThinker(two.second, dialect()), "expert")
        reply = await both.critique(replace(critique_order(), timeout_s=CALL_S))

    assert reply.thinker == "expert"
    assert asked(desk) == ["first", "first", "second"]


async def test_an_upstream_without_fallback_is_waited_for_while_its_breaker_is_open(desk: Desk) -> None:
    """One request at a time; the first that is answered lets all through."""
    desk.answers = [JSONResponse({"good": True})]
    known = health()
    for _ in range(5):
        known.unanswered()
    async with http_client() as client:
        upstream = HttpUpstream("editor", Upstream(f"{desk.url}/v1"), client, known)
        replies = await asyncio.gather(*(upstream.post(CALL, Patience.of(CALL_S)) for _ in range(5)))

    assert [reply.json for reply in replies] == [{"good": True}] * 5
    assert not known.is_open


async def test_a_cancelled_edit_that_hangs_is_charged_what_an_edit_usually_takes(desk: Desk, pace: Pace) -> None:
    """Not the time for which nothing came back."""
    desk.answers = [holding]
    usage = EditorUsage()
    async with http_client() as client:
        upstream = HttpUpstream("editor", Upstream(f"{desk.url}/v1"), client, health(0.01))
        task = asyncio.create_task(HttpEditor(upstream).edit(order(), usage))
        assert await asyncio.to_thread(desk.arrived.wait, WAIT_S)
        await pace.work(0.1)
        task.cancel()
        await asyncio.wait([task])

    assert 0 < usage.seconds <= 0.02

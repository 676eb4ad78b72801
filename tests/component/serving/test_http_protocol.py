"""One connection's HTTP: offers of other protocols, pipelines, and limits on time and size; a real uvicorn with short times."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from services.serving import http_protocol
from services.serving.http_protocol import server_config

PUT = b"PUT / HTTP/1.1\r\nhost: a\r\n"
CLOSE = b"PUT / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
PATIENCE_S = 30.0
"""Of a test that waits for the server: far longer than any limit here, so that a busy machine is no failure."""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers ``<path> <length of the body>``; some paths do it differently."""
    size, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10_000):
            await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
        return
    body = b"%s %d" % (scope["path"].encode(), size)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        for name, seconds in {"HEAD_S": 3.0, "REST_S": 0.5, "WRITE_S": 1.5, "KEEP_ALIVE_S": 3}.items():
            patch.setattr(http_protocol, name, seconds)
        server = uvicorn.Server(server_config(echo, host="127.0.0.1", port=0, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(PATIENCE_S)


def received(port: int, *pieces: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """All that comes back until the server closes the connection, and after how long it does."""
    began = time.monotonic()
    got = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while piece := connection.recv(65_536):
                got += piece
        except ConnectionError:
            pass
    return got, time.monotonic() - began


def answers(got: bytes) -> list[bytes]:
    """The bodies of the 200s in a stream of answers."""
    return [piece.partition(b"HTTP/1.1")[0] for piece in got.split(b"\r\n\r\n")[1:]]


OFFERS = {
    "curl --http2": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "TLS": b"connection: upgrade\r\nupgrade: TLS/1.0\r\n",
    "unknown": b"connection: keep-alive, Upgrade\r\nupgrade: foo/1\r\n",
    "several": b"connection: Upgrade\r\nupgrade: h2c, websocket\r\n",
    "WebSocket": b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAA\r\n",
    "none, as nginx sends": b"connection: upgrade\r\n",
}


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_is_ignored_and_the_request_is_served(port: int, name: str, framing: str, *, late: bool) -> None:
    """RFC 9110, section 7.8. The body is a body, also where it looks like a request, and the next request is the next one."""
    inner = b"PUT /inner HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
    head = b"PUT /outer HTTP/1.1\r\nhost: a\r\n" + OFFERS[name]
    if framing == "length":
        head, body = head + b"content-length: %d\r\n\r\n" % len(inner), inner
    else:
        head, body = head + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    got, _ = received(port, *([head, body] if late else [head + body]), CLOSE, pause=0.1 if late else 0.0)

    assert answers(got) == [b"/outer %d" % len(inner), b"/ 0"]
    assert b" 101 " not in got and b"upgrade:" not in got.lower()


@pytest.mark.parametrize("start", [b"", b"G", PUT + b"x-a: "])
def test_a_head_that_does_not_end_is_cut(port: int, start: bytes) -> None:
    """After its time, with a reason where a request began, however steadily it comes."""
    got, seconds = received(port, start, *([b"x"] * 4 if b":" in start else []), pause=0.05)

    assert seconds > 0.4
    assert (b"408" in got) == bool(start)
    if start:
        assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


ENDLESS = {
    "path": (b"GET /", b"a" * 65_536),
    "header": (PUT + b"x: ", b"a" * 65_536),
    "headers": (PUT, b"a: b\r\n" * 10_000),
    "trailers": (PUT + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 10_000),
    "extension": (PUT + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * 65_536),
    "chunks": (PUT + b"transfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 10_000),
    "chunks of an answered request": (
        b"PUT /unread HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        b"1\r\na\r\n" * 10_000,
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_heads_and_framing_have_a_size(port: int, name: str) -> None:
    """64 KiB of head or trailers, and a number of chunks that follows from the body's size."""
    first, more = ENDLESS[name]
    got, _ = received(port, first, *[more] * 100)

    if "answered" not in name:
        assert b" 200 " not in got
        assert got == b"" or b"413" in got.partition(b"\r\n")[0]


def test_bodies_and_further_requests_are_not_heads(port: int) -> None:
    """A large body, in one piece and in chunks, and ten requests one after another on one connection."""
    large = PUT + b"content-length: 3000000\r\n\r\n" + bytes(3_000_000)
    chunked = PUT + b"transfer-encoding: chunked\r\n\r\n" + b"ffff\r\n%s\r\n" % bytes(65_535) * 40 + b"0\r\n\r\n"
    small = PUT + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 4000 + b"0\r\n\r\n"
    got, _ = received(port, large, chunked, small, *[PUT + b"content-length: 1\r\n\r\na"] * 10, CLOSE)

    assert answers(got) == [b"/ 3000000", b"/ 2621400", b"/ 4000", *[b"/ 1"] * 10, b"/ 0"]


def test_empty_lines_before_a_request_are_ignored(port: int) -> None:
    """RFC 9112, section 2.2; but they are no sign of life."""
    got, _ = received(port, b"\r\n", b"\r\n\r\n", CLOSE, pause=0.05)
    assert answers(got) == [b"/ 0"]

    got, _ = received(port, *[b"\r\n"] * 80, pause=0.05)
    assert got == b""


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    """Also where an earlier one takes longer."""
    requests = [b"PUT /%s HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab" % name for name in (b"slow", b"b", b"slow", b"d")]
    got, _ = received(port, b"".join(requests) + CLOSE)

    assert answers(got) == [b"/slow 2", b"/b 2", b"/slow 2", b"/d 2", b"/ 0"]


@pytest.mark.parametrize("first", [PUT + b"\r\n", b"PUT /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"])
def test_an_idle_connection_is_kept_and_then_closed(port: int, first: bytes) -> None:
    """Also after a request that was answered before its body had arrived."""
    got, seconds = received(port, first)

    assert len(answers(got)) == 1 and seconds > 0.8


def test_a_body_that_arrives_slowly_is_the_applications(port: int) -> None:
    """Its time is not that of a head."""
    got, seconds = received(port, PUT + b"connection: close\r\ncontent-length: 8\r\n\r\n", *[b"a"] * 8, pause=0.15)

    assert answers(got) == [b"/ 8"] and seconds > 1


def test_what_is_answered_has_to_end(port: int) -> None:
    """A body that continues after its response holds the connection for a limited time."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        began = time.monotonic()
        connection.sendall(b"PUT /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\n")
        got = b""
        while not got.endswith(b"\r\n\r\n/unread 0"):
            piece = connection.recv(1000)
            assert piece, got
            got += piece
        with pytest.raises(ConnectionError):  # noqa: PT012 - sent until the connection is closed
            while time.monotonic() < began + PATIENCE_S:
                connection.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - began > 0.4


def test_a_client_that_stops_reading_is_disconnected(port: int) -> None:
    """After WRITE_S in which it took next to nothing; one that reads slowly goes on."""
    with contextlib.closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"PUT /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        began, got = time.monotonic(), 0
        while time.monotonic() < began + 4:
            got += len(connection.recv(65_536))
        assert got > 65_536
        with pytest.raises(ConnectionError):  # noqa: PT012 - asked until the connection is closed
            while time.monotonic() < began + PATIENCE_S:
                time.sleep(0.1)
                # Without reading: a reset shows when something is sent.
                connection.sendall(b"x")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\r\n\r\n", PUT + b"transfer-encoding: chunked\r\n\r\n-1\r\n"])
def test_bytes_that_are_not_http_are_refused_in_the_shape_of_all_errors(port: int, data: bytes) -> None:
    """Also where a body stops being HTTP."""
    got, _ = received(port, data)

    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_value"


AMBIGUOUS = {
    "two lengths": b"content-length: 1\r\ncontent-length: 2\r\n\r\na",
    "a length and chunks": b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"",
    "another coding": b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"content-length : 3\r\n\r\nabc",
    "a folded header": b"x: a\r\n content-length: 3\r\n\r\n",
    "a sign": b"content-length: +3\r\n\r\nabc",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_with_two_readings_is_refused_with_all_that_follows_it(port: int, name: str) -> None:
    """What follows such a request is never answered: a proxy may have read it otherwise."""
    hidden = b"PUT /hidden HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    old = b"PUT / HTTP/1.0\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    got, _ = received(port, (PUT + AMBIGUOUS[name] if AMBIGUOUS[name] else old) + hidden)

    if name == "a folded header":
        # Obsolete, but with one reading: the value goes on.
        assert answers(got) == [b"/ 0", b"/hidden 0"]
    else:
        assert b"/hidden" not in got
        assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_value"


def test_an_error_is_not_part_of_another_requests_answer(port: int) -> None:
    """Malformed bytes after a request that is not answered yet wait for its answer."""
    got, _ = received(port, b"PUT /slow HTTP/1.1\r\nhost: a\r\n\r\n" + b"nonsense\r\n\r\n")

    first, _, second = got.partition(b"/slow 0")
    assert b" 200 " in first and second.startswith(b"HTTP/1.1 400 ")

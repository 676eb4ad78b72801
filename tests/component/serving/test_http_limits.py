"""The heads of requests end, in time and in size; a real uvicorn with short times."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from services.serving import http_limits

PUT = b"PUT / HTTP/1.1\r\nhost: a\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, unless the path says that it is not read; answers its length."""
    size, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    while scope["path"] == "/held" and (await receive())["type"] != "http.disconnect":
        pass
    body = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        patch.setattr(http_limits, "HEAD_TIMEOUT_S", 0.5)
        patch.setattr(http_limits, "BODY_TIMEOUT_S", 0.5)
        config = uvicorn.Config(echo, http=http_limits.BoundedProtocol, ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def said(port: int, *pieces: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """All that comes back until the connection is closed, and after how long it is."""
    began = time.monotonic()
    got = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while piece := connection.recv(65_536):
                got += piece
        except OSError:
            pass
    return got, time.monotonic() - began


@pytest.mark.parametrize("start", [b"", b"G", PUT + b"x-a: "])
def test_a_head_that_does_not_end_is_cut(port: int, start: bytes) -> None:
    """After its time, with a reason where a request began, however steadily it drips."""
    got, seconds = said(port, start, *([b"x"] * 4 if b":" in start else []), pause=0.1)

    assert 0.4 < seconds < 3
    assert (b"408" in got) == bool(start)
    if start:
        assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


ENDLESS = {
    "path": (b"GET /", b"a" * 65_536),
    "header": (PUT + b"x: ", b"a" * 65_536),
    "headers": (PUT, b"a: b\r\n" * 10_000),
    "trailers": (PUT + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 10_000),
    "extension": (PUT + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * 65_536),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_head_has_a_size(port: int, name: str) -> None:
    """64 KiB, trailers and the framing of chunks included."""
    first, more = ENDLESS[name]
    got, seconds = said(port, first, *[more] * 100)

    assert seconds < 5
    assert b" 200 " not in got
    assert got == b"" or b"413" in got.partition(b"\r\n")[0]


def test_bodies_and_further_requests_are_not_heads(port: int) -> None:
    """A large body, in one piece and in chunks, and ten requests one after another on one connection."""
    large = PUT + b"content-length: 3000000\r\n\r\n" + bytes(3_000_000)
    chunked = PUT + b"transfer-encoding: chunked\r\n\r\n" + b"ffff\r\n%s\r\n" % bytes(65_535) * 40 + b"0\r\n\r\n"
    last = PUT + b"connection: close\r\n\r\n"
    got, _ = said(port, large, chunked, *[PUT + b"content-length: 1\r\n\r\na"] * 10, last)

    assert [piece.partition(b"HTTP/1.1")[0] for piece in got.split(b"\r\n\r\n")[1:]] == [
        b"3000000",
        b"2621400",
        *[b"1"] * 10,
        b"0",
    ]


def test_a_body_that_arrives_slowly_is_the_applications(port: int) -> None:
    """Its time is not that of http_limits."""
    got, seconds = said(port, PUT + b"connection: close\r\ncontent-length: 8\r\n\r\n", *[b"a"] * 8, pause=0.15)

    assert got.endswith(b"\r\n\r\n8") and seconds > 1


def test_what_is_answered_has_to_end(port: int) -> None:
    """A body that continues after its response holds the connection for a limited time."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"PUT /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 900\r\n\r\n")
        assert connection.recv(1000).endswith(b"\r\n\r\n0")
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011, PT012 - the error of a closed connection depends on the system
            while time.monotonic() < began + 10:
                connection.sendall(b"a")
                time.sleep(0.05)
    assert 0.4 < time.monotonic() - began < 3


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\r\n\r\n", PUT + b"transfer-encoding: chunked\r\n\r\n-1\r\n"])
def test_what_is_no_http_is_told_so_in_our_shape(port: int, data: bytes) -> None:
    """As every other error, also where a body stops being HTTP."""
    got, _ = said(port, data)

    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_value"


def test_an_error_does_not_pass_for_the_answer_to_another_request(port: int) -> None:
    """Malformed bytes after a request that is not answered yet close the connection without a response."""
    got, _ = said(port, b"PUT /held HTTP/1.1\r\nhost: a\r\n\r\n" + b"nonsense\r\n\r\n")

    assert got == b""

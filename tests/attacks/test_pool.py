"""Attacks on the editor pool: a real HAProxy between malformed or slow requests and a worker.

Priorities and odd headers are tested in tests/integration/test_haproxy.py.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.doubles.haproxy import HAProxy, NoHAProxyError, haproxy, haproxy_binary
from tests.doubles.pool import Worker, workers
from tests.doubles.waiting import wait

pytestmark = pytest.mark.xdist_group("attacks")
EDIT = b"POST /v1/images/edits HTTP/1.1\r\nhost: a\r\n"
HIDDEN = b"DELETE /v1/edits/hidden HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HAProxy, Worker]]:
    try:
        haproxy_binary()
    except NoHAProxyError as exc:
        pytest.skip(str(exc))
    folder = tmp_path_factory.mktemp("pool")
    with workers(1) as [worker], haproxy(folder, [worker.address], maxconn=4, env={"EDITORS_CLIENT_TIMEOUT": "1s"}) as proxy:
        while httpx.get(f"{proxy.url}/readyz", trust_env=False).status_code != 200:
            time.sleep(0.05)
        yield proxy, worker


def response(proxy: HAProxy, *pieces: bytes) -> bytes:
    """Send the pieces, and return everything received until the connection closes."""
    got = b""
    with socket.create_connection(("127.0.0.1", proxy.port), 15) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while piece := connection.recv(65_536):
                got += piece
        except OSError:
            pass
    return got


AMBIGUOUS = {
    "bare line ends": b"POST /v1/images/edits HTTP/1.1\nhost: a\ncontent-length: 4\n\nabcd",
    "a folded coding": EDIT + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a NUL in a value": EDIT + b"x-a: a\x00b\r\n\r\n",
    "a NUL in a name": EDIT + b"x\x00a: b\r\n\r\n",
    "a return in a value": EDIT + b"x-a: a\rcontent-length: 4\r\n\r\n",
    "a tab before the coding": EDIT + b"transfer-encoding:\tchunked\r\n\r\n0\r\n\r\n",
    "a vertical tab before the coding": EDIT + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "codings in a list": EDIT + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": EDIT + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an endless length": EDIT + b"content-length: 99999999999999999999\r\n\r\n",
    "an empty length": EDIT + b"content-length: \r\n\r\n",
    "lengths in a list": EDIT + b"content-length: 0, 4\r\n\r\n",
    "a chunk of a broken length": EDIT + b"transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "two hosts": b"POST /v1/images/edits HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 0\r\n\r\n",
    "a name of underscores": EDIT + b"content_length: 4\r\n\r\n",
    "a space in the path": b"POST /v1/images/edits HTTP/1.1 x HTTP/1.1\r\nhost: a\r\n\r\n",
    "a header of 100 kB": EDIT + b"x-a: " + b"a" * 100_000 + b"\r\n\r\n",
    "HTTP/2 on its own": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_smuggles_no_other(pool: tuple[HAProxy, Worker], name: str) -> None:
    """It is refused, or passed on with one end. The request after it reaches no worker, and no answer is a 5xx."""
    proxy, _ = pool
    got = response(proxy, AMBIGUOUS[name] + HIDDEN)
    status = got[9:12].decode()

    assert b'"key":"hidden"' not in got and got.count(b"HTTP/1.1 ") <= 1
    assert not status or status[0] in "24", got[:300]
    assert httpx.get(f"{proxy.url}/v1/models", trust_env=False).status_code == 200


def test_slow_callers_are_disconnected_and_delay_no_edit(pool: tuple[HAProxy, Worker]) -> None:
    proxy, worker = pool
    slow = [socket.create_connection(("127.0.0.1", proxy.port), 15) for _ in range(100)]
    for connection in slow:
        connection.sendall(EDIT + b"content-length: 100000\r\n\r\nabc")
    # Behind them, four at a time until each is cut, it would come after 25 s.
    reply = httpx.post(f"{proxy.url}/v1/images/edits", content=b"x", trust_env=False, timeout=20)

    assert reply.status_code == 200
    for connection in slow:
        connection.settimeout(15)
        with contextlib.suppress(ConnectionError):
            assert b" 5" not in connection.recv(100)[:12]
        connection.close()
    wait(lambda: not worker.active)

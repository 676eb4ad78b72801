"""Connections to upstreams that are kept for the next request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from orchestrator.upstreams.liveness import Patience
from tests.component.orchestrator.desk import CALL, asking


class _Server:
    """Answers each request with its number, and sends `after` unasked once the first answer was read."""

    def __init__(self, after: bytes) -> None:
        self.after = after
        self.requests = self.connections = 0
        self.again = asyncio.Event()
        """Set by the test when the first answer was read."""
        self.sent = asyncio.Event()
        """Set when `after` was sent, or the connection ended."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                self.requests += 1
                writer.write(_response(self.requests))
                await writer.drain()
                if self.requests == 1:
                    await self.again.wait()
                    writer.write(self.after)
                    await writer.drain()
                    self.sent.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def _response(number: int) -> bytes:
    body = orjson.dumps({"answer": number})
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@asynccontextmanager
async def _serving(server: _Server) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def _answers(server: _Server) -> list[int]:
    """Three calls, the second one after the server has sent what nobody asked for."""
    async with _serving(server) as url, asking("editor", url) as upstream:
        first = (await upstream.post(CALL, Patience.of(20))).json
        server.again.set()
        await server.sent.wait()
        connector = upstream._client.connector
        assert connector is not None
        idle = [protocol for kept in connector._conns.values() for protocol, _ in kept]
        while server.after and not any(protocol.should_close for protocol in idle):
            await asyncio.sleep(0)  # until what was sent has arrived
        rest = [(await upstream.post(CALL, Patience.of(20))).json for _ in range(2)]
    return [each["answer"] for each in (first, *rest)]


@pytest.mark.parametrize("after", [_response(99), b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"])
async def test_a_response_that_nobody_asked_for_answers_no_request(after: bytes) -> None:
    """It would be the picture of another session, and each later request on that connection would get one of another."""
    server = _Server(after)

    assert await _answers(server) == [1, 2, 3]
    assert server.connections == 2


async def test_a_quiet_connection_is_used_again() -> None:
    """The connector closes no more than it has to."""
    server = _Server(b"")

    assert await _answers(server) == [1, 2, 3]
    assert server.connections == 1

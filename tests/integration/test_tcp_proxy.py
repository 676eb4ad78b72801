"""The proxy that the network's faults come from: each fault is what it says, between real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from typing import Literal

import pytest

from tests.doubles.tcp_proxy import Fault, TcpProxy, running

_LONG = b"x" * 100_000


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that answers what it is sent."""
    async with await asyncio.start_server(_echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def _answer(proxy: TcpProxy, asked: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    with contextlib.closing(writer):
        writer.write(asked)
        return await reader.readexactly(len(asked))


@pytest.mark.parametrize(
    "fault",
    [Fault(), Fault("delay", seconds=0.05), Fault("drip", bytes=30_000, seconds=0.001), Fault("drip", direction="up", only="zz")],
)
async def test_slow_connections_lose_nothing(echo: int, fault: Fault) -> None:
    """All bytes arrive in order."""
    async with TcpProxy("127.0.0.1", echo) as proxy:
        proxy.set(fault)
        assert await _answer(proxy, _LONG) == _LONG


async def test_a_stall_ends_with_the_fault(echo: int) -> None:
    """Nothing arrives during it, and everything afterwards."""
    async with TcpProxy("127.0.0.1", echo) as proxy:
        proxy.set(Fault("stall", direction="down"))
        answer = asyncio.create_task(_answer(proxy, b"hello"))
        while not proxy.hit:
            await asyncio.sleep(0)
        assert not answer.done()
        proxy.set(Fault())
        assert await answer == b"hello"


@pytest.mark.parametrize("direction", ["both", "up", "down"])
async def test_a_half_open_connection_stays_so(echo: int, direction: Literal["both", "up", "down"]) -> None:
    """Neither side is told, what is sent is lost, and other connections are not met."""
    async with TcpProxy("127.0.0.1", echo) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"SUBSCRIBE")
        assert await reader.readexactly(9) == b"SUBSCRIBE"
        proxy.set(Fault("half-open", only="SUBSCRIBE", direction=direction))
        writer.write(b"lost")
        while not proxy.hit:
            await asyncio.sleep(0)
        assert await _answer(proxy, b"another") == b"another"
        proxy.set(Fault())
        writer.write(b"lost too")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        proxy.set(Fault("reset"))
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


async def test_a_reset_is_one(echo: int) -> None:
    """RST, for open connections and for new ones, as many as asked for."""
    async with TcpProxy("127.0.0.1", echo) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        proxy.set(Fault("reset", scope="open"))
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        assert await _answer(proxy, b"new") == b"new"
        proxy.set(Fault("reset", scope="new", times=1))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await _answer(proxy, b"met")
        assert await _answer(proxy, b"not met") == b"not met"


async def test_a_reply_is_cut_after_so_many_bytes(echo: int) -> None:
    """The connection is closed in the middle of it."""
    async with TcpProxy("127.0.0.1", echo) as proxy:
        proxy.set(Fault("cut", bytes=50_000))
        with pytest.raises(asyncio.IncompleteReadError) as cut:
            await _answer(proxy, _LONG)
        assert len(cut.value.partial) == 50_000


async def test_it_is_controlled_from_another_process(echo: int) -> None:
    """One JSON object a line."""
    command = [sys.executable, "-m", "tests.doubles.tcp_proxy", "--to", f"127.0.0.1:{echo}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        ports = json.loads(await process.stdout.readline())
        reader, writer = await asyncio.open_connection("127.0.0.1", ports["control"])
        answers = []
        for line in (b'{"mode": "reset"}', b'{"mode": "none"}', b"{}", b"[", b'{"mode": "pass"}'):
            writer.write(line + b"\n")
            answers.append(json.loads(await reader.readline()))
        writer.close()
    finally:
        process.terminate()
        await process.wait()

    assert [sorted(answer) for answer in answers] == [["connections", "hit"], ["error"]] * 2 + [["connections", "hit"]]


def test_it_runs_in_a_thread_for_other_tests() -> None:
    """A client that blocks is met like any other."""
    with socket.create_server(("127.0.0.1", 0)) as server, running("127.0.0.1", server.getsockname()[1]) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
            served, _ = server.accept()
            client.sendall(b"hello")
            assert served.recv(5) == b"hello"
            proxy.set(Fault("reset"))
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            served.close()
        assert proxy.hit == 1

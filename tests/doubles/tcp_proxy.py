"""A TCP proxy between two processes that delays, drips, stalls, loses, resets or cuts what passes through it.

In an asyncio test, in any test, and as a process of its own:

    async with TcpProxy("127.0.0.1", 6379) as proxy: proxy.set(Fault("delay", seconds=0.2)); …proxy.port…
    with running("127.0.0.1", 6379) as proxy: proxy.set(Fault("half-open", only="SUBSCRIBE"))
    python -m tests.doubles.tcp_proxy --port 7000 --to 127.0.0.1:6379 --control 7001

One fault holds at a time, until the next `set`. The control port takes one JSON object a line, whose members are the fields of
`Fault`, and answers each with ``{"connections": open ones, "hit": connections that the fault has met}`` or ``{"error": "…"}``.
``{"mode": "pass"}`` ends a fault, ``{}`` only asks:

    $ echo '{"mode": "drip", "bytes": 1, "seconds": 0.05, "direction": "down"}' | nc -N 127.0.0.1 7001
    {"connections": 3, "hit": 0}
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

_READ: Final = 65_536
_HISTORY: Final = 8_192
"""Bytes of what a client sent first, and last, in which `Fault.only` is looked for."""
_CHUNKS_IN_FLIGHT: Final = 64
_ABORTING: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: `close` sends RST in place of FIN."""
_MODES: Final = ("pass", "delay", "drip", "stall", "half-open", "reset", "cut")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to connections.

    Attributes:
        mode: ``pass``: nothing. ``delay``: each byte arrives `seconds` late, in order. ``drip``: `bytes` at a time, with
            `seconds` after each. ``stall``: nothing arrives until another fault is set; nothing is lost. ``half-open``: what
            is sent is lost, and neither side is told; such a connection stays so after the fault has ended, until it is reset.
            ``reset``: RST to both sides, at once for open connections. ``cut``: the connection is closed after `bytes` more of
            what the server sends.
        seconds: for ``delay`` and ``drip``.
        bytes: for ``drip`` and ``cut``.
        direction: ``up`` from client to server, ``down``, or ``both``; for ``delay``, ``drip``, ``stall``, ``half-open``.
        only: connections whose client sent this text, in the first or last 8 KiB, such as ``SUBSCRIBE`` or ``POST /v1/edits``.
        scope: ``all`` connections, those ``open`` now, or ``new`` ones.
        times: connections that it meets at most; 0 is any number.
    """

    mode: Literal["pass", "delay", "drip", "stall", "half-open", "reset", "cut"] = "pass"
    seconds: float = 0.0
    bytes: int = 1
    direction: Literal["both", "up", "down"] = "both"
    only: str = ""
    scope: Literal["all", "open", "new"] = "all"
    times: int = 0

    def __post_init__(self) -> None:
        if self.mode not in _MODES or self.direction not in {"both", "up", "down"} or self.scope not in {"all", "open", "new"}:
            raise ValueError(f"unknown mode, direction or scope: {self}")


_PASS: Final = Fault()


class TcpProxy:
    """Listens on `port` of the loopback interface, and connects to `host`:`upstream` for each connection."""

    def __init__(self, host: str, upstream: int, *, port: int = 0, control: int | None = None) -> None:
        self.host = host
        self.upstream = upstream
        self.port = port
        self.control = control
        self._fault = _PASS
        self._changed = asyncio.Event()
        self._hit: set[_Connection] = set()
        self._open: set[_Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[None] | None] = set()
        self.closing = False

    async def __aenter__(self) -> Self:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)
        if self.control is not None:
            server = await asyncio.start_server(self._controlled, "127.0.0.1", self.control)
            self.control = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        self.closing = True
        for connection in list(self._open):
            connection.reset()
        await asyncio.gather(*(task for task in self._serving if task), return_exceptions=True)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._open)

    @property
    def hit(self) -> int:
        """Connections that the present fault has met."""
        return len(self._hit)

    def set(self, fault: Fault) -> None:
        """Let this fault hold from now on."""
        self._fault = fault
        self._hit = set()
        for connection in self._open:
            connection.is_new = False
        self._changed.set()
        self._changed = asyncio.Event()
        if fault.mode == "reset":
            for connection in list(self._open):
                if self.fault_of(connection) is fault:
                    connection.reset()

    def fault_of(self, connection: _Connection) -> Fault:
        """What holds for a connection now."""
        fault = self._fault
        meets = (
            fault.mode != "pass"
            and fault.scope in {"all", "new" if connection.is_new else "open"}
            and (not fault.only or connection.has_sent(fault.only.encode()))
            and (not fault.times or connection in self._hit or len(self._hit) < fault.times)
        )
        if meets:
            self._hit.add(connection)
        return fault if meets else _PASS

    async def changed(self, seconds: float | None = None) -> None:
        """Wait until another fault is set, or so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, task = _Connection(self, writer), asyncio.current_task()
        self._open.add(connection)
        self._serving.add(task)
        try:
            await connection.run(reader)
        finally:
            self._open.discard(connection)
            self._serving.discard(task)

    async def _controlled(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while line := await reader.readline():
                answer: dict[str, Any]
                try:
                    if asked := json.loads(line):
                        self.set(Fault(**asked))
                    answer = {"connections": self.connections, "hit": self.hit}
                except (ValueError, TypeError) as exc:
                    answer = {"error": str(exc)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()


class _Connection:
    def __init__(self, proxy: TcpProxy, client: asyncio.StreamWriter) -> None:
        self.is_new = True
        self.tasks: set[asyncio.Task[None]] = set()
        self._proxy = proxy
        self._writers = [client]
        self._sent = b""
        self._lost: set[str] = set()
        self._left: tuple[Fault, int] = (_PASS, 0)

    def has_sent(self, text: bytes) -> bool:
        """Whether the client sent these bytes."""
        return text in self._sent

    def reset(self) -> None:
        """Send RST to both sides."""
        for writer in self._writers:
            if (sock := writer.get_extra_info("socket")) is not None and not writer.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTING)
        self._end()

    def _end(self) -> None:
        for writer in self._writers:
            writer.transport.abort() if _aborts(writer) else writer.close()
        for task in self.tasks:
            task.cancel()

    async def run(self, client: asyncio.StreamReader) -> None:
        """Pass on what both sides send until both are done, or the connection is broken."""
        try:
            server, upward = await asyncio.open_connection(self._proxy.host, self._proxy.upstream)
        except OSError:
            self.reset()
            return
        self._writers.append(upward)
        if self._proxy.closing or self._proxy.fault_of(self).mode == "reset":
            self.reset()
            return
        for reader, writer, direction in ((client, upward, "up"), (server, self._writers[0], "down")):
            queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_IN_FLIGHT)
            self.tasks.add(asyncio.create_task(self._read(reader, queue, direction)))
            self.tasks.add(asyncio.create_task(self._write(queue, writer, direction)))
        done, _ = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_EXCEPTION)
        if any(not task.cancelled() and task.exception() for task in done):
            self.reset()  # one side was reset: so is the other
        self._end()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]], direction: str) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            data = await reader.read(_READ)
            if direction == "up":
                sent = self._sent + data
                self._sent = sent if len(sent) <= 2 * _HISTORY else sent[:_HISTORY] + sent[-_HISTORY:]
            await queue.put((clock(), data))
            if not data:
                return

    async def _write(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, direction: str) -> None:
        while True:
            arrived, data = await queue.get()
            is_end = not data
            while True:
                passed, data, done = await self._next(arrived, data, direction)
                if passed:
                    writer.write(passed)
                    await writer.drain()
                if done:
                    break
            if is_end and direction in self._lost:
                # The other side is not told; who still waits there does so until it is reset.
                await asyncio.Event().wait()
            elif is_end:
                writer.write_eof()
                return

    async def _next(self, arrived: float, data: bytes, direction: str) -> tuple[bytes, bytes, bool]:
        """What to send now of `data`, what is left of it, and whether that is all; waits where the fault says so."""
        fault, proxy = self._proxy.fault_of(self), self._proxy
        if fault.mode == "half-open" and fault.direction in {"both", direction}:
            # For good: TCP delivers nothing behind bytes that were lost.
            self._lost |= {"up", "down"} if fault.direction == "both" else {direction}
        if direction in self._lost:
            return b"", b"", True
        if fault.mode == "reset":
            self.reset()
            return b"", b"", True
        if fault.mode == "cut" and direction == "down":
            left = fault.bytes if self._left[0] is not fault else self._left[1]
            self._left = (fault, left - len(data))
            if len(data) < left:
                return data, b"", True
            self._writers[0].write(data[:left])
            await self._writers[0].drain()
            self._end()
            return b"", b"", True
        if fault.direction not in {"both", direction} or fault.mode in {"pass", "cut"}:
            return data, b"", True
        if fault.mode == "stall":
            await proxy.changed()
            return b"", data, False
        if fault.mode == "delay":
            if (late := arrived + fault.seconds - asyncio.get_running_loop().time()) <= 0:
                return data, b"", True
            await proxy.changed(late)
            return b"", data, False
        writer = self._writers[direction == "up"]
        writer.write(data[: fault.bytes])
        await writer.drain()
        await proxy.changed(fault.seconds)
        return b"", data[fault.bytes :], len(data) <= fault.bytes


def _aborts(writer: asyncio.StreamWriter) -> bool:
    sock = writer.get_extra_info("socket")
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_ABORTING)) == _ABORTING)
    except (OSError, AttributeError):
        return True


@dataclass
class ThreadProxy:
    """A `TcpProxy` in a thread of its own, for tests that are not coroutines and for processes."""

    proxy: TcpProxy
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.proxy.port

    @property
    def connections(self) -> int:
        """Open connections."""
        return self.proxy.connections

    @property
    def hit(self) -> int:
        """Connections that the present fault has met."""
        return self.proxy.hit

    def set(self, fault: Fault) -> None:
        """Let this fault hold from now on; returns when it does."""

        async def change() -> None:
            self.proxy.set(fault)

        asyncio.run_coroutine_threadsafe(change(), self.loop).result(10)


@contextlib.contextmanager
def running(host: str, upstream: int, *, port: int = 0) -> Iterator[ThreadProxy]:
    """A proxy in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tcp proxy", daemon=True)
    thread.start()

    async def made() -> TcpProxy:
        return await TcpProxy(host, upstream, port=port).__aenter__()

    proxy = asyncio.run_coroutine_threadsafe(made(), loop).result(10)
    try:
        yield ThreadProxy(proxy, loop)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _main(port: int, to: str, control: int) -> None:
    host, _, upstream = to.rpartition(":")
    async with TcpProxy(host, int(upstream), port=port, control=control) as proxy:
        sys.stdout.write(json.dumps({"port": proxy.port, "control": proxy.control}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A TCP proxy with faults.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--control", type=int, default=0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(**vars(parser.parse_args())))
    sys.exit(0)

"""CPU time of one request with different HTTP servers: ``python -m benchmarks.http_servers``.

Each request is an upload as an edit's: 1.5 MB in one body, which the application reads and answers in a few bytes, on a kept
connection. Each server runs in a process of its own; they take turns in short rounds, so that other load on the machine
affects all of them, and CPU is that of the server's processes alone: the time that passes says more about that load. The
first column is the median of the rounds' ratios to httptools. The last columns are what decides:
whether a body behind ``Upgrade: h2c`` is served, and how long 40,000 chunks of a byte hold up the server.

granian and hypercorn are measured where they are installed; this project does not need them.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from services.serving.http_protocol import LimitedProtocol
from tests.doubles.processes import Process, free_port, start

BODY: Final = bytes(1_500_000)
BASELINE: Final = "httptools"
SERVERS: Final = (BASELINE, "h11", "ours", "granian", "hypercorn")
_CHUNKS: Final = 40_000


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and answers its length."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def serve(server: str, port: int) -> None:
    """Run one server until it is ended."""
    if server == "granian":
        granian = importlib.import_module("granian")
        granian.Granian("benchmarks.http_servers:application", port=port, interface="asginl", log_enabled=False).serve()
    elif server == "hypercorn":
        command = [sys.executable, "-m", "hypercorn", "-k", "uvloop", "--log-level", "critical", "-b", f"127.0.0.1:{port}"]
        os.execv(sys.executable, [*command, "benchmarks.http_servers:application"])
    else:
        import uvicorn  # noqa: PLC0415

        http_protocol: Any = LimitedProtocol if server == "ours" else server
        uvicorn.run(application, port=port, http=http_protocol, ws="none", log_level="critical", lifespan="off", access_log=False)


def known(server: str) -> bool:
    """Whether it is installed."""
    return server in {"h11", "ours"} or importlib.util.find_spec(server) is not None


@contextlib.contextmanager
def running(server: str, folder: Path) -> Iterator[Process]:
    """A server in a process of its own."""
    port = free_port()
    process = start(
        [sys.executable, "-m", "benchmarks.http_servers", "--serve", server, "--port", str(port)], port, folder / server
    )
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.05)
    try:
        yield process
    finally:
        process.stop()


def cpu_s(process: Process) -> float:
    """CPU seconds of a server, its workers included."""
    parent = psutil.Process(process.popen.pid)
    times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def timed(process: Process, requests: int) -> tuple[float, float]:
    """CPU seconds and seconds of a request, on one connection."""
    port, before = process.port, cpu_s(process)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    for _ in range(requests):
        connection.request("PUT", "/", BODY)
        assert connection.getresponse().read() == str(len(BODY)).encode()
    seconds = (time.perf_counter() - began) / requests
    connection.close()
    return (cpu_s(process) - before) / requests, seconds


def _reply(port: int, data: bytes, answers: int = 1) -> bytes:
    got = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(10)
        connection.sendall(data)
        # Not every server closes the connection.
        while got.count(b"HTTP/1.1 ") < answers or not got[-1:].isdigit():
            piece = connection.recv(65_536)
            if not piece:
                break
            got += piece
    return got


def serves_offers(port: int) -> bool:
    """Whether the body of a request with an offer is read as its body, and the next request is the next one."""
    head = b"PUT / HTTP/1.1\r\nhost: a\r\n"
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\ncontent-length: 3\r\n\r\nabc"
    got = _reply(port, head + offer + head + b"connection: close\r\ncontent-length: 2\r\n\r\nab", 2)
    return b" 101 " not in got and got.count(b" 200 ") == 2 and got.partition(b"\r\n\r\n")[2].startswith(b"3")


def held_up(process: Process) -> float:
    """CPU seconds of a body of tiny chunks, until its answer or refusal."""
    port, before = process.port, cpu_s(process)
    head = b"PUT / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    _reply(port, head + b"1\r\na\r\n" * _CHUNKS + b"0\r\n\r\n")
    return cpu_s(process) - before


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--requests", type=int, default=20)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.port)
        return 0
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        servers = {server: stack.enter_context(running(server, Path(name))) for server in SERVERS if known(server)}
        times: dict[str, list[tuple[float, float]]] = {server: [] for server in servers}
        for _ in range(given.rounds):
            for server, process in servers.items():
                times[server].append(timed(process, given.requests))
        sys.stdout.write("| server | ratio | CPU ms | ms | offer served | CPU of 40,000 tiny chunks |\n")
        sys.stdout.write("|---|---|---|---|---|---|\n")
        for server, process in servers.items():
            ratio = statistics.median(own[0] / base[0] for own, base in zip(times[server], times[BASELINE], strict=True))
            tiny = statistics.median(held_up(process) for _ in range(5))
            served = "yes" if serves_offers(process.port) else "no"
            cpu, passed = (statistics.median(column) * 1000 for column in zip(*times[server], strict=True))
            sys.stdout.write(f"| {server} | {ratio:.2f} | {cpu:.2f} | {passed:.2f} | {served} | {tiny * 1000:.0f} ms |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

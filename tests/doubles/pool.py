"""Editor workers for tests of the pool, in threads of this process, and a name server that tells where they are.

A `Worker` answers edits with what it saw. `hold` keeps every edit until it is cleared; `ready`, `fail` and `seconds` say
how it behaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.doubles.processes import free_port
from tests.doubles.waiting import wait


@dataclass
class Worker:
    """What an editor double does, and what it saw."""

    address: str
    ready: bool = True
    hold: bool = False
    fail: int | None = None
    seconds: float = 0.0
    active: int = 0
    peak: int = 0
    keys: list[str] = field(default_factory=list)
    """Of the edits that arrived, in order."""
    left: list[str] = field(default_factory=list)
    """Of the edits whose caller went away."""

    def application(self) -> Starlette:
        """Its endpoints."""
        routes = [
            Route("/v1/images/edits", self._edit, methods=["POST"]),
            Route("/v1/edits/{key:path}", self._stop, methods=["DELETE"]),
            Route("/v1/models", self._models),
            Route("/readyz", self._readyz),
        ]
        return Starlette(routes=routes)

    async def _edit(self, request: Request) -> Response:
        key = request.headers.get("idempotency-key", "")
        self.keys.append(key)
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            received = 0
            async for piece in request.stream():
                received += len(piece)
            if request.query_params.get("stream"):
                return StreamingResponse(self._events(), media_type="text/event-stream")
            await asyncio.sleep(self.seconds)
            while self.hold:
                if await request.is_disconnected():
                    self.left.append(key)
                    return Response(status_code=499)
                await asyncio.sleep(0.005)
        except ClientDisconnect:
            self.left.append(key)
            return Response(status_code=499)
        finally:
            self.active -= 1
        if self.fail:
            return JSONResponse({"error": {"message": "told to", "type": "", "param": None, "code": "told"}}, self.fail)
        return JSONResponse({"worker": self.address, "received": received, "headers": dict(request.headers)})

    async def _events(self) -> AsyncIterator[str]:
        yield 'data: {"type": "image_edit.progress"}\n\n'
        while self.hold:
            await asyncio.sleep(0.005)
        yield 'data: {"type": "image_edit.completed"}\n\n'

    async def _stop(self, request: Request) -> Response:
        return JSONResponse({"worker": self.address, "key": request.path_params["key"]})

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"worker": self.address})

    async def _readyz(self, request: Request) -> Response:
        return Response(status_code=200 if self.ready else 503)


@contextlib.contextmanager
def workers(count: int, hosts: Sequence[str] = ()) -> Iterator[list[Worker]]:
    """Running doubles: on ports of this machine, or all on the same port of the given loopback addresses."""
    port = free_port()
    addresses = [f"{host}:{port}" for host in hosts] or [f"127.0.0.1:{free_port()}" for _ in range(count)]
    made = [Worker(address) for address in addresses]
    servers = [_server(worker) for worker in made]
    threads = [threading.Thread(target=server.run, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    wait(lambda: all(server.started for server in servers))
    try:
        yield made
    finally:
        for worker, server in zip(made, servers, strict=True):
            worker.hold = False
            server.should_exit = True
        for thread in threads:
            thread.join(10)


def _server(worker: Worker) -> uvicorn.Server:
    host, _, port = worker.address.partition(":")
    config = uvicorn.Config(worker.application(), host=host, port=int(port), log_level="error", lifespan="off")
    return uvicorn.Server(config)


@dataclass
class NameServer:
    """Answers every question for an A record with the addresses that it holds now."""

    address: str
    hosts: list[str]


@contextlib.contextmanager
def name_server(hosts: Sequence[str]) -> Iterator[NameServer]:
    """A running one, on UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(0.05)
        names = NameServer(f"127.0.0.1:{udp.getsockname()[1]}", list(hosts))
        over = threading.Event()
        thread = threading.Thread(target=_answer, args=(udp, names, over), daemon=True)
        thread.start()
        try:
            yield names
        finally:
            over.set()
            thread.join(5)


def _answer(udp: socket.socket, names: NameServer, over: threading.Event) -> None:
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            question, sender = udp.recvfrom(4096)
            end = question.index(0, 12) + 5  # the name, its type and its class
            wanted = struct.unpack("!H", question[end - 4 : end - 2])[0]
            hosts = list(names.hosts) if wanted == 1 else []
            head = question[:2] + struct.pack("!5H", 0x8180, 1, len(hosts), 0, 0)
            records = [b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(host) for host in hosts]
            udp.sendto(head + question[12:end] + b"".join(records), sender)

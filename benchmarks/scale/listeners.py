"""Thousands of listeners to sessions' events, in one process: ``python -m benchmarks.scale.listeners PORT``.

Reads session ids from standard input, one per line, then an empty line. Prints ``connected N`` once every stream has begun.
From then on it measures the time of each event from `at`, when it was recorded, to its arrival (one machine, one clock). After a
second empty line it prints the figures as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field

_AT_ONCE = 64
_CONNECT_TIMEOUT_S = 300.0
_ID = re.compile(rb"(?:^|\n)id: (\d+)\n")
_AT = re.compile(rb'[{,]"at": ?([0-9.]+)')


@dataclass(slots=True)
class Figures:
    """Figures of all listeners of the process.

    Attributes:
        since: events recorded from then on are timed.
        gaps: event numbers that were missing or repeated.
        refused: streams that were answered with an error.
        cut: streams that ended, or never began, before their session finished.
        over: streams that ended with their session.
    """

    since: float = float("inf")
    delays_s: list[float] = field(default_factory=list)
    events: int = 0
    gaps: int = 0
    refused: int = 0
    cut: int = 0
    over: int = 0


class Listener(asyncio.Protocol):
    """One stream: counts its events, checks their numbers for gaps, and measures their delay."""

    def __init__(self, session: str, figures: Figures) -> None:
        self.begun = asyncio.get_running_loop().create_future()
        self._session = session
        self._figures = figures
        self._rest = b""
        self._last = 0
        self._status = b""
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Request the events."""
        assert isinstance(transport, asyncio.Transport)
        head = f"GET /v1/sessions/{self._session}/events HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n"
        transport.write(f"{head}connection: close\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Read frames, which end with an empty line and have chunk sizes between them."""
        now = time.time()
        if not self.begun.done():
            self.begun.set_result(None)
            self._status = data[9:12]
        whole, mark, self._rest = (self._rest + data).rpartition(b"\n\n")
        if mark:
            self._read(whole, now)

    def _read(self, frames: bytes, now: float) -> None:
        for found in _ID.finditer(frames):
            number = int(found[1])
            self._figures.events += 1
            self._figures.gaps += number != self._last + 1
            self._last = number
        self._finished |= b"\nevent: finished\n" in frames
        for found in _AT.finditer(frames):
            at = float(found[1])
            if at >= self._figures.since:
                self._figures.delays_s.append(now - at)

    def connection_lost(self, _: Exception | None) -> None:
        """The session finished, or the server disconnected."""
        if self._finished:
            self._figures.over += 1
        elif self._status not in {b"", b"200"}:
            self._figures.refused += 1
        else:
            self._figures.cut += 1
        if not self.begun.done():
            self.begun.set_result(None)


async def listen(port: int, sessions: list[str], figures: Figures) -> list[Listener]:
    """Connect all listeners, some at a time."""
    connecting = asyncio.Semaphore(_AT_ONCE)
    loop = asyncio.get_running_loop()

    async def one(session: str) -> Listener:
        async with connecting:
            _, listener = await loop.create_connection(lambda: Listener(session, figures), "127.0.0.1", port)
            await asyncio.wait_for(listener.begun, _CONNECT_TIMEOUT_S)
            return listener

    return await asyncio.gather(*(one(session) for session in sessions))


async def main() -> None:
    """Run, controlled over standard input."""
    loop = asyncio.get_running_loop()
    sessions = []
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        sessions.append(line)
    figures = Figures()
    kept = await listen(int(sys.argv[1]), sessions, figures)
    figures.since = time.time()
    print("connected", len(kept) - figures.refused - figures.cut - figures.over, flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(json.dumps(asdict(figures)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

"""A round-robin proxy that behaves like nginx in the reference's setup script.

``server … max_fails=3 fail_timeout=30s`` for every worker, no connection limit and no queue: a request goes to the next worker
even if it is busy. A worker that is unreachable is skipped, and excluded for thirty seconds after three such failures. The
reference's client opens a connection for every request, so distributing connections distributes requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

MAX_FAILS = 3
FAIL_TIMEOUT_S = 30.0
_CHUNK = 1 << 18


class RoundRobin:
    """Chooses the next worker.

    Args:
        workers: their ports.
    """

    def __init__(self, workers: Sequence[int]) -> None:
        self._workers = list(workers)
        self._next = 0
        self._failures: dict[int, list[float]] = {port: [] for port in workers}

    def pick(self, now: float) -> int:
        """The next worker that is not excluded; the next one if all are."""
        for _ in self._workers:
            port = self._turn()
            self._failures[port] = [at for at in self._failures[port] if at > now - FAIL_TIMEOUT_S]
            if len(self._failures[port]) < MAX_FAILS:
                return port
        return self._turn()

    def failed(self, port: int, now: float) -> None:
        """Record that a worker was unreachable."""
        self._failures[port].append(now)

    def _turn(self) -> int:
        port = self._workers[self._next % len(self._workers)]
        self._next += 1
        return port


async def serve(listen: int, workers: Sequence[int]) -> asyncio.Server:
    """Forward every connection to a worker."""
    turns = RoundRobin(workers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if there := await _connect(turns, len(workers)):
                await _splice((reader, writer), there)
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", listen, backlog=1024)


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(turns: RoundRobin, attempts: int) -> _Ends | None:
    for _ in range(attempts):
        port = turns.pick(time.monotonic())
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            turns.failed(port, time.monotonic())
    return None


async def _splice(here: _Ends, there: _Ends) -> None:
    """Copy both ways; when one end closes, close the other, as a proxy does."""
    copies = [asyncio.create_task(_copy(here[0], there[1])), asyncio.create_task(_copy(there[0], here[1]))]
    await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    for copy in copies:
        copy.cancel()
    there[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()

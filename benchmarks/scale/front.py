"""The round robin that the reference puts before its workers: nginx as its setup script configures it, in a few lines.

``server … max_fails=3 fail_timeout=30s`` for every worker, no cap of connections and no queue: a request goes to the next
worker whether or not that one is busy. A worker that cannot be reached is passed over, and after three such failures left
alone for thirty seconds. The reference's client opens a connection for every request, so to share out connections is to share
out requests.
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
    """Whose turn it is.

    Args:
        workers: their ports.
    """

    def __init__(self, workers: Sequence[int]) -> None:
        self._workers = list(workers)
        self._next = 0
        self._failures: dict[int, list[float]] = {port: [] for port in workers}

    def pick(self, now: float) -> int:
        """The next worker that is not left alone; the next at all if all are."""
        for _ in self._workers:
            port = self._turn()
            self._failures[port] = [at for at in self._failures[port] if at > now - FAIL_TIMEOUT_S]
            if len(self._failures[port]) < MAX_FAILS:
                return port
        return self._turn()

    def failed(self, port: int, now: float) -> None:
        """A worker could not be reached."""
        self._failures[port].append(now)

    def _turn(self) -> int:
        port = self._workers[self._next % len(self._workers)]
        self._next += 1
        return port


async def serve(listen: int, workers: Sequence[int]) -> asyncio.Server:
    """Hand every connection on to a worker."""
    turns = RoundRobin(workers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if there := await _connect(turns, len(workers)):
                await _splice((reader, writer), there)
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", listen, backlog=1024)


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(turns: RoundRobin, tries: int) -> _Ends | None:
    for _ in range(tries):
        port = turns.pick(time.monotonic())
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            turns.failed(port, time.monotonic())
    return None


async def _splice(here: _Ends, there: _Ends) -> None:
    """Copy both ways; when one end goes, so does the other, as it would through a proxy."""
    copies = [asyncio.create_task(_copy(here[0], there[1])), asyncio.create_task(_copy(there[0], here[1]))]
    await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    for copy in copies:
        copy.cancel()
    there[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()

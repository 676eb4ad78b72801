"""CPU time of one editor call with different HTTP clients: ``python -m benchmarks.http_clients``.

Each call is what the orchestrator sends to an editor: a multipart body with a megapixel PNG, sent in pieces, and a reply with
one as base64 in JSON, read raw. The server is `benchmarks.stubs` in a process of its own; CPU is this process's alone. The
clients take turns in short rounds, so that other load on the machine affects all of them, and ratios are of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp
import httpcore
import httpx

from benchmarks.stubs import picture
from tests.doubles.processes import free_port, start, wait_ready

Post = Callable[[], Awaitable[bytes]]
_HEAD: Final = (
    b'--boundary\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nmake it golden\r\n'
    b'--boundary\r\nContent-Disposition: form-data; name="image"; filename="image.png"\r\nContent-Type: image/png\r\n\r\n'
)
_TAIL: Final = b"\r\n--boundary--\r\n"
BASELINE: Final = "aiohttp"


class Payload:
    """The request: its headers, and its body in pieces."""

    def __init__(self, image: bytes) -> None:
        self._image = image
        self.headers = {
            "content-type": "multipart/form-data; boundary=boundary",
            "content-length": str(len(_HEAD) + len(image) + len(_TAIL)),
            "accept-encoding": "identity",
        }

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body."""
        for piece in (_HEAD, self._image, _TAIL):
            yield piece


async def clients(url: str, payload: Payload, stack: AsyncExitStack) -> dict[str, Post]:
    """One function for each client, which posts once and returns the body of the reply."""
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=None, trust_env=False))
    timeout = aiohttp.ClientTimeout(total=None)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout))
    pool = await stack.enter_async_context(httpcore.AsyncConnectionPool())

    async def by_httpx() -> bytes:
        async with client.stream("POST", url, content=payload.pieces(), headers=payload.headers) as reply:
            return b"".join([chunk async for chunk in reply.aiter_raw()])

    async def by_aiohttp() -> bytes:
        async with session.post(url, data=payload.pieces(), headers=payload.headers) as reply:
            return b"".join([chunk async for chunk in reply.content.iter_any()])

    async def by_httpcore() -> bytes:
        headers = list(payload.headers.items())
        async with pool.stream("POST", url, headers=headers, content=payload.pieces()) as reply:
            return b"".join([chunk async for chunk in reply.aiter_stream()])

    return {BASELINE: by_aiohttp, "httpx": by_httpx, "httpcore": by_httpcore}


async def measure(url: str, *, rounds: int, calls: int, at_once: int) -> dict[str, tuple[float, float]]:
    """By client: milliseconds of CPU per call, and of latency; medians over the rounds."""
    payload = Payload(picture())
    async with AsyncExitStack() as stack:
        posts = await clients(url, payload, stack)
        cpu_ms: dict[str, list[float]] = {name: [] for name in posts}
        latencies_ms: dict[str, list[float]] = {name: [] for name in posts}
        for number in range(rounds + 1):
            for name, post in posts.items():

                async def timed(post: Post = post, name: str = name) -> None:
                    began = time.perf_counter()
                    body = await post()
                    latencies_ms[name].append(1000 * (time.perf_counter() - began))
                    assert len(body) > 1_000_000

                before = time.process_time()
                for _ in range(calls // at_once):
                    await asyncio.gather(*(timed() for _ in range(at_once)))
                cpu_ms[name].append(1000 * (time.process_time() - before) / (calls // at_once * at_once))
            if not number:
                # The first round opens connections and warms up.
                for measured in (*cpu_ms.values(), *latencies_ms.values()):
                    measured.clear()
    return {name: (statistics.median(cpu_ms[name]), statistics.median(latencies_ms[name])) for name in posts}


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=24, help="of each client in a round")
    parser.add_argument("--at-once", type=int, default=4, help="calls in flight")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        stubs = start([sys.executable, "-m", "benchmarks.stubs", str(port)], port, Path(folder) / "stubs.log")
        try:
            wait_ready(stubs, "/v1/models")
            url = f"{stubs.url}/v1/images/edits"
            figures = asyncio.run(measure(url, rounds=options.rounds, calls=options.calls, at_once=options.at_once))
        finally:
            stubs.stop()
    base_cpu, base_latency = figures[BASELINE]
    print(f"{'client':20}{'CPU ratio':>11}{'CPU ms a call':>15}{'p50 ratio':>11}{'p50 ms':>9}")
    for name, (cpu, latency) in figures.items():
        print(f"{name:20}{cpu / base_cpu:>11.2f}{cpu:>15.2f}{latency / base_latency:>11.2f}{latency:>9.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""An editor worker at ten times its capacity: ``python -m benchmarks.overload``.

A real worker process with a Kontext of random weights, over HTTP. First its capacity is measured: as many callers as slots, each
repeating as soon as it is answered. Then it gets ten times that rate, and each caller follows ``Retry-After`` until it gives
up. Memory must stay bounded, goodput close to capacity, and ``Retry-After`` useful.

Sending and refusing so many requests keeps a core of a small machine busy, and cores share caches and memory. So capacity is also
measured while the same flood goes to a neighbour, a process that refuses everything: that is what the machine can still do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import io
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from PIL import Image

from benchmarks.midsize import quiet
from tests.tiny import kontext

STEPS = 4
SIDE = 128
QUEUE, ACTIVE = 8, 4
FACTOR = 10
_MB = 1024 * 1024
_ATTEMPTS = 4  # of a caller that is refused
_LONGEST_WAIT_S = 20.0  # a caller gives up if it should wait longer
_GOODPUT = 0.95


@dataclass(slots=True)
class Tally:
    """Results of the callers."""

    answers: Counter[int] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    attempts_of_served: list[int] = field(default_factory=list)
    done_at: list[float] = field(default_factory=list)

    def rate(self, begin: float, end: float) -> float:
        """Edits a second between two moments."""
        return sum(begin <= at <= end for at in self.done_at) / (end - begin)


class Worker:
    """A worker process.

    Args:
        folder: the model's folder.
    """

    def __init__(self, folder: Path) -> None:
        env = {
            **os.environ,
            "EDITTHINKER_EDITOR_QUEUE": str(QUEUE),
            "EDITTHINKER_EDITOR_MAX_ACTIVE": str(ACTIVE),
            "EDITTHINKER_EDITOR_PIXELS": str(SIDE * SIDE),
            "HF_HUB_OFFLINE": "1",
        }
        self.port = _free_port()
        command = [
            sys.executable,
            "-m",
            "services.editor",
            "--port",
            str(self.port),
            "--pipeline",
            "auto",
            "--model",
            str(folder),
        ]
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._memory = psutil.Process(self._process.pid)

    async def ready(self, http: httpx.AsyncClient) -> None:
        """Wait until it is ready, two minutes at most."""
        ends = time.monotonic() + 120
        while time.monotonic() < ends:
            with contextlib.suppress(httpx.HTTPError):
                if (await http.get("/readyz")).status_code == httpx.codes.OK:
                    return
            await asyncio.sleep(0.1)
        raise RuntimeError("the worker did not become ready")

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        return self._memory.memory_info().rss / _MB

    def stop(self) -> None:
        """Stop it with SIGTERM, and wait."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


async def neighbour(port: int) -> None:
    """Run a server that reads and refuses every request as cheaply as possible."""
    refusal = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\ncontent-length: 2\r\n\r\n{}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(refusal)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 20) as server:
        await server.serve_forever()


@contextlib.asynccontextmanager
async def _neighbour() -> AsyncIterator[str]:
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.overload", "--neighbour", str(port)]
    process = subprocess.Popen(command)  # noqa: ASYNC220 - nothing else runs yet
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@functools.cache
def _picture(seed: int) -> bytes:
    noise = random.Random(seed).randbytes(64 * 64 * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (64, 64), noise).resize((SIDE, SIDE)).save(buffer, "PNG")
    return buffer.getvalue()


_PROMPTS = itertools.count()


async def _request(http: httpx.AsyncClient, number: int, tally: Tally) -> float | None:
    """Send one unique request; return None when it was served, otherwise the seconds to wait before the next attempt."""
    fields = {"prompt": f"prompt {next(_PROMPTS)}", "seed": number, "num_inference_steps": STEPS}
    reply = await http.post("/v1/images/edits", data=fields, files={"image": _picture(number % 8)})
    tally.answers[reply.status_code] += 1
    if reply.status_code == httpx.codes.TOO_MANY_REQUESTS:
        wait = float(reply.headers["retry-after"])
        tally.waits.append(wait)
        return wait
    reply.raise_for_status()
    tally.done_at.append(time.monotonic())
    return None


async def capacity(http: httpx.AsyncClient, seconds: float) -> float:
    """Edits a second with every slot taken all the time."""
    tally, begin = Tally(), time.monotonic()

    async def caller(number: int) -> None:
        while time.monotonic() < begin + seconds:
            if await _request(http, number, tally) is not None:
                raise RuntimeError("refused although there are no more callers than slots")

    await asyncio.gather(*(caller(number) for number in range(QUEUE + ACTIVE)))
    return tally.rate(begin + seconds / 4, begin + seconds)


async def overload(http: httpx.AsyncClient, rate: float, seconds: float) -> tuple[Tally, float, int]:
    """Offer new callers at this rate; return their results, edits a second, and the number of callers."""
    tally, begin = Tally(), time.monotonic()

    async def caller(number: int) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            wait = await _request(http, number, tally)
            if wait is None:
                tally.attempts_of_served.append(attempt)
                return
            if wait > _LONGEST_WAIT_S:
                return
            await asyncio.sleep(wait)

    callers = [asyncio.create_task(caller(number)) async for number in _arrivals(rate, seconds)]
    end = time.monotonic()
    await asyncio.gather(*callers)
    return tally, tally.rate(begin + seconds / 4, end), len(callers)


async def _capacity_with_flooded_neighbour(http: httpx.AsyncClient, rate: float, seconds: float) -> float:
    """Edits a second with every slot taken, while the flood goes to the neighbour."""
    limits = httpx.Limits(max_connections=2000, keepalive_expiry=2)
    async with (
        _neighbour() as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=limits) as other,
        asyncio.TaskGroup() as both,
    ):
        flood = both.create_task(overload(other, rate, seconds))
        measured = await capacity(http, seconds)
        await flood
    return measured


async def _arrivals(rate: float, seconds: float) -> AsyncIterator[int]:
    rng, begin, at, number = random.Random(1), time.monotonic(), 0.0, 0
    while (at := at + rng.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, begin + at - time.monotonic()))
        yield number
        number += 1


async def _watched(worker: Worker, peak: list[float]) -> None:
    while True:
        peak.append(worker.megabytes)
        await asyncio.sleep(0.2)


async def measure(seconds: float) -> int:
    """Print the table; return 1 if goodput is too low."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        kontext.build(layers=2, single_layers=4, heads=4, head_dim=32).save_pretrained(folder)
        worker = Worker(Path(folder))
        os.nice(10)  # real callers are on other machines, so they must not take the worker's CPU time
        limits = httpx.Limits(max_connections=2000, keepalive_expiry=2)
        try:
            url = f"http://127.0.0.1:{worker.port}"
            async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False, limits=limits) as http:
                await worker.ready(http)
                await capacity(http, seconds / 4)
                before = await capacity(http, seconds)
                flooded = await _capacity_with_flooded_neighbour(http, FACTOR * before, seconds)
                calm, peak = worker.megabytes, list[float]()
                watching = asyncio.create_task(_watched(worker, peak))
                tally, goodput, callers = await overload(http, FACTOR * before, seconds)
                watching.cancel()
                flooded = (flooded + await _capacity_with_flooded_neighbour(http, FACTOR * before, seconds)) / 2
        finally:
            worker.stop()
    rows = [
        ("capacity, edits a second", f"{before:.2f}"),
        ("the same while a neighbour is flooded", f"{flooded:.2f}"),
        (f"new callers a second ({FACTOR} x)", f"{FACTOR * before:.1f} ({callers} in all)"),
        ("goodput, edits a second", f"{goodput:.2f}"),
        ("goodput / capacity while a neighbour is flooded", f"{goodput / flooded:.1%}"),
        ("answers", ", ".join(f"{status}: {count}" for status, count in sorted(tally.answers.items()))),
        ("Retry-After, least / median / most, s", _spread(tally.waits)),
        ("callers who gave up", str(callers - len(tally.attempts_of_served))),
        (
            "served at the first / a later attempt",
            f"{tally.attempts_of_served.count(1)} / {sum(n > 1 for n in tally.attempts_of_served)}",
        ),
        ("memory before / most, MB", f"{calm:.0f} / {max(peak):.0f}"),
    ]
    print("| figure | measured |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in rows))
    return 0 if goodput >= _GOODPUT * flooded else 1


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[0]:g} / {ordered[len(ordered) // 2]:g} / {ordered[-1]:g}" if ordered else "none"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="overload", description="an editor worker at ten times its capacity")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase (30)")
    parser.add_argument("--neighbour", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.neighbour:
        asyncio.run(neighbour(options.neighbour))
        return 0
    return asyncio.run(measure(options.seconds))


if __name__ == "__main__":
    raise SystemExit(main())

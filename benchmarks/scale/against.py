"""Rows that compare with the reference's way: the same sessions, workers and times, in one run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from benchmarks.scale.draws import Step
from benchmarks.scale.fleet import Fleet, Size
from benchmarks.scale.journal import wasted
from benchmarks.scale.load import Callers
from benchmarks.scale.pictures import Replies
from benchmarks.scale.reference import Job, Result
from benchmarks.scale.report import Figure
from benchmarks.scale.stack import Stack, cpu_s, stack
from tests.doubles.processes import Process

_KILLED = 3  # index of the killed worker
_LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Way:
    """Results of one way of doing the work.

    Attributes:
        live: live sessions at the moment of peak memory.
        failed_requests: requests to an editor that had to be repeated.
    """

    wall_s: float
    cpu_s: float
    turns: int
    peak_mb: float
    live: int
    finished: int
    failed_requests: int
    repeated: int
    repeated_s: float


class Memory(threading.Thread):
    """Samples the memory of some processes together; shared pages count once."""

    def __init__(self, processes: Sequence[Process]) -> None:
        super().__init__(daemon=True)
        self._watched = [psutil.Process(process.popen.pid) for process in processes]
        self._over = threading.Event()
        self.peak_mb = 0.0

    def run(self) -> None:
        """Sample twice a second."""
        while not self._over.wait(0.5):
            with contextlib.suppress(psutil.Error):
                self.peak_mb = max(self.peak_mb, sum(process.memory_full_info().pss for process in self._watched) / 1e6)

    def stop(self) -> float:
        """Stop, and return the peak."""
        self._over.set()
        self.join()
        return self.peak_mb


def ideal_s(fleet: Fleet, count: int) -> float:
    """Seconds of work that so many sessions are for a pool that is never idle."""
    draws = fleet.draws
    return sum(draws.edit_s(Step(n, t)) for n in range(1, count + 1) for t in range(1, draws.turns(n) + 1)) / fleet.slots


def ours(made: Stack, count: int, kill_after: float | None) -> Way:
    """Measure the orchestrator; CPU and memory include HAProxy and Valkey."""
    parts = [*made.replicas, made.proxy, made.valkey]
    made.fleet.forget()
    before, memory, logged = cpu_s(*parts), Memory(parts), made.proxy.log.stat().st_size
    memory.start()
    wall, callers = asyncio.run(_ours(made, count, kill_after))
    works = made.fleet.journal()
    finished, turns = callers.seen.finished["satisfied"], callers.seen.turns
    failed = failed_requests(made.proxy.log.read_bytes()[logged:])
    return Way(wall, cpu_s(*parts) - before, turns, memory.stop(), count, finished, failed, *wasted(works))


async def _ours(made: Stack, count: int, kill_after: float | None) -> tuple[float, Callers]:
    async with Callers(made.urls, Replies(large=made.fleet.plan.large).source) as callers:
        with _killing(made.fleet, kill_after):
            wall = await callers.batch(range(1, count + 1))
    return wall, callers


def failed_requests(log: bytes) -> int:
    """Count edits in the proxy's log that were not answered with a picture."""
    lines = (json.loads(line) for line in log.splitlines() if line.startswith(b"{"))
    return sum(line.get("method") == "POST" and not 200 <= line["status"] < 300 for line in lines)


def theirs(fleet: Fleet, count: int, kill_after: float | None, *, listed: bool) -> Way:
    """Measure the reference's way: with a list of the workers, or behind one round robin."""
    editors = [f"http://{address}" for address in fleet.addresses] if listed else [f"http://127.0.0.1:{fleet.plan.front}"]
    job = Job(editors, f"http://127.0.0.1:{fleet.plan.thinker}/v1", 1, count, fleet.plan.large)
    command = [sys.executable, "-m", "benchmarks.scale.reference", json.dumps(asdict(job))]
    fleet.forget()
    with _killing(fleet, kill_after):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LONGEST_S)
    result = Result(**json.loads(done.stdout))
    turns = sum(sample["turns"] for sample in result.samples)
    finished = sum(sample["satisfied"] for sample in result.samples)
    failed = sum(sample["failed_requests"] for sample in result.samples)
    waste = wasted(fleet.journal())
    return Way(result.wall_s, result.cpu_s, turns, result.peak_mb, result.live_at_peak, finished, failed, *waste)


@contextlib.contextmanager
def _killing(fleet: Fleet, after: float | None) -> Iterator[None]:
    """Kill a worker after this time, and restart it at the end."""
    timer = threading.Timer(after, fleet.kill, (_KILLED,)) if after is not None else None
    if timer:
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
            timer.join()
            with contextlib.suppress(OSError):
                fleet.start(_KILLED)
            time.sleep(2)  # until the proxy has checked it


def reference(count: int) -> Iterator[Figure]:
    """Compare on thumbnails, so that the CPU does not limit; with a dying worker; then on megapixels, for their cost."""
    size = Size(workers=8, slots=1, queue=100)
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder), size) as made:
        row = f"{count} sessions, 8 workers of 1"
        ideal = ideal_s(made.fleet, count)
        yield Figure(row, "seconds if the pool never waited", ideal, "s")
        yield from _compared(row, *_three(made, count, None), dying=False)
        yield from _compared(f"{row}, one dies midway", *_three(made, count, ideal / 2), dying=True)
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder), replace(size, large=True)) as made:
        fronted = theirs(made.fleet, count, None, listed=False)
        yield from _compared(f"{count} sessions, megapixels", ours(made, count, None), None, fronted, dying=False)


def _three(made: Stack, count: int, kill_after: float | None) -> list[Way]:
    return [
        ours(made, count, kill_after),
        theirs(made.fleet, count, kill_after, listed=True),
        theirs(made.fleet, count, kill_after, listed=False),
    ]


def _compared(row: str, we: Way, listed: Way | None, fronted: Way, *, dying: bool) -> Iterator[Figure]:
    """Figures of both ways; theirs is shown as list / round robin."""

    def figure(name: str, unit: str, read: Callable[[Way], float]) -> Figure:
        shown = [Figure(row, name, read(way), unit).shown for way in (listed, fronted) if way]
        return Figure(row, name, read(we), unit, reference=" / ".join(shown) + (" (list / nginx)" if listed else " (nginx)"))

    yield figure("wall time", "s", lambda way: way.wall_s)
    yield figure("sessions finished", "", lambda way: way.finished)
    if dying:
        yield figure("edits that had to be requested again", "", lambda way: way.failed_requests)
        yield figure("edits lost or made twice", "", lambda way: way.repeated)
        yield figure("their slot-seconds", "s", lambda way: way.repeated_s)
        return
    yield figure("turns", "", lambda way: way.turns)
    yield figure("CPU, a turn", "ms", lambda way: 1000 * way.cpu_s / max(1, way.turns))
    yield figure("memory in all / live sessions", "MB", lambda way: way.peak_mb / max(1, way.live))

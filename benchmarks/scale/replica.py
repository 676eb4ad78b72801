"""Rows about replicas: ten thousand sessions with a listener each on one replica, and the gain and cost of more."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scale.fleet import Size
from benchmarks.scale.load import Callers
from benchmarks.scale.pictures import small
from benchmarks.scale.pool import BUSY, Lengths, saturated
from benchmarks.scale.report import Figure, at_least, percentile
from benchmarks.scale.stack import Stack, cpu_s, memory_mb, stack

_CLIENTS = 2
_MARGIN = 0.02  # additional sessions, because some end before all have a listener
_COUNTS = (1, 3)


class ListenerProcess:
    """A process of listeners."""

    def __init__(self, port: int, sessions: Sequence[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.scale.listeners", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._write("\n".join(sessions) + "\n\n")

    def connected(self) -> int:
        """Wait until every stream has begun; return their number."""
        word, _, count = self._read().partition(" ")
        if word != "connected":
            raise RuntimeError("the listeners' process has ended")
        return int(count)

    def figures(self) -> dict[str, Any]:
        """Their figures."""
        self._write("\n")
        figures: dict[str, Any] = json.loads(self._read())
        return figures

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait(10)

    def _write(self, text: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


def listeners(count: int, lengths: Lengths) -> Iterator[Figure]:
    """Create live sessions with a listener each; then start the fleet and measure every event's delay."""
    row = "listeners: one replica"
    fleet = Size(workers=16, slots=4, absent=range(1, 16))
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder), fleet) as made:
        replica = made.replicas[0]
        idle, redis_idle = memory_mb(replica), float(made.redis_info()["used_memory"])
        began = time.monotonic()
        ids = asyncio.run(_filled(made, int(count * (1 + _MARGIN))))
        yield Figure(row, f"{len(ids)} sessions: made at", len(ids) / (time.monotonic() - began), "/s")
        yield Figure(row, "memory of the replica: idle", idle, "MB")
        yield Figure(row, "the same with the sessions", memory_mb(replica), "MB")
        yield Figure(row, "Redis, a session", (float(made.redis_info()["used_memory"]) - redis_idle) / len(ids) / 1e3, "kB")
        processes: list[ListenerProcess] = []
        try:
            began = time.monotonic()
            processes += [ListenerProcess(replica.port, ids[number::_CLIENTS]) for number in range(_CLIENTS)]
            connected = sum(process.connected() for process in processes)
            yield Figure(row, "live sessions, each with a listener", connected, "", f">= {count}", met=connected >= count)
            yield Figure(row, "listeners: connected at", len(ids) / (time.monotonic() - began), "/s")
            yield Figure(row, "memory with the listeners", memory_mb(replica), "MB")
            yield from _quiet(made, lengths, row)
            yield from _worked(made, processes, lengths, row)
            held = memory_mb(replica)
        finally:
            for process in processes:
                process.stop()
        yield Figure(row, "memory at the end", held, "MB")
        yield Figure(row, "memory, a session with its listener", 1e3 * (held - idle) / len(ids), "kB")


def _quiet(made: Stack, lengths: Lengths, row: str) -> Iterator[Figure]:
    """Measure the cost of idle listeners."""
    commands, cpu, began = made.redis_info()["total_commands_processed"], cpu_s(*made.replicas), time.monotonic()
    time.sleep(lengths.window_s / 2)
    commands, took = made.redis_info()["total_commands_processed"] - commands, time.monotonic() - began
    yield Figure(row, "before the fleet works: replica's CPU", (cpu_s(*made.replicas) - cpu) / took, "%")
    yield Figure(row, "before the fleet works: commands of Redis", commands / took, "/s")


async def _filled(made: Stack, count: int) -> list[str]:
    # With one worker the queue is hours long, and sessions that cannot finish in time would be refused.
    async with Callers(made.urls, small(), {"deadline_s": "500000"}) as callers:
        await callers.fill(range(1, count + 1))
        if refused := [status for status in callers.seen.answers if status >= 400]:
            raise RuntimeError(f"sessions were refused: {refused}")
        return callers.seen.ids


def _worked(made: Stack, processes: Sequence[ListenerProcess], lengths: Lengths, row: str) -> Iterator[Figure]:
    cpu, redis, began = cpu_s(*made.replicas), cpu_s(made.valkey), time.monotonic()
    for worker in range(1, len(made.fleet.plan.workers)):
        made.fleet.start(worker)
    time.sleep(lengths.window_s)
    figures, took = [process.figures() for process in processes], time.monotonic() - began
    delays = [1000 * delay for one in figures for delay in one["delays_s"]]
    yield Figure(row, "sessions that ended in the window", sum(one["over"] for one in figures))
    yield Figure(row, "events received", len(delays) / took, "/s")
    for name, share in (("p50", 0.5), ("p99", 0.99), ("most", 1.0)):
        yield Figure(row, f"from record to listener, {name}", percentile(delays, share), "ms")
    for name in ("gaps", "refused", "cut"):
        count = sum(one[name] for one in figures)
        yield Figure(row, f"streams or events lost: {name}", count, goal="0", met=count == 0)
    yield Figure(row, "replica's CPU", (cpu_s(*made.replicas) - cpu) / took, "%")
    yield Figure(row, "Redis's CPU", (cpu_s(made.valkey) - redis) / took, "%")


def replicas(lengths: Lengths) -> Iterator[Figure]:
    """Measure a saturated pool with one replica and with three."""
    row = "replicas: 8 workers of 2"
    for count in _COUNTS:
        with tempfile.TemporaryDirectory() as folder, stack(Path(folder), Size(), replicas=count) as made:
            watched = asyncio.run(saturated(made, lengths, iter(range(1, 1_000_000))))
            name = f"{count} replica{'s' if count > 1 else ''}"
            yield at_least(row, f"{name}: goodput / capacity", watched.goodput(made.fleet.slots), BUSY)
            if count > 1:
                yield Figure(row, f"{name}: the least busy one's share of the turns", min(watched.shares), "%")
            yield Figure(row, f"{name}: CPU of the replicas, a turn", 1000 * watched.replicas_s / watched.turns, "ms")
            yield Figure(row, f"{name}: CPU of Redis, a turn", 1000 * watched.redis_s / watched.turns, "ms")
            yield Figure(row, f"{name}: commands of Redis, a turn", watched.redis_commands / watched.turns)

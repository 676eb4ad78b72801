"""Starts the stubs' process, and controls it over its control port."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from benchmarks.scale.draws import Draws
from benchmarks.scale.journal import Work
from benchmarks.scale.stubs import Plan
from tests.doubles.processes import Process, free_port, start, wait_ready


@dataclass(frozen=True, slots=True)
class Fleet:
    """A running fleet."""

    process: Process
    plan: Plan

    @property
    def slots(self) -> int:
        """Edits that it can make at a time."""
        return self.plan.slots * len(self.plan.workers)

    @property
    def draws(self) -> Draws:
        """The distribution of its times."""
        return Draws(self.plan.seed, self.plan.scale)

    @property
    def addresses(self) -> list[str]:
        """Addresses of the workers, as host and port."""
        return [f"127.0.0.1:{port}" for port in self.plan.workers]

    def journal(self) -> list[Work]:
        """Work since the last `forget`."""
        reply = httpx.get(f"{self.process.url}/journal", timeout=60, trust_env=False)
        return [Work(**work) for work in reply.json()]

    def forget(self) -> None:
        """Empty the journal."""
        httpx.delete(f"{self.process.url}/journal", timeout=60, trust_env=False).raise_for_status()

    def kill(self, worker: int) -> None:
        """End a worker as kill -9 would."""
        httpx.post(f"{self.process.url}/kill", params={"worker": worker}, timeout=60, trust_env=False).raise_for_status()

    def start(self, worker: int) -> None:
        """Start a worker that is not running."""
        httpx.post(f"{self.process.url}/start", params={"worker": worker}, timeout=60, trust_env=False).raise_for_status()


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a fleet.

    Attributes:
        absent: workers that have a port and no process yet.
    """

    workers: int = 8
    slots: int = 2
    queue: int = 64
    large: bool = False
    scale: float = 1.0
    absent: Sequence[int] = ()


@contextlib.contextmanager
def fleet(folder: Path, size: Size) -> Iterator[Fleet]:
    """Run the stubs."""
    ports = [free_port() for _ in range(size.workers)]
    plan = Plan(
        free_port(), free_port(), free_port(), ports, slots=size.slots, queue=size.queue, large=size.large, scale=size.scale
    )
    given = json.dumps({**asdict(plan), "absent": list(size.absent)})
    process = start([sys.executable, "-m", "benchmarks.scale.stubs", given], plan.control, folder / "stubs.log")
    try:
        wait_ready(process)
        yield Fleet(process, plan)
    finally:
        process.stop()

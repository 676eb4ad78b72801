"""What the orchestrator itself costs: ``python -m benchmarks.overhead``.

Instant stub editor and thinker (in their own process), a real Valkey, one orchestrator process, megapixel PNGs. CPU is
the orchestrator's alone, read from the kernel, so other load on the machine shifts latencies but not costs. One turn
receives an image (its bytes, or with ``--editor base64`` JSON), checks and stores it, and sends source and candidate twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.stubs import megapixel
from tests.doubles.processes import Process, free_port, module, redis_server, start, wait_ready

GOALS = {"cpu_ms_per_turn": 10.0, "turns_per_s_per_core": 100.0, "memory_mb": 1000.0}


@dataclass
class Figures:
    """One run's figures; CPU and memory are the orchestrator process's."""

    image_mb: float
    turns: int
    cpu_ms_per_turn: float
    turns_per_s_per_core: float
    cpu_ms_per_session_intake: float
    p50_added_ms_per_turn: float
    p99_added_ms_per_turn: float
    p99_added_ms_per_turn_busy: float
    live_sessions: int
    memory_mb: float
    memory_idle_mb: float


@contextmanager
def stack(folder: Path, editor: Literal["raw", "base64"] = "raw") -> Iterator[tuple[Process, Process]]:
    """Valkey, stubs and an orchestrator; yields (orchestrator, stubs).

    Args:
        editor: how it answers: as our own worker does, or as others.
    """
    with ExitStack() as exits:
        redis = exits.enter_context(redis_server(folder))
        port = free_port()
        stubs = start([sys.executable, "-m", "benchmarks.stubs", str(port), editor], port, folder / "stubs.log")
        exits.callback(stubs.stop)
        wait_ready(stubs, "/v1/models")
        env = {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps({"stub": {"url": f"{stubs.url}/v1"}}),
            "EDITTHINKER_THINKERS": json.dumps({"stub": {"url": f"{stubs.url}/v1", "model": "stub"}}),
            "EDITTHINKER_CAPACITY": "4096",
        }
        orchestrator = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
        exits.callback(orchestrator.stop)
        wait_ready(orchestrator)
        yield orchestrator, stubs


def cpu_s(process: Process) -> float:
    """User and system seconds of a process so far."""
    times = psutil.Process(process.popen.pid).cpu_times()
    return times.user + times.system


def memory_mb(process: Process) -> float:
    """Resident memory."""
    return psutil.Process(process.popen.pid).memory_info().rss / 1e6


async def sessions(api: httpx.AsyncClient, image: bytes, count: int, at_once: int, **fields: str) -> list[dict[str, object]]:
    """Run sessions to their end, `at_once` at a time."""
    slots = asyncio.Semaphore(at_once)

    async def one() -> dict[str, object]:
        async with slots:
            data = {"prompt": "make it golden", "patience": "20", **fields}
            reply = await api.post("/v1/sessions", files={"image": image}, data=data, headers={"Prefer": "wait=300"})
            reply.raise_for_status()
            body: dict[str, object] = reply.json()
            assert body["finish_reason"] == "max_turns", body
            return body

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def added_ms(api: httpx.AsyncClient, session: dict[str, object]) -> list[float]:
    """Per turn: from `turn_started` to `critiqued`; the stubs are instant, so all of it is ours (and the stubs' I/O)."""
    reply = await api.get(f"/v1/sessions/{session['id']}/events")
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
    begun = {event["turn"]: event["at"] for event in events if event["type"] == "turn_started"}
    return [1000 * (event["at"] - begun[event["turn"]]) for event in events if event["type"] == "critiqued"]


async def measure(orchestrator: Process, stubs: Process, *, rounds: int, live: int) -> Figures:
    """Measure all figures in one run."""
    image = megapixel()
    async with httpx.AsyncClient(base_url=orchestrator.url, timeout=600, trust_env=False) as api:
        await sessions(api, image, 2, 1, max_turns="2")
        idle = memory_mb(orchestrator)
        # Sessions of one turn and of eleven: the difference is ten turns without a session's intake.
        before = cpu_s(orchestrator)
        await sessions(api, image, rounds, 2, max_turns="1")
        short = cpu_s(orchestrator) - before
        before = cpu_s(orchestrator)
        long = await sessions(api, image, rounds, 2, max_turns="11")
        took = cpu_s(orchestrator) - before
        per_turn = (took - short) / (rounds * 10)
        busy = sorted([ms for session in long for ms in await added_ms(api, session)])
        quiet_sessions = await sessions(api, image, max(4, rounds // 4), 1, max_turns="11")
        quiet = sorted([ms for session in quiet_sessions for ms in await added_ms(api, session)])
        memory = await live_sessions(api, orchestrator, image, live)
        await api.post(f"{stubs.url}/release")
    return Figures(
        image_mb=round(len(image) / 1e6, 2),
        turns=rounds * 10,
        cpu_ms_per_turn=round(1000 * per_turn, 2),
        turns_per_s_per_core=round(1 / per_turn, 1),
        cpu_ms_per_session_intake=round(1000 * (short / rounds - per_turn), 2),
        p50_added_ms_per_turn=round(statistics.median(quiet), 1),
        p99_added_ms_per_turn=round(quiet[int(0.99 * (len(quiet) - 1))], 1),
        p99_added_ms_per_turn_busy=round(busy[int(0.99 * (len(busy) - 1))], 1),
        live_sessions=live,
        memory_mb=round(memory),
        memory_idle_mb=round(idle),
    )


async def live_sessions(api: httpx.AsyncClient, orchestrator: Process, image: bytes, count: int) -> float:
    """Memory while `count` sessions wait for their edit."""
    slots = asyncio.Semaphore(8)

    async def one() -> None:
        async with slots:
            data = {"prompt": "hold", "deadline_s": "3600"}
            (await api.post("/v1/sessions", files={"image": image}, data=data)).raise_for_status()

    await asyncio.gather(*(one() for _ in range(count)))
    ends = time.monotonic() + 120
    while True:
        metrics = (await api.get("/metrics")).text
        driving = float(metrics.split("\neditthinker_sessions_driving ")[1].split()[0])
        started = metrics.count('type="edit_started"') and float(metrics.split('type="edit_started"} ')[1].split()[0])
        if driving >= count and started >= count:
            return memory_mb(orchestrator)
        assert time.monotonic() < ends, f"only {driving} of {count} sessions are running"
        await asyncio.sleep(0.2)


def main() -> int:
    """Print the table; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="sessions per measurement")
    parser.add_argument("--live", type=int, default=2000, help="live sessions for the memory figure")
    parser.add_argument("--editor", choices=["raw", "base64"], default="raw", help="how the editor answers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder), options.editor) as (orchestrator, stubs):
        figures = asyncio.run(measure(orchestrator, stubs, rounds=options.rounds, live=options.live))
    table = Table(title="Orchestrator overhead, 1-megapixel PNGs, instant upstreams")
    for heading in ("figure", "measured", "goal"):
        table.add_column(heading)
    for name, value in asdict(figures).items():
        goal = GOALS.get(name)
        table.add_row(name, str(value), f"{'>=' if name.startswith('turns_per') else '<='} {goal:g}" if goal else "")
    Console().print(table)
    print(json.dumps(asdict(figures)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

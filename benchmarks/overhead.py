"""What the orchestrator itself costs: ``python -m benchmarks.overhead``.

Instant stub editor and thinker (in their own process), a real Valkey, one orchestrator process. CPU is the orchestrator's and
that of its decode processes, read from the kernel, so other load on the machine shifts latencies but not costs. One turn sends
the source to the editor, receives a picture (its bytes, or with ``--editor base64`` JSON), checks and stores it, and sends both
to the thinker.

``--against PATH`` runs another checkout in the same minutes: both stacks are up, and each repeat measures one after the other.
``--profile`` says where the time of a turn goes (`benchmarks.cpu_areas`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import cpu_areas
from benchmarks.stubs import PICTURES, picture
from tests.doubles.processes import Process, free_port, redis_server, start, wait_ready

GOALS: Final = {"cpu_ms_per_turn": 4.0, "memory_mb": 1000.0}
AT_ONCE: Final = 2
LONG: Final = 11
"""Turns of a session; one of a single turn is subtracted, so that a session's intake does not count."""
ROOT: Final = Path(__file__).parents[1]


@dataclass
class Turn:
    """CPU milliseconds of a turn, by repeat, with one kind of picture: in all, and in the orchestrator's own process."""

    picture: str
    picture_mb: float
    cpu_ms: list[float] = field(default_factory=list)
    own_ms: list[float] = field(default_factory=list)
    intake_ms: list[float] = field(default_factory=list)
    areas: dict[str, float] = field(default_factory=dict)

    @property
    def median_ms(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.cpu_ms)


@dataclass
class Figures:
    """One run's other figures, with the first kind of picture; memory is the orchestrator process's."""

    p50_added_ms_per_turn: float
    p99_added_ms_per_turn: float
    p99_added_ms_per_turn_busy: float
    live_sessions: int
    memory_mb: float
    memory_idle_mb: float


@dataclass(frozen=True, slots=True)
class Side:
    """A running orchestrator with its stubs.

    Attributes:
        name: of its checkout.
        areas: the file of `cpu_areas`, if it is profiled.
    """

    name: str
    orchestrator: Process
    stubs: Process
    areas: Path

    @property
    def _process(self) -> psutil.Process:
        return psutil.Process(self.orchestrator.popen.pid)

    def own_s(self) -> float:
        """User and system seconds of the orchestrator's process so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def children_s(self) -> float:
        """Those of its decode processes, the ended ones included."""
        times = self._process.cpu_times()
        total = float(times.children_user + times.children_system)
        for child in self._process.children(recursive=True):
            used = child.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
        return total

    def memory_mb(self) -> float:
        """Resident memory."""
        return float(self._process.memory_info().rss / 1e6)

    def profile(self) -> dict[str, float]:
        """CPU seconds by area so far; empty if it is not profiled."""
        if not self.areas.exists():
            return {}
        time.sleep(2 * cpu_areas.WRITE_EVERY_S)
        found: dict[str, dict[str, float]] = json.loads(self.areas.read_text("utf-8"))
        return {**found["areas"], **{f"  {place}": seconds for place, seconds in found["places"].items()}}


@contextmanager
def stack(
    folder: Path, root: Path, name: str, kind: str, editor: Literal["raw", "base64"] = "raw", *, profile: bool = False
) -> Iterator[Side]:
    """Valkey, stubs and the orchestrator of a checkout.

    Args:
        folder: for their files.
        root: the checkout.
        name: what it is called.
        kind: of `PICTURES`.
        editor: how it answers: as our own worker does, or as others.
        profile: whether its CPU time is attributed.
    """
    folder.mkdir()
    with ExitStack() as exits:
        redis = exits.enter_context(redis_server(folder))
        port = free_port()
        stubs = start([sys.executable, "-m", "benchmarks.stubs", str(port), kind, editor], port, folder / "stubs.log")
        exits.callback(stubs.stop)
        wait_ready(stubs, "/v1/models")
        env = {
            "PYTHONPATH": str(root),
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            # Held edits show nothing of the editor's capacity.
            "EDITTHINKER_EDITORS": json.dumps({"stub": {"url": f"{stubs.url}/v1", "max_in_flight": 4096}}),
            "EDITTHINKER_CONFIRMATIONS": "0",  # one critique of each candidate
            "EDITTHINKER_JUDGE_CHECK": "off",
            "EDITTHINKER_THINKERS": json.dumps({"stub": {"url": f"{stubs.url}/v1", "model": "stub"}}),
            "EDITTHINKER_CAPACITY": "4096",
        }
        own = root / ".venv" / "bin" / "python"
        python = str(own) if own.exists() else sys.executable
        areas = folder / "areas.json"
        run = [python, cpu_areas.__file__, str(areas)] if profile else [python, "-m"]
        port = free_port()
        with (folder / "orchestrator.log").open("ab") as log:
            popen = subprocess.Popen(
                [*run, "orchestrator", "--port", str(port)], stdout=log, stderr=log, env={**os.environ, **env}, cwd=root
            )
        orchestrator = Process(popen, port, folder / "orchestrator.log")
        exits.callback(orchestrator.stop)
        wait_ready(orchestrator)
        yield Side(name, orchestrator, stubs, areas)


async def sessions(api: httpx.AsyncClient, image: bytes, count: int, at_once: int, **fields: str) -> list[dict[str, object]]:
    """Run sessions to their end, `at_once` at a time."""
    slots = asyncio.Semaphore(at_once)

    async def one() -> dict[str, object]:
        async with slots:
            data = {"prompt": "make it golden", "patience": "20", **fields}
            reply = await api.post("/v1/sessions", files={"image": image}, data=data, headers={"Prefer": "wait=100"})
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


def _client(side: Side) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=side.orchestrator.url, timeout=120, trust_env=False)


async def turns(side: Side, image: bytes, count: int, into: Turn) -> None:
    """Measure one repeat: sessions of one turn and of eleven. The difference is ten turns without a session's intake."""
    async with _client(side) as api:
        own, children = [side.own_s()], [side.children_s()]
        for most in (1, LONG):
            await sessions(api, image, count, AT_ONCE, max_turns=str(most))
            own.append(side.own_s())
            children.append(side.children_s())
    both = [a + b for a, b in zip(own, children, strict=True)]
    short, long = both[1] - both[0], both[2] - both[1]
    into.cpu_ms.append(1000 * (long - short) / (count * (LONG - 1)))
    into.own_ms.append(1000 * ((own[2] - own[1]) - (own[1] - own[0])) / (count * (LONG - 1)))
    into.intake_ms.append(1000 * short / count - into.cpu_ms[-1])


async def profiled(side: Side, image: bytes, count: int, into: Turn) -> None:
    """Where the time of a turn goes, in milliseconds."""
    async with _client(side) as api:
        before, children = side.profile(), side.children_s()
        await sessions(api, image, count, AT_ONCE, max_turns=str(LONG))
        after, decoding = side.profile(), side.children_s() - children
    per_turn = 1000 / (count * LONG)
    into.areas = {name: per_turn * (seconds - before.get(name, 0.0)) for name, seconds in after.items()}
    into.areas["picture check: decode processes"] = per_turn * decoding


async def others(side: Side, image: bytes, *, count: int, live: int) -> Figures:
    """Latency and memory."""
    async with _client(side) as api:
        idle = side.memory_mb()
        long = await sessions(api, image, max(4, count // 2), AT_ONCE, max_turns=str(LONG))
        busy = sorted([ms for session in long for ms in await added_ms(api, session)])
        quiet_sessions = await sessions(api, image, max(4, count // 4), 1, max_turns=str(LONG))
        quiet = sorted([ms for session in quiet_sessions for ms in await added_ms(api, session)])
        memory = await live_sessions(api, side, image, live)
        await api.post(f"{side.stubs.url}/release")
    return Figures(
        p50_added_ms_per_turn=round(statistics.median(quiet), 1),
        p99_added_ms_per_turn=round(quiet[int(0.99 * (len(quiet) - 1))], 1),
        p99_added_ms_per_turn_busy=round(busy[int(0.99 * (len(busy) - 1))], 1),
        live_sessions=live,
        memory_mb=round(memory),
        memory_idle_mb=round(idle),
    )


async def live_sessions(api: httpx.AsyncClient, side: Side, image: bytes, count: int) -> float:
    """Memory while `count` sessions wait for their edit."""
    slots = asyncio.Semaphore(8)

    async def one() -> None:
        async with slots:
            data = {"prompt": "hold", "deadline_s": "3600"}
            (await api.post("/v1/sessions", files={"image": image}, data=data)).raise_for_status()

    started_before = _started((await api.get("/metrics")).text)
    await asyncio.gather(*(one() for _ in range(count)))
    ends = time.monotonic() + 120
    while True:
        metrics = (await api.get("/metrics")).text
        driving = float(metrics.split("\neditthinker_sessions_driving ")[1].split()[0])
        if driving >= count and _started(metrics) - started_before >= count:
            return side.memory_mb()
        assert time.monotonic() < ends, f"only {driving:.0f} of {count} sessions are running"
        await asyncio.sleep(0.2)


def _started(metrics: str) -> float:
    _, found, rest = metrics.partition('type="edit_started"} ')
    return float(rest.split()[0]) if found else 0.0


# --- the runs ------------------------------------------------------------------------------------------------------


async def _measure(sides: list[Side], kind: str, image: bytes, options: argparse.Namespace) -> list[Turn]:
    found = [Turn(kind, round(len(image) / 1e6, 2)) for _ in sides]
    for side in sides:
        async with _client(side) as api:
            await sessions(api, image, 2, 1, max_turns="2")
    if options.profile:
        for side, turn in zip(sides, found, strict=True):
            await profiled(side, image, options.rounds, turn)
        return found
    share = max(1, options.rounds // options.repeats)
    for repeat in range(options.repeats):
        order = list(zip(sides, found, strict=True))
        for side, turn in order if repeat % 2 else reversed(order):
            await turns(side, image, share, turn)
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; prints each table when it is there."""
    roots = {"this": ROOT, **({"other": options.against.resolve()} if options.against else {})}
    found: dict[str, list[Turn]] = {name: [] for name in roots}
    figures: dict[str, Figures] = {}
    for kind in options.pictures:
        image = picture(kind)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as exits:
            sides = [
                exits.enter_context(stack(Path(folder) / name, root, name, kind, options.editor, profile=options.profile))
                for name, root in roots.items()
            ]
            for side, turn in zip(sides, asyncio.run(_measure(sides, kind, image, options)), strict=True):
                found[side.name].append(turn)
                if kind == options.pictures[0] and not options.profile:
                    figures[side.name] = asyncio.run(others(side, image, count=options.rounds, live=options.live))
    if options.profile:
        for name, measured in found.items():
            _print_areas(name, measured, options.places)
    else:
        _print_turns(found)
        _print_figures(figures)
    return {
        "turns": {name: [asdict(turn) for turn in measured] for name, measured in found.items()},
        "figures": {name: asdict(each) for name, each in figures.items()},
    }


def _print_turns(found: dict[str, list[Turn]]) -> None:
    table = Table(title="CPU milliseconds of a turn, decode processes included (medians; goal at 1 MP: <= 4)")
    other = found.get("other")
    headings = ["picture", "MB", *(["this / other"] if other else []), "this", "of it decoding", "repeats", "intake"]
    for heading in [*headings, *(["other", "of it decoding", "repeats", "intake"] if other else [])]:
        table.add_column(heading, justify="right")
    for index, turn in enumerate(found["this"]):
        cells = [turn.picture, f"{turn.picture_mb:.2f}"]
        if other:
            ratios = [mine / theirs for mine, theirs in zip(turn.cpu_ms, other[index].cpu_ms, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        for each in (turn, *([other[index]] if other else [])):
            decoding = each.median_ms - statistics.median(each.own_ms)
            repeats = ", ".join(f"{ms:.1f}" for ms in sorted(each.cpu_ms))
            cells += [f"{each.median_ms:.2f}", f"{decoding:.2f}", repeats, f"{statistics.median(each.intake_ms):.1f}"]
        table.add_row(*cells)
    Console(width=160).print(table)


def _print_figures(figures: dict[str, Figures]) -> None:
    table = Table(title="Latency and memory")
    for heading in ("figure", *figures, "goal"):
        table.add_column(heading)
    for name in asdict(figures["this"]):
        goal = GOALS.get(name)
        table.add_row(name, *(str(getattr(each, name)) for each in figures.values()), f"<= {goal:g}" if goal else "")
    Console().print(table)


def _print_areas(name: str, measured: list[Turn], places: int) -> None:
    table = Table(title=f"{name}: where the CPU milliseconds of a turn go (a sample; the sampler costs some itself)")
    table.add_column("area")
    for turn in measured:
        table.add_column(f"{turn.picture} {turn.picture_mb:.2f} MB", justify="right")
    areas = {area for turn in measured for area in turn.areas}
    named = sorted((area for area in areas if not area.startswith(" ")), key=lambda area: -measured[0].areas.get(area, 0.0))
    for area in named:
        table.add_row(area, *(f"{turn.areas.get(area, 0.0):.2f}" for turn in measured))
        within = [place for place in areas if place.startswith(f"  {area}: ")]
        for place in sorted(within, key=lambda place: -measured[0].areas.get(place, 0.0))[:places]:
            table.add_row(f"  {place.partition(': ')[2]}", *(f"{turn.areas.get(place, 0.0):.2f}" for turn in measured))
    totals = [sum(turn.areas.get(area, 0.0) for area in named) for turn in measured]
    table.add_row("all", *(f"{total:.2f}" for total in totals))
    Console(width=160).print(table)


def main() -> int:
    """Print the tables; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="sessions of each length, for each kind of picture")
    parser.add_argument("--repeats", type=int, default=5, help="parts that the rounds are divided into, for median and ratio")
    parser.add_argument("--live", type=int, default=2000, help="live sessions for the memory figure")
    parser.add_argument("--editor", choices=["raw", "base64"], default="raw", help="how the editor answers")
    parser.add_argument("--pictures", nargs="+", choices=list(PICTURES), default=list(PICTURES), help="kinds of pictures")
    parser.add_argument("--against", type=Path, help="another checkout, with a .venv or for this Python")
    parser.add_argument("--profile", action="store_true", help="say where the time of a turn goes")
    parser.add_argument("--places", type=int, default=0, help="functions named of each area, with --profile")
    print(json.dumps(run(parser.parse_args())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""A rolling restart of all replicas, behind HAProxy, under load by the unmodified `openai` client (``make rolling``).

The client sends no idempotency key and repeats a request twice at most. No caller may see an error, no edit may be made twice,
and every request is one session. ``--drain`` below the length of a session makes callers move to another replica.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import openai

from tests.chaos.checker import Violation, check
from tests.chaos.evidence import CallerRecord, gather
from tests.chaos.fleet import Fleet, Size
from tests.chaos.run import calm
from tests.chaos.waste import Waste, measure
from tests.doubles.haproxy import haproxy_binary
from tests.doubles.processes import free_port, start, wait_ready

PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg"
_GOOD_EXIT_CODES = {0, -15}

_CONFIG = """
global
    log stdout format raw local0 err
defaults
    mode http
    log global
    timeout connect 2s
    timeout client 2m
    timeout server 2m
    retries 3
    option redispatch 1
    retry-on conn-failure
frontend api
    bind 127.0.0.1:{port}
    http-request return status 200 if {{ path /balancer }}
    default_backend replicas
backend replicas
    balance leastconn
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr host 127.0.0.1
    default-server check inter 200ms fall 1 rise 1
"""


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        callers: who wait at a time.
        rounds: restarts of every replica.
        drain_s: seconds that a replica has for its callers.
        turns, steps: of each session.
    """

    callers: int = 10
    rounds: int = 2
    drain_s: float = 10.0
    turns: int = 3
    steps: int = 12
    size: Size = field(default_factory=lambda: Size(orchestrators=3, editors=2, thinkers=1))


@dataclass
class Report:
    """What callers and the evidence say."""

    answered: int
    errors: list[str]
    repeats: int
    """Requests that the client repeated by itself."""
    violations: list[Violation]
    waste: Waste
    exits: list[int | None]
    seconds: float

    @property
    def failures(self) -> list[str]:
        """Everything that must not be."""
        bad_exits = [f"a replica exited with {code}" for code in self.exits if code not in _GOOD_EXIT_CODES]
        repeated = [f"{self.waste.repeats} edits were made again"] if self.waste.repeats else []
        return [*self.errors, *map(str, self.violations), *bad_exits, *repeated]


@asynccontextmanager
async def balancer(folder: Path, fleet: Fleet) -> AsyncIterator[str]:
    """HAProxy in front of the replicas; its URL."""
    port = free_port()
    servers = [f"    server {member.name} 127.0.0.1:{member.port}" for member in fleet.orchestrators]
    config = folder / "replicas.cfg"
    config.write_text("\n".join([_CONFIG.format(port=port), *servers, ""]))
    process = start([haproxy_binary(), "-db", "-f", str(config)], port, folder / "replicas.log")
    try:
        await asyncio.to_thread(wait_ready, process, "/balancer", seconds=20)
        await asyncio.to_thread(wait_ready, process, seconds=20)
        yield process.url
    finally:
        await asyncio.to_thread(process.stop)


class Callers:
    """Callers who each make one request after the other until they are told to stop."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._options = options
        self._numbers = itertools.count(1)
        self._stop = False
        self.told: list[CallerRecord] = []
        self.errors: list[str] = []
        self.repeats = 0

    def stop(self) -> None:
        self._stop = True

    async def run(self) -> None:
        async with openai.AsyncOpenAI(base_url=f"{self._url}/v1", api_key="none") as client:
            await asyncio.gather(*(self._caller(client) for _ in range(self._options.callers)))

    async def _caller(self, client: openai.AsyncOpenAI) -> None:
        while not self._stop:
            number = next(self._numbers)
            told = CallerRecord(f"caller-{number}")
            self.told.append(told)
            own = {"max_turns": self._options.turns, "num_inference_steps": self._options.steps, "semantic_threshold": 10}
            own |= {"patience": self._options.turns, "quality_threshold": 10}
            try:
                raw = await client.images.with_raw_response.edit(
                    image=("photo.jpg", PHOTO.read_bytes()), prompt="make it dramatic", user=told.key, extra_body=own
                )
            except openai.OpenAIError as exc:
                self.errors.append(f"{told.key}: {exc!r}")
                continue
            reply = raw.parse()
            self.repeats += raw.retries_taken
            session_id = (reply.model_extra or {})["session_id"]
            told.ids.add(session_id)
            told.waited = session_id, time.time(), bool(reply.data and base64.b64decode(reply.data[0].b64_json or ""))
            if not told.waited[2]:
                self.errors.append(f"{told.key}: no picture")


async def roll(fleet: Fleet, options: Options) -> list[int | None]:
    """Restart every replica, one after the other; their exit codes."""
    exits = []
    for _ in range(options.rounds):
        for member in fleet.orchestrators:
            exits.append(await asyncio.to_thread(member.stop))
            member.start()
            await asyncio.to_thread(fleet.wait_ready)
    return exits


async def run(folder: Path, options: Options) -> Report:
    """One run, from the first process to the report; no process is left running."""
    fleet = Fleet(folder, replace(options.size, drain_s=options.drain_s))
    try:
        await asyncio.to_thread(fleet.start)
        async with balancer(folder, fleet) as url:
            callers = Callers(url, options)
            began = time.monotonic()
            calling = asyncio.create_task(callers.run())
            exits = await roll(fleet, options)
            callers.stop()
            await calling
            seconds = time.monotonic() - began
            await calm(fleet)
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                ids = [session_id for told in callers.told for session_id in told.ids]
                views = {name: (await client.get(f"/v1/sessions/{name}")).json() for name in ids}
        evidence = gather(fleet.redis.port, fleet.blobs, callers.told, views)
        waste = measure(evidence, fleet.journals)
        return Report(len(ids), callers.errors, callers.repeats, check(evidence), waste, exits, seconds)
    finally:
        await asyncio.to_thread(fleet.end)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rolling", description=__doc__)
    parser.add_argument("--callers", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--drain", type=float, default=10.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rolling-") as folder:
        report = asyncio.run(run(Path(folder), Options(asked.callers, asked.rounds, asked.drain)))
    figures = {
        "requests": report.answered + len(report.errors),
        "errors seen by callers": len(report.errors),
        "repeats by the client": report.repeats,
        "restarts": len(report.exits),
        "seconds": round(report.seconds, 1),
        "edits": report.waste.runs,
        "edits repeated": report.waste.repeats,
        "editor seconds wasted": round(report.waste.wasted, 2),
        "violations": len(report.violations),
    }
    lines = [f"{name:28} {value}" for name, value in figures.items()]
    sys.stdout.write("\n".join([*lines, *report.failures[:20], json.dumps(figures), ""]))
    return 1 if report.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What a crowd costs the queue, and what it leaves to other tenants: ``python -m benchmarks.crowd``.

``queue``: the time of `create`, `claim` and a poll of the queue position on a real Valkey, with 10, 1,000 and 100,000 sessions
queued by up to 1,000 tenants. The calls are one after the other, so a time is a round trip and the script.

``fairness``: one tenant has five sessions of 16 candidates and 20 turns at an editor with four slots. Another makes single edits:
one at a time, alone and in the crowd, for the times; then more than the editor can do, for Jain's index by editor seconds. It
takes about a minute and a half and says on standard error how far it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from orchestrator.loop import events as ev
from orchestrator.ports.stores import Share, Wanted
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions, SessionsOptions
from tests.doubles.processes import free_port, module, redis_server, wait_ready
from tests.doubles.upstreams import Script, application, picture, serving

TENANTS: Final = 1000
QUEUED: Final = (10, 1_000, 100_000)
SLOTS: Final = 4
EDIT_S: Final = 0.5
CONTEST_S: Final = 30.0
"""For Jain's index: sixty times an edit, with four slots."""
CROWD: Final[dict[str, Any]] = {
    "candidates": 16,
    "max_turns": 20,
    "patience": 20,
    "deadline_s": 600,
    "strategy": "think_best_of_n",
}
IMAGE: Final = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)


@dataclass
class QueueFigures:
    """Milliseconds of one call with so many sessions queued; medians, and the 95th percentiles."""

    queued: int
    tenants: int
    create_ms: float
    create_p95_ms: float
    claim_ms: float
    claim_p95_ms: float
    poll_ms: float
    poll_p95_ms: float


@dataclass
class FairnessFigures:
    """Seconds of single edits alone and in the crowd, and Jain's index."""

    quiet_p95_s: float
    crowd_p95_s: float
    ratio: float
    jain: float


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def jain(shares: list[float]) -> float:
    """Jain's index: 1 where all shares are equal, 1/n where one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


# --- the queue -----------------------------------------------------------------------------------------------------


async def queue_figures(redis: Redis, queued: int, tenants: int, calls: int) -> QueueFigures:
    """Fill the queue, then time calls at about that size."""
    await redis.flushdb()
    store = RedisSessions(redis, PubSubFanout(lambda: redis), KeySpace(), SessionsOptions(most_unfinished=10**7, lease_s=3600))
    made = 0

    async def create() -> None:
        nonlocal made
        made += 1
        now = time.time()
        limits = ev.Limits(deadline_at=now + 86_400)
        tenant = f"tenant-{made % tenants}"
        event = ev.SessionCreated(at=now, source=IMAGE, instruction="x", editor="e", thinker="t", limits=limits, tenant=tenant)
        await store.create(f"ses_{made:032}", event, None)

    for start in range(0, queued, 100):
        await asyncio.gather(*(create() for _ in range(min(100, queued - start))))
    wanted = Wanted({"e": 1}, urgent=64, chores=64, webhook_chores=64, shares={"e": Share(1, 8)}, most=64, thinkers={"t"})

    async def poll() -> None:
        await store.queue_position(f"ses_{max(1, made - made // 3):032}")

    polls = await _timed(poll, calls)
    creates = await _timed(create, calls)
    claims = [await _seconds(lambda: store.claim("r", wanted)) for _ in range(calls)]
    figures = [1000 * value for values in (creates, claims, polls) for value in (statistics.median(values), p95(values))]
    return QueueFigures(queued, min(tenants, queued), *figures)


async def _timed(call: Callable[[], Awaitable[Any]], calls: int) -> list[float]:
    return [await _seconds(call) for _ in range(calls)]


async def _seconds(call: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


# --- fairness ------------------------------------------------------------------------------------------------------


class Tenant:
    """A tenant's client."""

    def __init__(self, url: str, key: str) -> None:
        self.client = httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=300, trust_env=False)

    async def begin(self, wait_s: int = 0, **fields: Any) -> dict[str, Any]:
        """A session, as it is after so many seconds or at its end."""
        headers = {"prefer": f"wait={wait_s}"} if wait_s else {}
        data = {"prompt": "make it golden", **{name: str(value) for name, value in fields.items()}}
        reply = await self.client.post(
            "/v1/sessions", files={"image": ("a.png", picture(), "image/png")}, data=data, headers=headers
        )
        assert reply.is_success, reply.text
        found: dict[str, Any] = reply.json()
        return found

    async def single_s(self) -> float:
        """Seconds of one single edit."""
        began = time.perf_counter()
        session = await self.begin(60, strategy="single", deadline_s=120)
        assert session["status"] == "succeeded", session
        return time.perf_counter() - began


async def fairness_figures(url: str, redis: Redis, keys: dict[str, str], singles: int) -> FairnessFigures:
    """The small tenant alone, then in the crowd; then both with more than there is."""
    big, small = Tenant(url, keys["big"]), Tenant(url, keys["small"])
    await small.single_s()

    async def times(what: str) -> list[float]:
        found = []
        for number in range(1, singles + 1):
            found.append(await small.single_s())
            if number % 5 == 0:
                _progress(f"single edits {what}: {number} of {singles}, the last took {found[-1]:.2f} s")
        return found

    quiet = await times("alone")
    await asyncio.gather(*(big.begin(**CROWD) for _ in range(5)))
    await asyncio.sleep(4 * EDIT_S)
    crowd = await times("in the crowd")

    async def spent() -> dict[str, float]:
        found: Any = await redis.hgetall(f"{KeySpace().prefix}spent:{int(time.time() // 86_400)}")
        return {name.decode(): float(seconds) for name, seconds in found.items()}

    _progress(f"both tenants with more than there is, for {CONTEST_S:g} s")
    ends = time.monotonic() + CONTEST_S

    async def again_and_again() -> None:
        while time.monotonic() < ends:
            await small.single_s()

    before = await spent()
    await asyncio.gather(*(again_and_again() for _ in range(4 * SLOTS)))
    after = await spent()
    index = jain([after[name] - before.get(name, 0.0) for name in ("big", "small")])
    for tenant in (big, small):
        await tenant.client.aclose()
    return FairnessFigures(p95(quiet), p95(crowd), p95(crowd) / p95(quiet), index)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- the runs ------------------------------------------------------------------------------------------------------


async def _queue(port: int, sizes: tuple[int, ...], calls: int) -> list[QueueFigures]:
    redis = Redis(port=port)
    try:
        return [await queue_figures(redis, queued, TENANTS, calls) for queued in sizes]
    finally:
        await redis.aclose()


async def _fairness(url: str, port: int, singles: int) -> FairnessFigures:
    redis = Redis(port=port)
    try:
        store = ApiKeyStore(redis, KeySpace())
        keys = {name: (await store.create(name, ("edit", "read")))[0] for name in ("big", "small")}
        return await fairness_figures(url, redis, keys, singles)
    finally:
        await redis.aclose()


def run_fairness(folder: Path, singles: int) -> FairnessFigures:
    """One orchestrator process, a real Valkey, and the doubles of the tests."""
    script = Script(scores=[(3, 9)], edit_delay_s=EDIT_S)
    with redis_server(folder) as redis, serving(application(script)) as upstreams:
        env = {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps({"double": {"url": f"{upstreams}/editor/v1", "max_in_flight": SLOTS}}),
            "EDITTHINKER_CONFIRMATIONS": "0",  # one critique of each candidate
            "EDITTHINKER_JUDGE_CHECK": "off",
            "EDITTHINKER_THINKERS": json.dumps({"double": {"url": f"{upstreams}/thinker/v1", "model": "double"}}),
            "EDITTHINKER_KEYS": "required",
        }
        orchestrator = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
        try:
            wait_ready(orchestrator)
            return asyncio.run(_fairness(orchestrator.url, redis.port, singles))
        finally:
            orchestrator.stop()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["queue", "fairness", "all"], default="all")
    parser.add_argument("--calls", type=int, default=300, help="calls of each kind at each size")
    parser.add_argument("--most", type=int, default=QUEUED[-1], help="leave out larger queues")
    parser.add_argument("--singles", type=int, default=30, help="single edits, alone and in the crowd each")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.part != "fairness":
            with redis_server(folder, None, "--appendfsync", "no") as redis:
                sizes = tuple(size for size in QUEUED if size <= options.most)
                found["queue"] = [asdict(one) for one in asyncio.run(_queue(redis.port, sizes, options.calls))]
            _print("the queue: milliseconds of one call", found["queue"])
        if options.part != "queue":
            # A folder of its own: the queue's Redis left its sessions in the other.
            own = folder / "fairness"
            own.mkdir()
            found["fairness"] = asdict(run_fairness(own, options.singles))
            _print("single edits in a crowd", [found["fairness"]])
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

"""What a failover of Redis loses: ``python -m tests.chaos.failover`` (``make failover``) prints the table of docs/operations.md.

A sentinel watches a master and its replica, which is behind by `lag_s`. Callers create sessions, and wait for pictures, until the
master and all that it had sent and not delivered are gone at once. The sentinel promotes the replica. Each row is one such run,
with and without waiting for the replica (``WAIT``).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.chaos.clients import photos
from tests.chaos.evidence import Store
from tests.chaos.fleet import Fleet, Size
from tests.doubles.redis_fleet import RedisFleet, until, watched
from tests.doubles.tcp_proxy import Fault, ThreadProxy, running

SIZE = Size(orchestrators=2, editors=2, thinkers=1, step_s=0.02)
WAIT_S = 4.0
"""`EDITTHINKER_REDIS_WAIT_S`: longer than any lag."""
_STEPS = 5
_RECOVERY_S = 40.0
_AGAIN_S = 0.1
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        lag_s: seconds that the replica is behind.
        replicas: `EDITTHINKER_REDIS_WAIT_REPLICAS`.
        callers: half of them create sessions, half wait for pictures.
        lasts_s: seconds from the first call to the failure.
    """

    lag_s: float
    replicas: int
    callers: int = 20
    lasts_s: float = 7.0


@dataclass
class Told:
    """What callers were told before the failure, and the errors that they got."""

    acknowledged: set[str] = field(default_factory=set)
    """Sessions whose ids were returned."""
    results: set[str] = field(default_factory=set)
    """Sessions whose pictures were returned."""
    creates_s: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    """By status, in the whole run; the caller repeats the request under its key."""


@dataclass(frozen=True)
class Loss:
    """Figures of a run."""

    options: Options
    acknowledged: int
    sessions_lost: int
    results: int
    results_lost: int
    """Pictures that were returned, of sessions that the new master did not know as finished."""
    create_p50_s: float
    create_p95_s: float
    away_s: float
    """The longest time without an answer."""
    errors: dict[str, int]
    unfinished: int
    """Sessions that did not finish after the failover."""


class Callers:
    """They call until they are told to stop, and repeat what failed under the same key."""

    def __init__(self, urls: list[str], options: Options) -> None:
        self._urls = itertools.cycle(urls)
        self._options = options
        self._numbers = itertools.count(1)
        self._picture = photos()[0]
        self.told = Told()
        self.failed_at = float("inf")
        self.stopped = False

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, limits=limits) as client:
            await asyncio.gather(*(self._call(client, waits=number % 2 == 1) for number in range(self._options.callers)))

    async def _call(self, client: httpx.AsyncClient, *, waits: bool) -> None:
        while not self.stopped:
            headers = {"Idempotency-Key": f"caller-{next(self._numbers)}"}
            answered = False
            while not (answered or self.stopped):
                answered = await self._answered(client, headers, waits=waits)
                await asyncio.sleep(0 if answered else _AGAIN_S)
            if not waits:
                # Not more than the editors can do, in about the time that the other half takes.
                await asyncio.sleep(self._options.callers * _STEPS * SIZE.step_s / 4)

    async def _answered(self, client: httpx.AsyncClient, headers: dict[str, str], *, waits: bool) -> bool:
        own = {"prompt": "make it dramatic", "strategy": "single", "num_inference_steps": _STEPS}
        began = time.monotonic()
        try:
            if waits:
                picture = {"image": base64.b64decode(self._picture)}
                reply = await client.post(f"{next(self._urls)}/v1/images/edits", data=own, files=picture, headers=headers)
            else:
                body = {**own, "image": self._picture}
                reply = await client.post(f"{next(self._urls)}/v1/sessions", json=body, headers=headers)
        except httpx.HTTPError:
            self.told.errors["none"] += 1
            return False
        if not reply.is_success:
            self.told.errors[str(reply.status_code)] += 1
            return False
        now = time.monotonic()
        self.told.answered_at.append(now)
        if now < self.failed_at:
            session_id = str(reply.headers.get("x-session-id") or reply.json()["id"])
            self.told.acknowledged.add(session_id)
            if waits:
                self.told.results.add(session_id)
            else:
                self.told.creates_s.append(now - began)
        return True


@contextlib.contextmanager
def replicated(folder: Path, lag_s: float) -> Iterator[tuple[RedisFleet, ThreadProxy]]:
    """A master that is reached by way of a proxy, its replica that is behind, and a sentinel."""
    with contextlib.ExitStack() as stack:
        proxies: list[ThreadProxy] = []

        def reached(port: int) -> int:
            proxies.append(stack.enter_context(running("127.0.0.1", port)))
            return proxies[0].port

        redis = stack.enter_context(watched(folder, reached=reached))
        if lag_s:
            proxies[0].set(Fault("delay", seconds=lag_s, direction="down", only="PSYNC"))
        yield redis, proxies[0]


def finished(port: int) -> tuple[set[str], set[str]]:
    """(sessions that are known, those of them that have finished), in that server."""
    store = Store(port)
    try:
        known = set(store.logs())
        return known, known - set(store.unfinished())
    finally:
        store.close()


async def run(folder: Path, options: Options) -> Loss:
    """One run, from the first process to the figures."""
    with replicated(folder, options.lag_s) as (redis, proxy):
        settings = {
            "EDITTHINKER_REDIS_URL": redis.url,
            "EDITTHINKER_REDIS_WAIT_REPLICAS": str(options.replicas),
            "EDITTHINKER_REDIS_WAIT_S": str(WAIT_S),
        }
        fleet = Fleet(folder, SIZE, settings=settings)
        try:
            await asyncio.to_thread(fleet.start)
            callers = Callers([member.url for member in fleet.orchestrators], options)
            calling = asyncio.create_task(callers.run())
            await asyncio.sleep(options.lasts_s)
            callers.failed_at = time.monotonic()
            proxy.set(Fault("reset"))
            await asyncio.to_thread(redis.master.kill)
            known, ended = await asyncio.to_thread(finished, redis.heir.port)
            await asyncio.to_thread(until, redis.promoted, "the replica was promoted")
            answered = len(callers.told.answered_at)
            while (
                len(callers.told.answered_at) < answered + options.callers and time.monotonic() < callers.failed_at + _RECOVERY_S
            ):
                await asyncio.sleep(_AGAIN_S)
            callers.stopped = True
            await calling
            unfinished = await _unfinished(redis.heir.port)
        finally:
            await asyncio.to_thread(fleet.end)
    told = callers.told
    times = [*told.answered_at]
    return Loss(
        options,
        len(told.acknowledged),
        len(told.acknowledged - known),
        len(told.results),
        len(told.results - ended),
        round(statistics.median(told.creates_s), 4),
        round(sorted(told.creates_s)[int(0.95 * (len(told.creates_s) - 1))], 4),
        round(max(after - before for before, after in itertools.pairwise(times)), 1),
        dict(told.errors),
        unfinished,
    )


async def _unfinished(port: int) -> int:
    ends = time.monotonic() + _RECOVERY_S
    while True:
        known, ended = await asyncio.to_thread(finished, port)
        if known == ended or time.monotonic() > ends:
            return len(known - ended)
        await asyncio.sleep(_AGAIN_S)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.failover", description=__doc__)
    parser.add_argument("--lags", type=float, nargs="+", default=[0.0, 1.5], help="seconds that the replica is behind")
    parser.add_argument("--callers", type=int, default=20)
    asked = parser.parse_args()
    sys.stdout.write("| behind | WAIT | acknowledged | lost | pictures | lost | create p50, p95 | without an answer | errors |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|---|\n")
    bad = False
    for lag_s, replicas in itertools.product(asked.lags, (0, 1)):
        with tempfile.TemporaryDirectory(prefix="failover-") as folder:
            loss = asyncio.run(run(Path(folder), Options(lag_s, replicas, asked.callers)))
        creates = f"{1000 * loss.create_p50_s:.0f} ms, {1000 * loss.create_p95_s:.0f} ms"
        row = [f"{lag_s:g} s", "1 replica" if replicas else "off", loss.acknowledged, loss.sessions_lost, loss.results]
        row += [loss.results_lost, creates, f"{loss.away_s} s", json.dumps(loss.errors)]
        sys.stdout.write(f"| {' | '.join(map(str, row))} |\n")
        sys.stdout.flush()
        bad = bad or bool(loss.unfinished) or bool(replicas and loss.sessions_lost)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())

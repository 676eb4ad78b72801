"""Where tenants meet: the real services, a tenant that attacks from processes of its own, and one whose edits are timed.

arena(folder)          runs Redis, the orchestrator, the embedded editor and thinker, and doubles that misbehave on request
watched(arena)         observes the services' processes: CPU seconds, peak memory
timed_edits(arena)     another tenant's edits, one after another, in a process of its own
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import secrets
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import redis
from redis.asyncio import Redis

from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process, free_port, module, redis_server, start, wait_ready
from tests.doubles.upstreams import picture

ATTACKER, VICTIM, READER = "ann", "bob", "reader"
MIB: Final = 1 << 20
LARGEST: Final = 20_000_000
"""Limit of a picture in bytes, so that uploads are refused soon."""
PAUSE_S: Final = 0.05
SPAWN: Final = multiprocessing.get_context("spawn")


@dataclass
class Arena:
    """What is attacked. Can be sent to another process.

    Attributes:
        urls: of the orchestrator, the editor, the thinker and the doubles, by name.
        pids: of the observed services, by name.
        keys: of the tenants; `READER` is the attacker's read-only key.
        tmp: the services' temporary folder.
        tree: the source tree that the services run from, and `settings` their environment.
    """

    urls: dict[str, str]
    pids: dict[str, int]
    keys: dict[str, str]
    redis_port: int
    folder: Path
    log: Path
    tree: Path | None
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.urls["orchestrator"].rpartition(":")[2])

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    def client(self, tenant: str | None = ATTACKER, *, timeout: float = 60, **others: str) -> httpx.Client:
        """A client with a tenant's key, and other headers."""
        headers = others | ({"authorization": f"Bearer {self.keys[tenant]}"} if tenant in self.keys else {})
        return httpx.Client(base_url=self.urls["orchestrator"], headers=headers, timeout=timeout, trust_env=False)

    def connect(self, name: str = "orchestrator") -> socket.socket:
        """A plain connection to a service."""
        return socket.create_connection(("127.0.0.1", int(self.urls[name].rpartition(":")[2])), 20)

    def head(self, line: str, *headers: str, tenant: str | None = ATTACKER) -> bytes:
        """The head of a request, byte for byte."""
        key = [f"authorization: Bearer {self.keys[tenant]}"] if tenant in self.keys else []
        return ("\r\n".join([f"{line} HTTP/1.1", f"host: 127.0.0.1:{self.port}", *key, *headers]) + "\r\n\r\n").encode("latin-1")

    def redis(self) -> Any:
        """A client of Redis; untyped, as the library is."""
        return redis.Redis(port=self.redis_port)

    def left(self) -> dict[str, int]:
        """Bytes in Redis, in the blob store and in the temporary folder."""
        return {
            "redis": int(self.redis().info("memory")["used_memory"]),
            "blobs": _bytes_below(self.blobs),
            "tmp": _bytes_below(self.tmp) + _deleted_but_open(self.pids.values(), self.tmp),
        }

    def fresh_attacker(self) -> None:
        """Make the attacker a tenant that has used nothing yet; without effect where no keys are needed."""
        if self.settings["EDITTHINKER_KEYS"] == "required":
            tenant = f"{ATTACKER}-{word()}"
            self.keys[ATTACKER] = self.make_key(tenant)[0]
            self.keys[READER] = self.make_key(tenant, "read")[0]

    def make_key(self, tenant: str, *scopes: str) -> tuple[str, str]:
        """A new key: its secret and its id."""
        return asyncio.run(_make_key(self.redis_port, tenant, scopes or ("edit", "read")))

    def revoke(self, key_id: str) -> None:
        """End a key."""
        asyncio.run(_revoke(self.redis_port, key_id))


async def _make_key(port: int, tenant: str, scopes: tuple[str, ...]) -> tuple[str, str]:
    connection = Redis(port=port)
    try:
        secret, key = await ApiKeyStore(connection, KeySpace()).create(tenant, scopes)
        return secret, key.id
    finally:
        await connection.aclose()


async def _revoke(port: int, key_id: str) -> None:
    connection = Redis(port=port)
    try:
        await ApiKeyStore(connection, KeySpace()).revoke(key_id)
    finally:
        await connection.aclose()


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # It may have been removed just now.
            total += path.stat().st_size if path.is_file() else 0
    return total


def _deleted_but_open(pids: Any, folder: Path) -> int:
    """Bytes of files without a name, which a spooled upload is."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()).startswith(str(folder)) and "(deleted)" in str(descriptor.readlink()):
                        total += descriptor.stat().st_size
    return total


@contextlib.contextmanager
def arena(
    folder: Path, *, tree: Path | None = None, settings: Mapping[str, str] | None = None, services: bool = True, keys: bool = True
) -> Iterator[Arena]:
    """Run everything.

    Args:
        tree: a source tree to run the services from; this one if absent. An older one gives the figures of "before".
        settings: of the orchestrator, in addition.
        services: whether to run the embedded editor and thinker too.
    """
    (folder / "tmp").mkdir()
    place = {"TMPDIR": str(folder / "tmp"), "EDITTHINKER_LOG_FORMAT": "json"}
    if tree is not None:
        place["PYTHONPATH"] = str(tree)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(redis_server(folder))
        doubles = module("tests.attacks.upstreams", free_port(), folder / "upstreams.log")
        stack.callback(doubles.stop)
        # Of its own, so that what the attacker's upstreams are busy with delays nobody.
        others = module("tests.attacks.upstreams", free_port(), folder / "others.log")
        stack.callback(others.stop)
        started = {"doubles": doubles, "others": others}
        if services:
            started["editor"] = _service(
                folder, "services.editor", place | {"EDITTHINKER_EDITOR_MAX_IMAGE_BYTES": str(LARGEST)}, "--pipeline", "classical"
            )
            stack.callback(started["editor"].stop)
            started["thinker"] = _service(folder, "services.thinker", place, "--profile", "rules")
            stack.callback(started["thinker"].stop)
        wait_ready(doubles, "/recorded")
        wait_ready(others, "/recorded")
        editors = {
            "double": {"url": f"{doubles.url}/editor/v1", "attempts": 2},
            "slow": {"url": f"{doubles.url}/slow/editor/v1", "attempts": 2},
            "others": {"url": f"{others.url}/editor/v1", "attempts": 2},
        }
        thinkers: dict[str, Any] = {
            "double": {"url": f"{doubles.url}/thinker/v1", "model": "double", "attempts": 2},
            "fresh": {"url": f"{doubles.url}/thinker/v1", "model": "fresh", "attempts": 1},
            "others": {"url": f"{others.url}/thinker/v1", "model": "others", "attempts": 2},
        }
        if services:
            wait_ready(started["editor"])
            wait_ready(started["thinker"])
            editors["embedded"] = {"url": f"{started['editor'].url}/v1", "attempts": 2}
            thinkers["embedded"] = {"url": f"{started['thinker'].url}/v1", "model": "rules", "attempts": 2}
        environment = place | {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{database.port}/0",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps(editors),
            "EDITTHINKER_JUDGE_CHECK": "off",
            "EDITTHINKER_THINKERS": json.dumps(thinkers),
            "EDITTHINKER_KEYS": "required" if keys else "off",
            "EDITTHINKER_MAX_IMAGE_BYTES": str(LARGEST),
            **(settings or {}),
        }
        orchestrator = _service(folder, "orchestrator", environment)
        stack.callback(orchestrator.stop)
        wait_ready(orchestrator)
        started["orchestrator"] = orchestrator
        made = Arena(
            {name: process.url for name, process in started.items()},
            {name: process.popen.pid for name, process in started.items() if name not in {"doubles", "others"}},
            {},
            database.port,
            folder,
            orchestrator.log,
            tree,
            dict(environment),
        )
        if keys:
            made.keys[VICTIM] = made.make_key(VICTIM)[0]
            made.fresh_attacker()
        yield made


def _service(folder: Path, name: str, env: Mapping[str, str], *arguments: str) -> Process:
    if "PYTHONPATH" not in env:
        return module(name, free_port(), folder / f"{name}.log", *arguments, env=env)
    port = free_port()
    # -P: the working directory is this tree, and must not come before the other one.
    return start([sys.executable, "-P", "-m", name, "--port", str(port), *arguments], port, folder / f"{name}.log", env)


# --- what the services cost --------------------------------------------------------------------------------------------


@dataclass
class Cost:
    """What a service used while it was watched.

    Attributes:
        cpu_s: processor seconds, its children included.
        grown_mib: its peak memory, children included, above what it had.
        peak_mib: the peak itself.
    """

    cpu_s: float = 0
    grown_mib: float = 0
    peak_mib: float = 0


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory_mib(pid: int) -> float:
    """Resident MiB of a process and its children; pages that they share count once for each."""
    total = 0
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / MIB


def _cpu(pid: int) -> float:
    total = 0.0
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    with contextlib.suppress(psutil.NoSuchProcess):
        times = psutil.Process(pid).cpu_times()
        total += times.children_user + times.children_system
    return total


@contextlib.contextmanager
def watched(place: Arena) -> Iterator[dict[str, Cost]]:
    """Observe every service; the costs are complete when the context ends."""
    costs = {name: Cost() for name in place.pids}
    before = {name: (_cpu(pid), memory_mib(pid)) for name, pid in place.pids.items()}
    for pid in place.pids.values():
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(PAUSE_S):
            for name, pid in place.pids.items():
                costs[name].peak_mib = max(costs[name].peak_mib, memory_mib(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield costs
    finally:
        stop.set()
        thread.join()
        for name, pid in place.pids.items():
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{pid}/status").read_text()
                costs[name].peak_mib = max(costs[name].peak_mib, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
            costs[name].cpu_s = max(0.0, _cpu(pid) - before[name][0])
            costs[name].grown_mib = max(0.0, costs[name].peak_mib - before[name][1])


# --- another tenant -----------------------------------------------------------------------------------------------------


@dataclass
class Edits:
    """Another tenant's edits: seconds of each, and the answers by status."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def quantile(self, share: float) -> float:
        """In seconds; 0 without any edit."""
        if len(self.seconds) < 2:
            return max(self.seconds, default=0.0)
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[round(share * 100) - 1]

    @property
    def success(self) -> float:
        """Share of the edits that were answered 200."""
        return self.statuses["200"] / max(1, sum(self.statuses.values()))


def _edit_again_and_again(place: Arena, pipe: Connection, timeout_s: float) -> None:
    """Edit until the other end says stop. An edit under way then is waited for: it counts."""
    edits = Edits()
    # Three megapixels, as a small photograph has: it shares the decoders with the attacker's pictures.
    image = picture(2016, 1512)
    fields = {"prompt": "warmer light", "max_turns": "1", "output_format": "jpeg", "model": "others", "thinker": "others"}
    with place.client(VICTIM, timeout=timeout_s) as client:
        client.get("/v1/sessions?limit=1")
        pipe.send("ready")
        while not pipe.poll():
            began = time.monotonic()
            try:
                reply = client.post("/v1/images/edits", files={"image": ("a.png", image)}, data=fields)
                edits.statuses[str(reply.status_code)] += 1
            except httpx.HTTPError as exc:
                edits.statuses[type(exc).__name__] += 1
            edits.seconds.append(time.monotonic() - began)
            pipe.poll(PAUSE_S)
    pipe.send(edits)


@contextlib.contextmanager
def timed_edits(place: Arena, *, timeout_s: float = 120) -> Iterator[Edits]:
    """Time another tenant's edits for as long as the context lasts; they are known when it ends."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_edit_again_and_again, args=(place, theirs, timeout_s))
    process.start()
    theirs.close()
    edits = Edits()
    try:
        ours.recv()
        yield edits
    finally:
        ours.send("stop")
        done: Edits = ours.recv()
        edits.seconds, edits.statuses = done.seconds, done.statuses
        process.join()


# --- the attacker -------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What an attacker reports.

    Attributes:
        answers: by status, or by what happened in place of an answer.
        faults: what must not have happened.
        notes: figures for the table.
    """

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def got(self, reply: httpx.Response) -> httpx.Response:
        """Count an answer. A 5xx must be 502, 503, 504 or 507, with a code."""
        self.count(reply.status_code, reply.content if reply.status_code >= 500 else b"")
        return reply

    def count(self, status: int, body: bytes = b"") -> None:
        """Count an answer."""
        self.answers[str(status)] += 1
        if status >= 500:
            try:
                code = json.loads(body)["error"]["code"]
            except (ValueError, KeyError, TypeError):
                code = None
            if status not in {502, 503, 504, 507} or not code:
                self.faults.append(f"{status} {body[:120]!r}")

    def expect(self, holds: object, what: str) -> None:
        """Report what does not hold."""
        if not holds:
            self.faults.append(what)


def _in_own_process(attack: Any, place: Arena, pipe: Connection, limit_s: float) -> None:
    # The attacker is elsewhere: it must not take the processor from the services.
    os.nice(5)
    outcome = Outcome()

    def run() -> None:
        try:
            attack(place, outcome)
        except (httpx.HTTPError, OSError, AssertionError, KeyError, ValueError) as exc:
            outcome.faults.append(f"the attacker failed: {type(exc).__name__} {exc}")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        outcome.faults.append(f"not over after {limit_s:g} s")
    pipe.send(Outcome(Counter(outcome.answers), [*outcome.faults], dict(outcome.notes)))
    os._exit(0)


def attacked_by(attack: Any, place: Arena, *, limit_s: float) -> Outcome:
    """Run an attack in a process of its own, for at most that long."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_in_own_process, args=(attack, place, theirs, limit_s))
    process.start()
    theirs.close()
    try:
        outcome: Outcome = ours.recv()
    except EOFError:
        return Outcome(Counter(), ["the attacker died"])
    else:
        return outcome
    finally:
        process.join(10)
        process.kill()
        process.join()


def word() -> str:
    """A random word."""
    return secrets.token_hex(4)

"""The stack under test: Valkey, HAProxy in front of the fleet, and replicas of the orchestrator."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.scale.fleet import Fleet, Size, fleet
from tests.doubles.haproxy import haproxy
from tests.doubles.processes import Process, free_port, module, redis_server, wait_ready


def cpu_s(*processes: Process) -> float:
    """User and system seconds of all processes so far."""
    times = [psutil.Process(process.popen.pid).cpu_times() for process in processes if process.popen.poll() is None]
    return sum(time.user + time.system for time in times)


def memory_mb(process: Process) -> float:
    """Resident memory."""
    resident: int = psutil.Process(process.popen.pid).memory_info().rss
    return resident / 1e6


@dataclass(frozen=True, slots=True)
class Stack:
    """The running stack."""

    fleet: Fleet
    valkey: Process
    proxy: Process
    replicas: Sequence[Process]

    @property
    def urls(self) -> list[str]:
        """URLs of the replicas."""
        return [replica.url for replica in self.replicas]

    def redis_info(self) -> dict[str, Any]:
        """Valkey's own INFO."""
        with redis.Redis(port=self.valkey.port) as client:
            info: dict[str, Any] = client.info("all")
            return info


def environment(pool: Fleet, folder: Path, valkey: Process, front: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The orchestrator's settings."""
    thinker = {"url": f"http://127.0.0.1:{pool.plan.thinker}/v1", "model": "stub", "constraint": "none"}
    return {
        "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0",
        "EDITTHINKER_BLOBS": str(folder / "blobs"),
        "EDITTHINKER_EDITORS": json.dumps({"stub": {"url": f"{front}/v1"}}),
        "EDITTHINKER_CONFIRMATIONS": "0",  # one critique of each candidate
        "EDITTHINKER_JUDGE_CHECK": "off",
        "EDITTHINKER_THINKERS": json.dumps({"stub": thinker}),
        "EDITTHINKER_LOG_LEVEL": "error",
        **extra,
    }


@contextlib.contextmanager
def stack(folder: Path, size: Size, *, replicas: int = 1, settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Run the stack."""
    with ExitStack() as exits:
        pool = exits.enter_context(fleet(folder, size))
        valkey = exits.enter_context(redis_server(folder))
        # The shipped defaults; the test double's are shorter.
        shipped = haproxy(folder, pool.addresses, maxconn=size.slots, queue_timeout="60s", timeout="15m", check_every="1s")
        proxy = exits.enter_context(shipped)
        env = environment(pool, folder, valkey, proxy.url, settings or {})
        processes = []
        for number in range(replicas):
            replica = module("orchestrator", free_port(), folder / f"orchestrator-{number}.log", env=env)
            exits.callback(replica.stop)
            processes.append(replica)
        for replica in processes:
            wait_ready(replica)
        yield Stack(pool, valkey, proxy, processes)


def totals(texts: Sequence[str], name: str, label: str) -> dict[str, float]:
    """Sum a counter over the replicas' /metrics, by one of its labels."""
    found: dict[str, float] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and not math.isnan(sample.value):
                    value = sample.labels.get(label, "")
                    found[value] = found.get(value, 0.0) + sample.value
    return found

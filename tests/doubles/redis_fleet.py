"""Several real Valkeys: a cluster whose slot of ours has a replica, and a server that a sentinel watches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from tests.doubles.processes import Process, free_port, redis_binary, start

_READY_S = 30.0
_SLOTS = 16384
OUR_SLOT = 13907
"""Of the hash tag {0}, in which all our keys lie."""


def _client(**options: Any) -> Any:
    """Untyped: the library does not type `execute_command`."""
    return redis.Redis(**options)


def until(condition: Callable[[], object], what: str, seconds: float = _READY_S) -> None:
    """Poll until it holds."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(RedisError, OSError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError(f"it does not come about: {what}")


@dataclass
class RedisFleet:
    """The URL that an orchestrator is given, and the process that holds our keys until it is killed."""

    url: str
    master: Process
    heir: Process

    def promoted(self) -> bool:
        """Whether the replica has become the one to ask."""
        return bool(_client(port=self.heir.port, socket_timeout=2).role()[0] in {b"master", "master"})


def _server(folder: Path, *options: str) -> Process:
    port = free_port()
    home = folder / str(port)
    home.mkdir()
    common = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", "", "--appendonly", "yes"]
    process = start([redis_binary(), *common, *options], port, home / "log")
    until(lambda: _client(port=port).ping(), f"a Valkey on {port}")
    return process


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[RedisFleet]:
    """Three masters, and a replica of the one with our slot."""
    running: list[Process] = []
    try:
        buses = [free_port() for _ in range(4)]
        for bus in buses:
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000"]
            running.append(_server(folder, *options))
        nodes = [_client(port=process.port) for process in running]
        for node, first, last in zip(nodes, (0, 5461, 10922), (5460, 10921, _SLOTS - 1), strict=False):
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for process, bus in zip(running[1:], buses[1:], strict=True):
            nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", process.port, bus)
        owner = nodes[2].execute_command("CLUSTER", "MYID")
        until(lambda: nodes[3].execute_command("CLUSTER", "REPLICATE", owner), "the fourth node knows the third")
        until(lambda: all(_is_whole(node) for node in nodes), "the cluster is whole")
        until(lambda: nodes[3].info("replication")["master_link_status"] == "up", "the replica follows")
        hosts = ",".join(f"127.0.0.1:{process.port}" for process in running[:2])
        yield RedisFleet(f"redis+cluster://{hosts}", running[2], running[3])
    finally:
        for process in running:
            process.stop()


def _is_whole(node: Any) -> bool:
    info: bytes = node.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:4" in info


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[RedisFleet]:
    """A master, its replica, and a sentinel."""
    running: list[Process] = []
    try:
        running.append(_server(folder))
        master = running[0]
        running.append(_server(folder, "--replicaof", "127.0.0.1", str(master.port)))
        port = free_port()
        home = folder / "sentinel"
        home.mkdir()
        config = home / "sentinel.conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {home}",
            f"sentinel monitor pictures 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds pictures 700",
            "sentinel failover-timeout pictures 3000",
        ]
        config.write_text("\n".join(lines) + "\n")
        running.append(start([redis_binary(), str(config), "--sentinel"], port, home / "log"))
        sentinel = _client(port=port)
        until(lambda: _client(port=running[1].port).info("replication")["master_link_status"] == "up", "the replica follows")
        until(lambda: sentinel.execute_command("SENTINEL", "REPLICAS", "pictures"), "the sentinel knows the replica")
        yield RedisFleet(f"redis+sentinel://127.0.0.1:{port}/pictures", master, running[1])
    finally:
        for process in running:
            process.stop()

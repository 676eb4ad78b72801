"""Several real Valkeys: a cluster whose slot of ours has a replica, one of a single node, a server that a sentinel watches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from tests.doubles.processes import Process, free_port, redis_binary, start

_READY_S = 120.0
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


def _server(folder: Path, *options: str, port: int | None = None, password: str = "") -> Process:
    port = port or free_port()
    home = folder / str(port)
    home.mkdir(exist_ok=True)
    common = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", "", "--appendonly", "yes"]
    process = start([redis_binary(), *common, *options], port, home / "log")
    until(lambda: _client(port=port, password=password or None).ping(), f"a Valkey on {port}")
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


def _is_whole(node: Any, nodes: int = 4) -> bool:
    info: bytes = node.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:%d" % nodes in info


@dataclass
class Alone:
    """A cluster of one node, which can be killed and started again.

    Attributes:
        announced: where it says that it is, if that is somewhere else.
    """

    folder: Path
    announced: int | None = None
    port: int = field(default_factory=free_port)
    bus: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def url(self) -> str:
        """As an orchestrator is given it."""
        return f"redis+cluster://127.0.0.1:{self.announced or self.port}"

    def start(self) -> None:
        """Again, if it ran before; what it held is there."""
        options = ["--cluster-enabled", "yes", "--cluster-port", str(self.bus)]
        options += ["--cluster-announce-port", str(self.announced)] if self.announced else []
        self.process = _server(self.folder, *options, port=self.port)
        node = _client(port=self.port)
        if b"cluster_slots_assigned:0" in node.execute_command("CLUSTER", "INFO"):
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, _SLOTS - 1)
        until(lambda: _is_whole(node, 1), "the cluster is whole")

    def kill(self) -> None:
        """With -9."""
        assert self.process
        self.process.kill()


@contextlib.contextmanager
def alone(folder: Path, announced: int | None = None) -> Iterator[Alone]:
    """A cluster that has no reachable node while its only one is away."""
    node = Alone(folder, announced)
    try:
        node.start()
        yield node
    finally:
        if node.process:
            node.process.stop()


@contextlib.contextmanager
def watched(
    folder: Path, *, password: str = "", asked: str = "", reached: Callable[[int], int] = lambda port: port
) -> Iterator[RedisFleet]:
    """A master, its replica, and a sentinel.

    Args:
        password: of both servers.
        asked: what the sentinel asks for; nothing if empty.
        reached: the port by which the master is reached, from its own.
    """
    running: list[Process] = []
    secured = ["--requirepass", password, "--masterauth", password] if password else []
    known = {"password": password or None}
    try:
        running.append(_server(folder, *secured, password=password))
        master = running[0]
        known_at = reached(master.port)
        running.append(_server(folder, "--replicaof", "127.0.0.1", str(known_at), *secured, password=password))
        port = free_port()
        home = folder / "sentinel"
        home.mkdir()
        config = home / "sentinel.conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {home}",
            f"sentinel monitor pictures 127.0.0.1 {known_at} 1",
            "sentinel down-after-milliseconds pictures 700",
            "sentinel failover-timeout pictures 3000",
            *([f"sentinel auth-pass pictures {password}"] if password else []),
            *([f"requirepass {asked}"] if asked else []),
        ]
        config.write_text("\n".join(lines) + "\n")
        running.append(start([redis_binary(), str(config), "--sentinel"], port, home / "log"))
        sentinel = _client(port=port, password=asked or None)
        until(
            lambda: _client(port=running[1].port, **known).info("replication")["master_link_status"] == "up",
            "the replica follows",
        )
        until(lambda: sentinel.execute_command("SENTINEL", "REPLICAS", "pictures"), "the sentinel knows the replica")
        credentials = f":{password}@" if password else ""
        yield RedisFleet(f"redis+sentinel://{credentials}127.0.0.1:{port}/pictures", master, running[1])
    finally:
        for process in running:
            process.stop()

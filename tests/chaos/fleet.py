"""The real processes: started on their own ports, killed, paused, resumed, and restarted on the same port."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.chaos.front import start_front
from tests.chaos.havoc import Kind
from tests.doubles.faketime import clock, set_ahead
from tests.doubles.haproxy import start_haproxy
from tests.doubles.processes import READY_S, Process, free_port, module, redis_binary, start
from tests.doubles.replica import POISONED

EDITOR = "slow"
LEASE_S = 2.0


@dataclass(frozen=True)
class Size:
    """Numbers of processes, and their configuration."""

    orchestrators: int = 3
    editors: int = 3
    thinkers: int = 2
    spare_editors: int = 0
    """Configured in HAProxy, and not started."""
    step_s: float = 0.04
    active: int = 4
    """Edits that share a step of one editor."""
    lease_s: float = LEASE_S
    capacity: int = 2048
    """Sessions that one replica drives at a time."""
    drain_s: float = 3.0
    """Seconds at SIGTERM for edits under way and waiting callers."""
    editor_timeout_s: float = 60.0
    thinker_timeout_s: float = 20.0


@dataclass
class Member:
    """One member of the fleet; its process may be replaced."""

    name: str
    kind: Kind
    port: int
    launch: Callable[[], Process]
    process: Process | None = None
    wanted: bool = False
    starts: int = 0
    crashes: list[str] = field(default_factory=list)
    """How it ended when it was not told to."""
    poisoned: int = 0
    """How often it died of a session that kills its driver."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert self.process is None
        self.wanted, self.process = True, self.launch()
        self.starts += 1

    def kill(self) -> None:
        """kill -9."""
        self.wanted = False
        if self.process is not None:
            self.process.kill()
            self.process = None

    def stop(self) -> int | None:
        """Stop it with SIGTERM; return the exit code."""
        self.wanted = False
        if self.process is None:
            return None
        self.process.popen.send_signal(signal.SIGCONT)
        self.process.stop()
        code, self.process = self.process.popen.returncode, None
        return code

    def pause(self) -> None:
        assert self.process is not None
        self.process.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self.process is not None:
            self.process.popen.send_signal(signal.SIGCONT)

    def ready(self) -> bool:
        """Whether it is ready, with its dependencies."""
        if self.kind == "redis":
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                return False
            return True
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        return False

    def log_tail(self) -> str:
        """The last lines of its log."""
        assert self.process is not None
        return " | ".join(self.process.log.read_text(errors="replace").splitlines()[-3:])[-500:]

    def supervise(self) -> None:
        """Restart the process if it ended by itself, and record that."""
        if self.wanted and self.process is not None and (code := self.process.popen.poll()) is not None:
            if code == POISONED:
                self.poisoned += 1
            else:
                self.crashes.append(f"{self.name} ended by itself with {code}: {self.log_tail()}")
            self.process = None
            self.start()


class Fleet:
    """Redis, HAProxy, thinkers, editors and orchestrators, in one folder.

    Args:
        settings: more settings of the orchestrators.
        clocks: whether the orchestrators' clocks can be set. Not for nothing: libfaketime takes a lock in every child that is
            forked, and one that another thread held at that moment stops the child, and uvloop with it, for good.

    Attributes:
        front: HAProxy in front of the orchestrators, started only where it is asked for.
        routes: ports by (source, target) that lead to a member by way of a proxy; to be set before members are started.
    """

    def __init__(
        self,
        folder: Path,
        size: Size,
        *,
        with_front: bool = False,
        settings: Mapping[str, str] | None = None,
        clocks: bool = False,
    ) -> None:
        self.folder = folder
        self.size = size
        self.blobs = folder / "blobs"
        self.redis = self._member("redis-1", "redis", self._redis)
        self.editors = [
            self._member(f"editor-{n}", "editor", self._editor) for n in range(1, size.editors + size.spare_editors + 1)
        ]
        self.haproxy = self._member("haproxy-1", "haproxy", self._haproxy)
        self.thinkers = [self._member(f"thinker-{n}", "thinker", self._thinker) for n in range(1, size.thinkers + 1)]
        self.orchestrators = [
            self._member(f"orchestrator-{n}", "orchestrator", self._orchestrator) for n in range(1, size.orchestrators + 1)
        ]
        self.front = self._member("front-1", "haproxy", self._front)
        self._fronts = [self.front] if with_front else []
        self.routes: dict[tuple[str, str], int] = {}
        self._more_settings = dict(settings or {})
        self._clocks = clocks

    def url(self, source: str, member: Member) -> str:
        """Where that process, or ``callers``, reaches a member."""
        return f"http://127.0.0.1:{self._port(source, member)}"

    def _port(self, source: str, member: Member) -> int:
        return self.routes.get((source, member.name), member.port)

    @property
    def members(self) -> dict[str, Member]:
        """All members that are started with the fleet, in the order of starting."""
        everyone = [self.redis, *self.thinkers, *self.editors[: self.size.editors], self.haproxy, *self.orchestrators]
        everyone += self._fronts
        return {member.name: member for member in everyone}

    @property
    def journals(self) -> list[Path]:
        return sorted(self.folder.glob("editor-*.journal"))

    def start(self) -> None:
        """Start all members, and wait until they are ready."""
        for member in self.members.values():
            member.start()
        self.wait_ready()

    def wait_ready(self, seconds: float = READY_S) -> None:
        """Wait until every process is ready; fails with the name of one that is not, or that has ended."""
        ends = time.monotonic() + seconds
        for member in self.members.values():
            while not member.ready():
                for other in self.members.values():
                    assert other.process is not None, f"{other.name} is not started"
                    code = other.process.popen.poll()
                    assert code is None, f"{other.name} ended with {code}: {other.log_tail()}"
                assert time.monotonic() < ends, f"{member.name} is not ready: {member.log_tail()}"
                time.sleep(0.05)

    def add_orchestrator(self) -> Member:
        """Start one more replica; no other configuration changes."""
        member = self._member(f"orchestrator-{len(self.orchestrators) + 1}", "orchestrator", self._orchestrator)
        self.orchestrators.append(member)
        member.start()
        return member

    def end(self) -> None:
        """End every process in any state; orchestrators first, so that none is left without its Redis."""
        everyone = [*self._fronts, *self.orchestrators, self.haproxy, *self.editors, *self.thinkers, self.redis]
        for member in everyone:
            if member.process is not None:
                member.wanted = False
                member.process.popen.send_signal(signal.SIGCONT)
                member.process.popen.send_signal(signal.SIGTERM)
        for member in everyone:
            if member.process is not None:
                try:
                    member.process.popen.wait(8)
                except subprocess.TimeoutExpired:
                    member.process.kill()
                member.process = None

    # --- how processes are started ------------------------------------------------------------------------------

    def _member(self, name: str, kind: Kind, launch: Callable[[Member], Process]) -> Member:
        member = Member(name, kind, free_port(), lambda: launch(member))
        return member

    def _log(self, member: Member) -> Path:
        return self.folder / f"{member.name}.log"

    def _redis(self, member: Member) -> Process:
        # Every write is on disk before it is acknowledged.
        options = ["--port", str(member.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        return start([redis_binary(), *options], member.port, self._log(member))

    def _haproxy(self, member: Member) -> Process:
        # Two more than share a step, so that the next ones are decoded in the meantime.
        editors = [f"127.0.0.1:{self._port(member.name, editor)}" for editor in self.editors]
        return start_haproxy(self.folder, editors, port=member.port, maxconn=self.size.active + 2)

    def _editor(self, member: Member) -> Process:
        journal = self.folder / f"{member.name}.journal"
        options = ["--journal", str(journal), "--step", str(self.size.step_s), "--active", str(self.size.active)]
        return module("tests.chaos.slow_editor", member.port, self._log(member), *options)

    def _thinker(self, member: Member) -> Process:
        return module("services.thinker", member.port, self._log(member), "--profile", "rules")

    def _orchestrator(self, member: Member) -> Process:
        env = {**self._settings(member.name), **self._more_settings}
        if self._clocks:
            env |= clock(self._clock(member))
        return module("tests.doubles.replica", member.port, self._log(member), env=env)

    def _clock(self, member: Member) -> Path:
        return self.folder / f"{member.name}.clock"

    def set_clock(self, member: Member, ahead_s: float) -> None:
        """Put an orchestrator's wall clock ahead of everybody else's."""
        set_ahead(self._clock(member), ahead_s)

    def _front(self, member: Member) -> Process:
        ports = {replica.name: self._port(member.name, replica) for replica in self.orchestrators}
        return start_front(self.folder, member.port, ports)

    def _settings(self, name: str) -> dict[str, str]:
        editor = {
            "url": f"{self.url(name, self.haproxy)}/v1",
            "attempts": 20,
            "timeout_s": self.size.editor_timeout_s,
            "parameters": ["size", "num_inference_steps"],
        }
        names = [thinker.name for thinker in self.thinkers]
        thinkers = {}
        for place, thinker in enumerate(self.thinkers):
            thinkers[thinker.name] = {"url": f"{self.url(name, thinker)}/v1", "model": "rules", "away_s": 2}
            thinkers[thinker.name]["timeout_s"] = self.size.thinker_timeout_s
            if len(names) > 1:
                thinkers[thinker.name]["fallback"] = names[(place + 1) % len(names)]
        return {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{self._port(name, self.redis)}/0",
            "EDITTHINKER_BLOBS": str(self.blobs),
            "EDITTHINKER_EDITORS": json.dumps({EDITOR: editor}),
            "EDITTHINKER_THINKERS": json.dumps(thinkers),
            "EDITTHINKER_LEASE_S": str(self.size.lease_s),
            "EDITTHINKER_CAPACITY": str(self.size.capacity),
            "EDITTHINKER_DRAIN_S": str(self.size.drain_s),
            "EDITTHINKER_LOG_LEVEL": "warning",
        }

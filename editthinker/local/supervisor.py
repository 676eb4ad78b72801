"""Starts, watches and stops the services of a plan, from one thread.

It is one thread of its own because a child's parent death signal refers to the thread that started it (see
`parent_death_signal`): that thread must live as long as its children, which the caller's may not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

from editthinker.local.child import Child, Restarts
from editthinker.local.errors import StackError, StackStoppedError
from editthinker.local.service import Service, is_ready

_POLL_STARTING_S: Final = 0.03
_POLL_RUNNING_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Timing:
    """Timeouts and restarts of a stack.

    Attributes:
        start: seconds within which every service must be ready.
        grace: seconds from SIGTERM to SIGKILL, for each service.
        restarts: how a service that exited is restarted.
    """

    start: float = 90.0
    grace: float = 10.0
    restarts: Restarts = field(default_factory=Restarts)


class Supervisor:
    """Runs services until it is stopped, or one of them exits too often.

    Args:
        services: in the order in which they are started; they are stopped in the reverse order.
        logs: folder for ``<name>.log``.
        timing: timeouts and restarts.
        note: called with a sentence about each restart, from the supervisor's thread.
    """

    def __init__(self, services: Sequence[Service], logs: Path, timing: Timing, note: Callable[[str], None]) -> None:
        self._children = [Child(service, logs, timing.restarts, note) for service in services]
        self._timing = timing
        self._stopping = threading.Event()
        self._kill_now = threading.Event()
        self._started = threading.Event()
        self._ended = threading.Event()
        self._failure: StackError | None = None
        self._thread = threading.Thread(target=self._run, name="editthinker-stack", daemon=True)

    def start(self) -> None:
        """Start every service and wait until all are ready.

        Raises:
            ServiceFailedError: when a service exited or was not ready in time; all are stopped then.
        """
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the services have ended, or for `timeout` seconds; whether they have ended.

        Raises:
            ServiceFailedError: when a service exited too often; all are stopped then.
        """
        ended = self._ended.wait(timeout)
        if ended and self._failure is not None:
            raise self._failure
        return ended

    def stop(self) -> None:
        """Stop every service. Idempotent. Ctrl-C while this waits kills them at once."""
        self._stopping.set()
        while self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt:
                self._kill_now.set()

    def pids(self) -> dict[str, int]:
        """The process ids of the running services, by name."""
        return {child.service.name: pid for child in self._children if (pid := child.pid) is not None}

    def _run(self) -> None:
        try:
            self._start_all()
            self._started.set()
            self._watch()
        except StackError as exc:
            self._failure = exc
        except OSError as exc:
            self._failure = StackError(f"a process of the stack could not be started: {exc}")
        finally:
            self._stop_all()
            self._started.set()
            self._ended.set()

    def _start_all(self) -> None:
        deadline = monotonic() + self._timing.start
        while waiting := [child for child in self._children if not child.ready]:
            ready = {child.service.name for child in self._children if child.ready}
            for child in waiting:
                if not child.started:
                    if ready.issuperset(child.service.needs):
                        child.spawn()
                elif not child.running():
                    raise child.failure()
                else:
                    child.ready = is_ready(child.service.ready_url)
            if monotonic() > deadline:
                late = next(child for child in self._children if not child.ready)
                raise late.failure(f"was not ready within {self._timing.start:g} seconds")
            if self._stopping.wait(_POLL_STARTING_S):
                message = "the stack was stopped while it was starting"
                raise StackStoppedError(message)

    def _watch(self) -> None:
        while not self._stopping.wait(_POLL_RUNNING_S):
            for child in self._children:
                child.restart_if_exited()

    def _stop_all(self) -> None:
        for child in reversed(self._children):
            child.terminate()
            deadline = monotonic() + self._timing.grace
            while not self._kill_now.is_set() and monotonic() < deadline and not child.exited_within(0.05):
                pass
            # Also after it exited by itself: its own children may still run.
            child.kill()

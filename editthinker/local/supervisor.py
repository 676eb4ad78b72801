"""Keeps the services of a plan running: starts them, watches them, stops them, from one thread of its own.

One thread, because a child's leash is bound to the thread that started it (see `leash`): the thread must live as long
as its children, which the caller's may not.
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

_LOOK_STARTING: Final = 0.03
_LOOK_RUNNING: Final = 0.2


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the stack waits.

    Attributes:
        start: seconds until every service must be ready.
        grace: seconds from SIGTERM to SIGKILL, for each service.
        restarts: how a service that died is brought back.
    """

    start: float = 90.0
    grace: float = 10.0
    restarts: Restarts = field(default_factory=Restarts)


class Supervisor:
    """Runs services until it is stopped or one of them cannot be kept alive.

    Args:
        services: in the order in which they start; they stop in the reverse order.
        logs: folder for ``<name>.log``.
        patience: how long to wait for what.
        note: told in a sentence what happens while the stack runs; called from the supervisor's thread.
    """

    def __init__(self, services: Sequence[Service], logs: Path, patience: Patience, note: Callable[[str], None]) -> None:
        self._children = [Child(service, logs, patience.restarts, note) for service in services]
        self._patience = patience
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._settled = threading.Event()
        self._ended = threading.Event()
        self._failure: StackError | None = None
        self._thread = threading.Thread(target=self._run, name="editthinker-stack", daemon=True)

    def start(self) -> None:
        """Start everything and wait until all of it is ready.

        Raises:
            ServiceFailedError: when a service ended or was not ready in time; all are stopped by then.
        """
        self._thread.start()
        self._settled.wait()
        if self._failure is not None:
            raise self._failure

    def wait(self, timeout: float | None = None) -> bool:
        """Wait while the stack runs; whether it has ended.

        Raises:
            ServiceFailedError: when a service could not be kept alive; all are stopped by then.
        """
        ended = self._ended.wait(timeout)
        if ended and self._failure is not None:
            raise self._failure
        return ended

    def stop(self) -> None:
        """Stop everything; does nothing when it is stopped. A Ctrl-C while this waits kills instead of asking."""
        self._stopping.set()
        while self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt:
                self._hurry.set()

    def pids(self) -> dict[str, int]:
        """The process ids of the services that run now, by name."""
        return {child.service.name: pid for child in self._children if (pid := child.pid) is not None}

    def _run(self) -> None:
        try:
            self._bring_up()
            self._settled.set()
            self._watch()
        except StackError as exc:
            self._failure = exc
        except OSError as exc:
            self._failure = StackError(f"a process of the stack could not be started: {exc}")
        finally:
            self._take_down()
            self._settled.set()
            self._ended.set()

    def _bring_up(self) -> None:
        deadline = monotonic() + self._patience.start
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
                raise late.failure(f"was not ready within {self._patience.start:g} seconds")
            if self._stopping.wait(_LOOK_STARTING):
                message = "the stack was stopped while it was starting"
                raise StackStoppedError(message)

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_RUNNING):
            for child in self._children:
                child.keep()

    def _take_down(self) -> None:
        for child in reversed(self._children):
            child.terminate()
            deadline = monotonic() + self._patience.grace
            while not self._hurry.is_set() and monotonic() < deadline and not child.ended_within(0.05):
                pass
            # Also when it ended by itself: whatever it started ends with it.
            child.kill()

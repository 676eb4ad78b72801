"""One running service: started on a leash, its output in a log, restarted with growing pauses when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from editthinker.local import parent_death_signal
from editthinker.local.environment import inherited
from editthinker.local.errors import ServiceFailedError
from editthinker.local.service import Service

_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16 * 1024
_LOG_LIMIT: Final = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restarts:
    """How a service that died is brought back.

    Attributes:
        most: how many times in a row before giving up.
        first: seconds before the first restart; it doubles from then on, up to `longest`.
        healthy: seconds of life after which earlier deaths are forgotten.
    """

    most: int = 5
    first: float = 0.5
    longest: float = 10.0
    healthy: float = 60.0

    def pause(self, death: int) -> float:
        """Seconds to wait after the given death in a row (from 1)."""
        return min(self.longest, self.first * 2.0 ** (death - 1))


class Child:
    """A service's process. All methods are for the one thread that keeps it: its life is bound to that thread's."""

    def __init__(self, service: Service, logs: Path, restarts: Restarts, note: Callable[[str], None]) -> None:
        self.service = service
        self.log = logs / f"{service.name}.log"
        self.ready = False
        self._restarts = restarts
        self._note = note
        self._process: subprocess.Popen[bytes] | None = None
        self._since = 0.0
        self._deaths = 0
        self._due: float | None = None
        self._log_start = 0

    @property
    def started(self) -> bool:
        """Whether it was started at all."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.running() else None

    def spawn(self) -> None:
        """Start the process."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        script = str(Path(parent_death_signal.__file__).resolve())
        command = [sys.executable, "-I", "-S", script, str(os.getpid()), *self.service.command]
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - the plan's commands
                command,
                env={**inherited(), **self.service.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is ours to handle: it must not reach the services in any order it likes.
                start_new_session=True,
            )
        self._since = monotonic()
        self._due = None

    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def keep(self) -> None:
        """Look after the process: bring it back when it has died.

        Raises:
            ServiceFailedError: when it has died too often.
        """
        now = monotonic()
        if self.running():
            if self._deaths and now - self._since > self._restarts.healthy:
                self._deaths = 0
        elif self._due is None:
            self._deaths += 1
            if self._deaths > self._restarts.most:
                raise self.failure(f"died {self._deaths} times in a row ({self._ending()})")
            self._leave_nothing()
            pause = self._restarts.pause(self._deaths)
            self._due = now + pause
            self._note(f"{self.service.name} {self._ending()}; starting it again in {pause:g} s, its log is {self.log}")
        elif now >= self._due:
            self.spawn()

    def failure(self, why: str | None = None) -> ServiceFailedError:
        """The error that says what happened to this service."""
        return ServiceFailedError(self.service.name, why or self._ending(), self.log, self.tail())

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._process is not None and self.running():
            self._process.terminate()

    def kill(self) -> None:
        """End the process and everything it started, and collect it."""
        if self._process is not None:
            self._leave_nothing()
            self._process.wait()

    def ended_within(self, seconds: float) -> bool:
        """Whether the process has ended, waiting this long for it."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self) -> str:
        """The last lines that this start of the service wrote to its log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self._log_start, self.log.stat().st_size - _TAIL_BYTES))
                text = log.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    def _ending(self) -> str:
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return "is still running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def _leave_nothing(self) -> None:
        # It leads its own session, so its process group is what it started.
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

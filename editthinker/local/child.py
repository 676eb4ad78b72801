"""One running service: it dies with its parent, logs to a file, and is restarted with growing pauses when it exits."""

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

from editthinker.environment import inherited
from editthinker.local import parent_death_signal
from editthinker.local.errors import ServiceFailedError
from editthinker.local.service import Service

_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16 * 1024
_LOG_LIMIT: Final = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restarts:
    """How a service that exited is restarted.

    Attributes:
        attempts: restarts in a row before giving up.
        initial: seconds before the first restart; the pause doubles from then on.
        max: the longest pause, in seconds.
        healthy_after: seconds of running after which earlier exits are not counted.
    """

    attempts: int = 5
    initial: float = 0.5
    max: float = 10.0
    healthy_after: float = 60.0

    def pause(self, exits: int) -> float:
        """Seconds to wait after this many exits in a row."""
        return min(self.max, self.initial * 2.0 ** (exits - 1))


class Child:
    """A service's process. All methods are for one thread, with which the process ends (see `parent_death_signal`)."""

    def __init__(self, service: Service, logs: Path, restarts: Restarts, note: Callable[[str], None]) -> None:
        self.service = service
        self.log = logs / f"{service.name}.log"
        self.ready = False
        self._restarts = restarts
        self._note = note
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._exits = 0
        self._restart_at: float | None = None
        self._log_start = 0

    @property
    def started(self) -> bool:
        """Whether the process was ever started."""
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
        command = [sys.executable, "-I", "-S", script, str(os.getpid()), f"{self.service.death_signal:d}", *self.service.command]
        # Logs and pictures are the owner's alone.
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab") as log:
            os.fchmod(log.fileno(), 0o600)
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - the plan's commands
                command,
                env={**inherited(), **self.service.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The supervisor stops services in order; Ctrl-C in the terminal must not reach all of them at once.
                start_new_session=True,
                umask=0o077,
            )
        self._started_at = monotonic()
        self._restart_at = None

    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def restart_if_exited(self) -> None:
        """Restart the process after a pause when it has exited.

        Raises:
            ServiceFailedError: when it has exited too often in a row.
        """
        now = monotonic()
        if self.running():
            if self._exits and now - self._started_at > self._restarts.healthy_after:
                self._exits = 0
        elif self._restart_at is None:
            self._exits += 1
            if self._exits > self._restarts.attempts:
                raise self.failure(f"exited {self._exits} times in a row ({self._ending()})")
            self._kill_group()
            pause = self._restarts.pause(self._exits)
            self._restart_at = now + pause
            self._note(f"{self.service.name} {self._ending()}; restarting it in {pause:g} s, its log is {self.log}")
        elif now >= self._restart_at:
            self.spawn()

    def failure(self, why: str | None = None) -> ServiceFailedError:
        """The error for this service, with the end of its log."""
        return ServiceFailedError(self.service.name, why or self._ending(), self.log, self.tail())

    def terminate(self) -> None:
        """Send SIGTERM to the process."""
        if self._process is not None and self.running():
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process and everything it started, and wait for it."""
        if self._process is not None:
            self._kill_group()
            self._process.wait()

    def exited_within(self, seconds: float) -> bool:
        """Wait for the process to exit; whether it did."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self) -> str:
        """The last lines that the service has logged since its last start."""
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

    def _kill_group(self) -> None:
        # It leads its own session, so its process group is everything it started.
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

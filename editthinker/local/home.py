"""The data directory of the embedded stack, and the lock that makes it exclusive."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from editthinker.environment import inherited
from editthinker.local.errors import DataDirBusyError, StackError

HOME_VARIABLE: Final = "EDITTHINKER_HOME"


def default_home() -> Path:
    """``EDITTHINKER_HOME``, or ``editthinker`` in the XDG data directory."""
    environment = inherited()
    if named := environment.get(HOME_VARIABLE):
        return Path(named).expanduser()
    base = environment.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "editthinker"


class Home:
    """A data directory that this process alone uses.

    The lock is the kernel's (flock): it is released when the process ends, in whichever way, so it is never stale. The
    process id is written into the file for the error message only.

    Raises:
        DataDirBusyError: when another stack uses the directory.
        StackError: when it cannot be created or written, or the system has no flock.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Not on Windows, where the client and the command line work against a server.
            import fcntl  # noqa: PLC0415
        except ModuleNotFoundError as exc:
            message = "the embedded stack runs on Linux and macOS only; name a running server with --server"
            raise StackError(message) from exc
        self.path = path.expanduser().absolute()
        self.logs = self.path / "logs"
        self.blobs = self.path / "blobs"
        self.redis = self.path / "redis"
        self._url = self.path / "url"
        try:
            # Readable by the owner only: sessions hold people's photographs.
            self.path.mkdir(parents=True, exist_ok=True)
            _make_private(self.path)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            message = f"the data directory {self.path} cannot be used: {exc.strerror}"
            raise StackError(message) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", errors="replace").strip()
            os.close(self._lock)
            process = f" (process {holder})" if holder else ""
            message = f"another editthinker stack{process} uses the data directory {self.path}; give another --data-dir"
            raise DataDirBusyError(message, self._published()) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        # Of a stack that was killed.
        self._url.unlink(missing_ok=True)
        for folder in (self.logs, self.blobs, self.redis):
            folder.mkdir(exist_ok=True)
            _make_private(folder)

    def publish(self, url: str) -> None:
        """Write down where the stack is, until the lock is released."""
        self._url.write_text(url, "utf-8")

    def _published(self) -> str | None:
        try:
            return self._url.read_text("utf-8") or None
        except OSError:
            return None

    def release(self) -> None:
        """Release the lock."""
        self._url.unlink(missing_ok=True)
        os.close(self._lock)


def _make_private(path: Path) -> None:
    """Only the owner may look into it: also a directory that a backup, or an earlier version, has made."""
    # Not on a volume of another owner, whose mode is its maker's business.
    with suppress(PermissionError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)

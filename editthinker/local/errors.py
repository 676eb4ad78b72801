"""The exceptions of the embedded stack, as one tree.

StackError
├── DataDirBusyError      another stack uses the data directory
├── PortBusyError         the requested port is in use
├── RedisMissingError     no Redis server is installed or named
├── ServiceFailedError    a process exited or was not ready in time: name, log file and its last lines
└── StackStoppedError     the stack was stopped while it was starting
"""

from __future__ import annotations

from pathlib import Path


class StackError(Exception):
    """Base class: the embedded stack cannot run."""


class DataDirBusyError(StackError):
    """Another stack uses the data directory.

    Attributes:
        url: of that stack, if it was published (see `Stack.publish`); others end with the command that started them.
    """

    def __init__(self, message: str, url: str | None = None) -> None:
        super().__init__(message)
        self.url = url


class PortBusyError(StackError):
    """The requested port is in use."""


class RedisMissingError(StackError):
    """No Redis server is installed or named."""


class StackStoppedError(StackError):
    """The stack was stopped while it was starting."""


class ServiceFailedError(StackError):
    """A process of the stack failed.

    Attributes:
        name: of the service.
        why: in a few words.
        log: its log file.
        tail: the last lines of the log.
    """

    def __init__(self, name: str, why: str, log: Path, tail: str) -> None:
        super().__init__(f"{name} {why}; its log is {log}")
        self.name = name
        self.why = why
        self.log = log
        self.tail = tail

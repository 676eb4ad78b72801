"""What can go wrong with the embedded stack, as one small tree.

StackError
├── DataDirBusyError      another stack uses the data directory
├── PortBusyError         the port that was asked for is taken
├── RedisMissingError     no Redis server is installed or named
├── ServiceFailedError    a process ended or was not ready in time: name, log file and its last lines
└── StackStoppedError     the stack was stopped while it was starting
"""

from __future__ import annotations

from pathlib import Path


class StackError(Exception):
    """Anything that keeps the embedded stack from running."""


class DataDirBusyError(StackError):
    """Another stack uses the data directory."""


class PortBusyError(StackError):
    """The port that was asked for is taken."""


class RedisMissingError(StackError):
    """There is no Redis server to start."""


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

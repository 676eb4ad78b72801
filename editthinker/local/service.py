"""A process of the stack: its command, and the probe that tells whether it is ready."""

from __future__ import annotations

import http.client
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_PROBE_SECONDS: Final = 1.0
_READY: Final = 200
_PONG: Final = b"+PONG"


@dataclass(frozen=True, slots=True)
class Service:
    """A process to run.

    Attributes:
        name: names the log file, and the service in messages.
        command: program and arguments.
        ready_url: an ``http://`` URL that answers 200 once the service is ready, or a ``redis://`` URL whose server
            answers a PING.
        env: set on top of the parent's environment.
        needs: names of services that must be ready before this one is started.
        death_signal: what it gets when the stack's process dies, also after kill -9 (Linux).
    """

    name: str
    command: Sequence[str]
    ready_url: str
    env: Mapping[str, str] = field(default_factory=dict)
    needs: Sequence[str] = ()
    death_signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Plan:
    """Services in the order in which they are started; they are stopped in the reverse order.

    Attributes:
        base_url: of the stack.
    """

    services: Sequence[Service]
    base_url: str


def isolated(name: str, module: str, *arguments: str) -> list[str]:
    """The command that runs one of the project's servers, safe from packages of the same name (see `isolated.py`).

    Args:
        name: of the program in its usage text.
        module: ``orchestrator``, ``services.editor`` or ``services.thinker``.
        arguments: its own.
    """
    # -u: its output goes to a log file, and is read there while it runs.
    return [sys.executable, "-I", "-u", str(Path(__file__).with_name("isolated.py")), name, module, *arguments]


def is_ready(url: str) -> bool:
    """Whether a ready URL reports ready now."""
    return _PROBES[urlsplit(url).scheme](url)


def _http_ready(url: str) -> bool:
    # http.client uses no proxies, and builds no TLS context for every probe.
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == _READY
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _redis_ready(url: str) -> bool:
    """PING without a Redis client, which `editthinker[cli]` does not install. A server that loads its file answers LOADING."""
    parts = urlsplit(url)
    login = b""
    if parts.password:
        login = _command("AUTH", unquote(parts.username or "default"), unquote(parts.password))
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=_PROBE_SECONDS) as connection:
            connection.sendall(login + _command("PING"))
            return _PONG in connection.recv(64) or (bool(login) and _PONG in connection.recv(64))
    except OSError:
        return False


def _command(*words: str) -> bytes:
    parts = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
    return b"*%d\r\n%s" % (len(words), parts)


_PROBES: Final[Mapping[str, Callable[[str], bool]]] = {
    "http": _http_ready,
    "redis": _redis_ready,
}

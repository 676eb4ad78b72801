"""The real HAProxy with the real configuration (`deploy/haproxy`) in front of given editors.

haproxy(folder, editors)        a running one, for a `with`
start_haproxy(…, port=…)        the same for callers who kill it and start it again
haproxy_binary()                where it is; Debian's packages are unpacked into `.haproxy/` if it is not installed
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.haproxy.render import SOURCE, render
from tests.doubles.processes import Process, free_port, start, wait_ready

_CACHE = Path(__file__).parents[2] / ".haproxy"
_WRAPPER = """\
#!/bin/sh
root=$(dirname "$0")
LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu* | tr ' ' ':')
export LD_LIBRARY_PATH
exec "$root/usr/sbin/haproxy" "$@"
"""


class NoHAProxyError(RuntimeError):
    """There is none on this machine, and none can be had."""


@dataclass
class HAProxy(Process):
    """A running HAProxy."""

    metrics_port: int
    config: Path

    @property
    def metrics_url(self) -> str:
        """Where Prometheus scrapes."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"


def haproxy_binary() -> str:
    """The installed HAProxy, or Debian's, unpacked without being installed.

    Raises:
        NoHAProxyError: with what to install.
    """
    if found := shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        return found
    unpacked = _CACHE / "root" / "haproxy"
    if unpacked.exists():
        return str(unpacked)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoHAProxyError("install haproxy 2.6 or later: it is not on PATH, and there is no apt-get to fetch it with")
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.exists():
            _unpack(_CACHE / "root")
    return str(unpacked)


def _unpack(target: Path) -> None:
    """Debian's haproxy and the libraries that this machine lacks, in a folder that appears complete or not at all."""
    making = target.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    own = ["-o", "APT::Sandbox::User=root", "-o", f"Dir::Cache={making}/apt"]
    try:
        names = _packages(own)
    except NoHAProxyError:
        # No package lists, as in a slim image: some of our own, which takes no root and leaves the system as it is.
        lists = making / "lists"
        (lists / "partial").mkdir(parents=True)
        own += ["-o", f"Dir::State::Lists={lists}"]
        _apt([*own, "update"], making)
        names = _packages(own)
    _apt([*own, "download", *names], making)
    for archive in making.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(making)], check=True, capture_output=True)
        archive.unlink()
    shutil.rmtree(making / "lists", ignore_errors=True)
    shutil.rmtree(making / "apt", ignore_errors=True)
    wrapper = making / "haproxy"
    wrapper.write_text(_WRAPPER)
    wrapper.chmod(0o755)
    making.rename(target)


def _packages(options: list[str]) -> list[str]:
    """What apt would install; only the proxy and its libraries are of use here."""
    plan = _apt([*options, "install", "--simulate", "--no-install-recommends", "haproxy"], _CACHE)
    return [name for name in re.findall(r"^Inst (\S+)", plan, re.MULTILINE) if name == "haproxy" or name.startswith("lib")]


def _apt(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(["apt-get", "-q", *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise NoHAProxyError(f"install haproxy 2.6 or later: apt-get could not fetch it: {done.stderr.strip()[-500:]}")
    return done.stdout


def start_haproxy(
    folder: Path,
    editors: Sequence[str] | None,
    *,
    port: int | None = None,
    maxconn: int = 2,
    queue_timeout: str = "30s",
    timeout: str = "5m",
    check_every: str = "200ms",
    env: Mapping[str, str] | None = None,
) -> HAProxy:
    """Start it and wait until it listens; not until it has seen whether the editors are ready.

    Args:
        folder: keeps its log and configuration.
        editors: each a "host:port"; None for the ones that a name server tells (``EDITORS_DNS`` in `env`).
        port: where to listen, to begin again where an earlier one was killed.
        maxconn: requests at a worker at a time.
        queue_timeout: how long a request waits for a worker.
        timeout: how long a worker may take.
        check_every: between health checks.
        env: more of the variables in docs/pool.md.
    """
    port, metrics_port = port or free_port(), free_port()
    config = SOURCE
    if editors is not None:
        config = folder / "haproxy.cfg"
        config.write_text(render(editors))
    variables = {
        "EDITORS_BIND": f"127.0.0.1:{port}",
        "EDITORS_METRICS_BIND": f"127.0.0.1:{metrics_port}",
        "EDITORS_MAXCONN": str(maxconn),
        "EDITORS_QUEUE_TIMEOUT": queue_timeout,
        "EDITORS_TIMEOUT": timeout,
        "EDITORS_CHECK_EVERY": check_every,
        **(env or {}),
    }
    process = start([haproxy_binary(), "-db", "-f", str(config)], port, folder / "haproxy.log", variables)
    running = HAProxy(process.popen, port, process.log, metrics_port, config)
    wait_ready(running, "/healthz", seconds=20)
    return running


@contextlib.contextmanager
def haproxy(
    folder: Path,
    editors: Sequence[str] | None,
    *,
    port: int | None = None,
    maxconn: int = 2,
    queue_timeout: str = "30s",
    timeout: str = "5m",
    check_every: str = "200ms",
    env: Mapping[str, str] | None = None,
) -> Iterator[HAProxy]:
    """`start_haproxy`, stopped at the end."""
    running = start_haproxy(
        folder,
        editors,
        port=port,
        maxconn=maxconn,
        queue_timeout=queue_timeout,
        timeout=timeout,
        check_every=check_every,
        env=env,
    )
    try:
        yield running
    finally:
        running.stop()

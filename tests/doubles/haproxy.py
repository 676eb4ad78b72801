"""The real HAProxy with the real configuration (`deploy/haproxy`) in front of given editors.

haproxy(folder, editors)        a running one, for a `with`
start_haproxy(…, port=…)        the same for callers who kill it and start it again
haproxy_binary()                where it is; Debian's packages are unpacked into `.haproxy/` if it is not installed
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.haproxy.render import SOURCE, render
from tests.doubles.debian import NoProgramError, program
from tests.doubles.processes import Process, free_port, start, wait_ready

NoHAProxyError = NoProgramError


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
    """The installed HAProxy (2.6 or later), or Debian's, unpacked into `.haproxy/`.

    Raises:
        NoHAProxyError: with what to install.
    """
    return program("haproxy", "haproxy", ".haproxy")


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
    wait_ready(running, "/healthz")
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

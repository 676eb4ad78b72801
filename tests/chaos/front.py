"""HAProxy in front of the replicas, as docs/operations.md says: any replica answers any request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.doubles.haproxy import haproxy_binary
from tests.doubles.processes import Process, start

_CONFIG = """\
global
    log stdout format raw local0 err
defaults
    mode http
    log global
    timeout connect 2s
    timeout check 2s
    timeout client 2m
    timeout server 2m
    retries 3
    option redispatch 1
    retry-on conn-failure
frontend api
    bind 127.0.0.1:{port}
    # Which replica answered; the checker asks which links were on the way.
    http-response set-header x-replica %s
    default_backend replicas
backend replicas
    balance leastconn
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr host 127.0.0.1
    default-server check inter 200ms fall 2 rise 1
{servers}
"""


def start_front(folder: Path, port: int, replicas: Mapping[str, int]) -> Process:
    """Start it; `replicas` are ports by name."""
    servers = "\n".join(f"    server {name} 127.0.0.1:{at}" for name, at in replicas.items())
    config = folder / "front.cfg"
    config.write_text(_CONFIG.format(port=port, servers=servers))
    return start([haproxy_binary(), "-db", "-f", str(config)], port, folder / "front.log")

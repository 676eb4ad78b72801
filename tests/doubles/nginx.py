"""A real nginx in front of a server, with the lines that most people copy for WebSockets and upstream keep-alive.

nginx(folder, port, …)      a running one, for a `with`
nginx_binary()              where it is; Debian's package is unpacked into `.nginx/` if it is not installed
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.doubles.debian import program
from tests.doubles.processes import Process, free_port, start, wait_ready

_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 200m;
    upstream orchestrator {{ server 127.0.0.1:{upstream}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://orchestrator;
            proxy_http_version {version};
            proxy_read_timeout {read_s}s;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection {connection};
            proxy_buffering {buffering};
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""


def nginx_binary() -> str:
    """The installed nginx, or Debian's.

    Raises:
        NoProgramError: with what to install.
    """
    return program("nginx", "nginx", ".nginx")


@contextlib.contextmanager
def nginx(
    folder: Path, upstream: int, *, buffering: bool, connection: str = '"upgrade"', version: str = "1.1", read_s: int = 60
) -> Iterator[Process]:
    """A running nginx.

    Args:
        folder: keeps its log, configuration and temporary files.
        upstream: the port of the server behind it.
        buffering: of requests and responses.
        connection: the Connection header that the server gets; always "upgrade", as in most guides.
        version: of HTTP to the server; for most of its life nginx's own default was 1.0.
        read_s: seconds that it waits for the next bytes of the server; 60 is its default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    modes = {"buffering": "on" if buffering else "off", "connection": connection, "version": version, "read_s": read_s}
    config.write_text(_CONFIG.format(folder=folder, upstream=upstream, port=port, **modes))
    process = start(
        [nginx_binary(), "-p", str(folder), "-c", str(config), "-e", str(folder / "start.log")], port, folder / "out.log"
    )
    try:
        wait_ready(process, "/healthz")
        yield process
    finally:
        process.stop()

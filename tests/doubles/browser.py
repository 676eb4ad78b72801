"""A real browser for tests: Chromium without a window, pages of other origins, and what their scripts saw.

with pages(upstream) as site, visiting(folder, site, f"http://other.test:{site.port}/?…"):
    site.reports.get(timeout=60)        what the page's script sent with report(…)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.doubles.debian import browser

_PAGE = """\
<!doctype html><title>a page</title><script type="module">
const report = (seen) => fetch("/report", {method: "POST", body: JSON.stringify(seen)});
const attempt = async (work) => { try { return await work(); } catch (error) { return String(error); } };
const url = SERVER;
SCRIPT
</script>
"""


@dataclass
class Pages:
    """A web server of pages. Every other path is passed on to a server with the Host as it came, as after DNS rebinding.

    Attributes:
        port: of the pages.
        server: what requests are passed on to, as host:port.
        script: of the page; it has `url`, `report(json)` and `attempt(async function)`.
        reports: what the scripts reported.
    """

    port: int
    server: str
    script: str = ""
    reports: queue.Queue[Any] = field(default_factory=queue.Queue)

    def seen(self) -> Any:
        """The next report."""
        return self.reports.get(timeout=60)


@contextlib.contextmanager
def pages(server: str) -> Iterator[Pages]:
    """Serve pages on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/":
                html = _PAGE.replace("SERVER", json.dumps(f"http://{site.server}")).replace("SCRIPT", site.script)
                self._answer(200, "text/html", html.encode())
            else:
                self._pass_on(b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            if self.path == "/report":
                site.reports.put(json.loads(body))
                self._answer(200, "text/plain", b"thanks")
            else:
                self._pass_on(body)

        def _pass_on(self, body: bytes) -> None:
            connection = http.client.HTTPConnection(site.server, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            reply = connection.getresponse()
            self._answer(reply.status, reply.headers.get("content-type", ""), reply.read())
            connection.close()

        def _answer(self, status: int, media_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", media_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Pages(listener.server_port, server)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(10)


def command(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The browser without a window, and its environment; its profile is in the folder."""
    program, needed = browser()
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--no-proxy-server", f"--user-data-dir={folder / 'profile'}"),
        # Names of other sites, all on this machine.
        "--host-resolver-rules=MAP *.test 127.0.0.1",
        "--enable-logging=stderr",
    ]
    return [program, *flags], {**os.environ, **needed, "HOME": str(folder)}


@contextlib.contextmanager
def visiting(folder: Path, url: str) -> Iterator[None]:
    """A browser that shows a page."""
    program, env = command(folder)
    with (folder / "browser.log").open("ab") as log:
        process = subprocess.Popen([*program, url], stdout=log, stderr=log, env=env)
    try:
        yield
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a browser to end, and kill one that does not."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(15)


def rendered(folder: Path, url: str) -> tuple[str, str]:
    """The page's elements after its scripts ran, and the browser's log."""
    program, env = command(folder)
    done = subprocess.run(
        [*program, "--virtual-time-budget=20000", "--dump-dom", url],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
        check=True,
    )
    return done.stdout, done.stderr

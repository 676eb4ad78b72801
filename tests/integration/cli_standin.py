"""A stand-in for a service of the stack: answers /readyz on a port, in the ways a real one might go wrong.

Run as a script: ``cli_standin.py PORT [MODE ...]``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType


class Handler(BaseHTTPRequestHandler):
    """Ready at once, or never."""

    never = False

    def do_GET(self) -> None:
        self.send_response(503 if self.never else 200)
        self.send_header("content-length", "0")
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Fails like uvicorn when the port is taken."""

    daemon_threads = True


def main() -> None:
    port, modes = int(sys.argv[1]), sys.argv[2:]
    if "fail" in modes:
        sys.exit("the stand-in has a reason to fail")
    if "taken-once" in modes and not Path(marker := os.environ["STANDIN_MARKER"]).exists():
        Path(marker).touch()
        sys.exit("[Errno 98] error while attempting to bind: address already in use")
    if "deaf" in modes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, stop)
    if "family" in modes:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(os.environ["STANDIN_MARKER"]).write_text(str(child.pid))
    Handler.never = "never" in modes
    sys.stderr.write(f"listening on {port}\n")
    Server(("127.0.0.1", port), Handler).serve_forever(poll_interval=0.05)


def stop(_: int, __: FrameType | None) -> None:
    if name := os.environ.get("STANDIN_NAME"):
        with Path(os.environ["STANDIN_ORDER"]).open("a") as order:
            order.write(f"{name}\n")
    os._exit(0)


if __name__ == "__main__":
    main()

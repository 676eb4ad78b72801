"""``python -m orchestrator``: serve the API and drive sessions."""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError

from orchestrator.app import create_app
from orchestrator.settings import Settings


class _Server(uvicorn.Server):
    """Tells the application that it is to go, before connections are closed."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGINT."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def main() -> int:
    """Read settings (options over environment over defaults) and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="editthinker serve", description="Serve the orchestrator.")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as exc:
        for error in exc.errors():
            where = ".".join(str(part) for part in error["loc"])
            sys.stderr.write(f"EDITTHINKER_{where.upper()}: {error['msg']}\n")
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # One connection a waiting edit, and one a caller: the soft limit of most systems is too low.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        # Streams and waiting callers would hold a shutdown; their sessions go on elsewhere.
        timeout_graceful_shutdown=3,
    )
    _Server(config, app.state.stopping).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

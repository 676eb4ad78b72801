"""``python -m orchestrator``: serve the API and drive sessions. ``python -m orchestrator sweep``: tidy the blob store."""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError

from orchestrator.app import create_app, sweep
from orchestrator.ports import PortError
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
    """Serve until SIGTERM, or do what the command says."""
    return _sweep(sys.argv[2:]) if sys.argv[1:2] == ["sweep"] else _serve()


def _serve() -> int:
    parser = argparse.ArgumentParser(prog="editthinker serve", description="Serve the orchestrator.")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    settings = _settings(**vars(parser.parse_args()))
    if settings is None:
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


def _sweep(arguments: list[str]) -> int:
    description = "Remove folders of the blob store whose session was never made. Archived sessions are left alone."
    parser = argparse.ArgumentParser(prog="python -m orchestrator sweep", description=description)
    parser.add_argument("--older-than", type=float, default=86_400.0, metavar="SECONDS", help="since the last write (86400)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed")
    options = parser.parse_args(arguments)
    settings = _settings()
    if settings is None:
        return 2
    try:
        swept = asyncio.run(sweep(settings, older_s=options.older_than, remove=not options.dry_run))
    except PortError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return 1
    done = "would be removed" if options.dry_run else "removed"
    sys.stdout.write("".join(f"{session_id}\n" for session_id in swept.orphans))
    sys.stdout.write(f"{swept.folders} folders, {len(swept.orphans)} without a session {done}\n")
    return 0


def _settings(**given: object) -> Settings | None:
    """Options over environment over defaults; None after saying what is wrong."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as exc:
        for error in exc.errors():
            where = ".".join(str(part) for part in error["loc"])
            sys.stderr.write(f"EDITTHINKER_{where.upper()}: {error['msg']}\n")
        return None


if __name__ == "__main__":
    raise SystemExit(main())

"""``python -m orchestrator``: serve the API and drive sessions.

``… sweep`` tidies the blob store; ``… keys`` and ``… quota`` say who may come in, and how much they may use.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
from types import FrameType
from typing import TypeVar

import uvicorn
from pydantic import ValidationError

from orchestrator import commands
from orchestrator.app import create_app, sweep
from orchestrator.ports import PortError
from orchestrator.settings import RedisSettings, Settings, is_loopback
from services.wire import logs, traces
from services.wire.heads import BoundedProtocol

_Kind = TypeVar("_Kind", bound=RedisSettings)


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
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in commands.NAMES:
        place = _settings(RedisSettings)
        return 2 if place is None else commands.run(sys.argv[1:], place)
    return _sweep(sys.argv[2:]) if command == "sweep" else _serve()


def _serve() -> int:
    parser = argparse.ArgumentParser(prog="editthinker serve", description="Serve the orchestrator.")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    settings = _settings(Settings, **vars(parser.parse_args()))
    if settings is None:
        return 2
    logs.configure(settings.log_level, settings.log_format, service="orchestrator", secrets=settings.secrets(), ids=traces.ids)
    traces.configure("editthinker-orchestrator", settings.otlp_endpoint)
    if not settings.keys_required and not is_loopback(settings.host):
        logging.getLogger(__name__).warning("no API keys are needed on %s: everybody who reaches it may come in", settings.host)
    # One connection a waiting edit, and one a caller: the soft limit of most systems is too low.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        # Its logs go the way of all others; a line for each request comes from services.wire.asgi.
        log_config=None,
        access_log=False,
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
    settings = _settings(Settings)
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


def _settings(kind: type[_Kind], **given: object) -> _Kind | None:
    """Options over environment over defaults; None after saying what is wrong."""
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as exc:
        for error in exc.errors():
            where = ".".join(str(part) for part in error["loc"]).upper().removeprefix("EDITTHINKER_")
            sys.stderr.write(f"EDITTHINKER_{where}: {error['msg']}\n" if where else f"{error['msg']}\n")
        return None


if __name__ == "__main__":
    raise SystemExit(main())

"""``python -m orchestrator``: serve the API and drive sessions.

``… sweep`` tidies the blob store; ``… keys`` and ``… quota`` say who may come in, and how much they may use.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

import uvicorn
from obstore.exceptions import BaseError
from pydantic import ValidationError
from pydantic_settings import SettingsError

from orchestrator.admin import keys
from orchestrator.app import create_app, sweep
from orchestrator.ports import PortError
from orchestrator.settings import RedisSettings, Settings, is_loopback
from orchestrator.store.blobs import ObjectBlobs
from services.serving import logs, tracing
from services.serving.http_limits import BoundedProtocol

_PREFIX: Final = "EDITTHINKER_"
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
    if command in keys.NAMES:
        place = _settings(RedisSettings)
        return 2 if place is None else keys.run(sys.argv[1:], place)
    return _sweep(sys.argv[2:]) if command == "sweep" else _serve()


def _serve() -> int:
    parser = argparse.ArgumentParser(prog="editthinker serve", description="Serve the orchestrator.")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    settings = _settings(Settings, **vars(parser.parse_args()))
    if settings is None:
        return 2
    logs.configure(settings.log_level, settings.log_format, service="orchestrator", secrets=settings.secrets(), ids=tracing.ids)
    tracing.configure("editthinker-orchestrator", settings.otlp_endpoint)
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
        # Its logs go the way of all others; a line for each request comes from services.serving.middleware.
        log_config=None,
        access_log=False,
        # Streams and waiting callers would hold a shutdown; their sessions go on elsewhere.
        timeout_graceful_shutdown=3,
    )
    return _run(_Server(config, app.state.stopping))


def _run(server: uvicorn.Server) -> int:
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # it has stopped as it should, and says so once more
    except SystemExit as exc:
        # uvicorn's own status for it is 3. What is wrong is in its log, as a record; this is for people.
        sys.stderr.write(f"the orchestrator cannot start: {exc.__context__ or 'its log says why'}\n")
        return 1
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
        settings = kind(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as exc:
        wrong = list(_wrong(exc))
    except SettingsError as exc:
        wrong = [_no_json(exc)]
    else:
        wrong = _no_store(settings.blobs) if isinstance(settings, Settings) else []
        if not wrong:
            return settings
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return None


def _wrong(exc: ValidationError) -> Iterator[str]:
    for error in exc.errors():
        inner = error.get("ctx", {}).get("error")
        if isinstance(inner, ValidationError):
            # Its text would hold what was given, keys included.
            yield from _wrong(inner)
            continue
        where = ".".join(str(part) for part in error["loc"]).upper().removeprefix(_PREFIX)
        message = error["msg"].removeprefix("Value error, ")
        yield f"{_PREFIX}{where}: {message}" if where else message


def _no_json(exc: SettingsError) -> str:
    field = re.search(r'field "(\w+)"', str(exc))
    name = f"{_PREFIX}{field[1].upper()}" if field else "a setting"
    example = '{"name": {"url": "http://127.0.0.1:8000/v1", "model": "the server\'s name for it"}}'
    return f"{name} is not JSON ({exc.__cause__}); write it as {example}"


def _no_store(place: str) -> list[str]:
    """What is wrong with the blob store, as far as it shows before anything is stored."""
    try:
        ObjectBlobs(place)
    except OSError as exc:
        why = str(exc.strerror)
    except (BaseError, ValueError) as exc:
        # What follows the first line is how obstore sees it inside.
        why, _, _ = str(exc).partition("\n")
    else:
        if "://" in place or os.access(Path(place).expanduser(), os.W_OK | os.X_OK):
            return []
        why = "Permission denied"
    return [f"{_PREFIX}BLOBS: {place!r}: {why}; name a directory that can be written, or s3://bucket/prefix"]


if __name__ == "__main__":
    raise SystemExit(main())

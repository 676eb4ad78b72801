"""``sweep``: removes image folders that belong to no session."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated

import typer

from orchestrator.admin.configuration import server_settings
from orchestrator.ports.errors import PortError
from orchestrator.settings import Settings
from orchestrator.store import archive
from orchestrator.store.blobs import ObjectBlobs
from orchestrator.store.connection import client, listeners
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions
from services.serving.command_line import fail


def sweep(
    *,
    older_than: Annotated[float, typer.Option(metavar="SECONDS", help="Since the folder was last written to.")] = 86_400.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
) -> None:
    """Remove folders of the blob store whose session was never recorded. Archived sessions are left alone."""
    settings = server_settings()
    try:
        swept = asyncio.run(_sweep(settings, before=time.time() - older_than, remove=not dry_run))
    except PortError as exc:
        raise fail(exc.message) from None
    done = "would be removed" if dry_run else "removed"
    sys.stdout.write("".join(f"{session_id}\n" for session_id in swept.orphans))
    sys.stdout.write(f"{swept.folders} folders, {len(swept.orphans)} without a session {done}\n")


async def _sweep(settings: Settings, *, before: float, remove: bool) -> archive.Swept:
    address = settings.redis()
    redis = client(address)
    try:
        sessions = RedisSessions(redis, PubSubFanout(listeners(address)), KeySpace())
        return await archive.sweep(sessions, ObjectBlobs(settings.blobs), before=before, remove=remove)
    finally:
        await redis.aclose()

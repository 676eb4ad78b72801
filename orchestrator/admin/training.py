"""``training allow | deny | list``: which tenants allow that their sessions are used for training. It needs Redis only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from orchestrator.admin.configuration import redis_settings
from orchestrator.admin.tables import print_table
from orchestrator.ports.errors import PortError
from orchestrator.store.connection import client
from orchestrator.store.scripts import KeySpace
from orchestrator.store.training import TrainingStore
from services.serving.command_line import PLAIN, USAGE, fail, say

app = typer.Typer(name="training", help="Which tenants' sessions may be used for training.", no_args_is_help=True, **PLAIN)
_Tenant = Annotated[str, typer.Option("--tenant")]


@app.command("allow")
def allow(
    *,
    tenant: _Tenant,
    grant: Annotated[
        str | None, typer.Option(metavar="grt_…", help="One that was withdrawn by mistake, with the sessions made under it.")
    ] = None,
) -> None:
    """Allow that the sessions which a tenant makes from now on are used for training. Earlier ones are not."""

    async def command(training: TrainingStore) -> None:
        found = await training.allow(tenant, grant)
        say(f"{tenant}: training is allowed under {found.id}")

    _with_store(command)


@app.command("deny")
def deny(*, tenant: _Tenant) -> None:
    """Withdraw it: none of the tenant's sessions is in a later export for training, whenever it was made."""

    async def command(training: TrainingStore) -> None:
        found = await training.deny(tenant)
        what = f"training is denied; {found.id} is withdrawn" if found else "training was not allowed"
        say(f"{tenant}: {what}")

    _with_store(command)


@app.command("list")
def list_grants() -> None:
    """List the tenants that allow it."""

    async def command(training: TrainingStore) -> None:
        rows = [(tenant, grant.id, _minute(grant.at)) for tenant, grant in sorted((await training.grants()).items())]
        print_table(("tenant", "grant", "allowed since"), rows)

    _with_store(command)


def _with_store(command: Callable[[TrainingStore], Awaitable[None]]) -> None:
    settings = redis_settings()

    async def run() -> None:
        redis = client(settings.redis(), connections=1)
        try:
            await command(TrainingStore(redis, KeySpace(), time.time))
        finally:
            await redis.aclose()

    try:
        asyncio.run(run())
    except ValueError as exc:
        raise fail(str(exc), USAGE) from None
    except PortError as exc:
        raise fail(exc.message) from None


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")

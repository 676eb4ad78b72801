"""``quota set | remove | list``: what each tenant may use. It needs Redis only."""

from __future__ import annotations

import math
import re
from dataclasses import astuple
from typing import Annotated, Final

import typer

from orchestrator.admin.keys import with_key_store
from orchestrator.admin.tables import print_table
from orchestrator.ports.stores import Quota
from orchestrator.store import rates
from orchestrator.store.api_keys import ApiKeyStore
from services.serving.command_line import PLAIN

app = typer.Typer(name="quota", help="What tenants may use.", no_args_is_help=True, **PLAIN)

_UNITS: Final = ("", "KiB", "MiB", "GiB", "TiB")
_Tenant = Annotated[str, typer.Option("--tenant")]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise typer.BadParameter(f"{text!r}: write a whole number, 0 or more")
    return int(text)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,15})(KiB|MiB|GiB|TiB)?", text)
    if not found:
        raise typer.BadParameter(f"{text!r}: write a number of bytes, or of KiB, MiB, GiB or TiB, as in 512MiB")
    factor: int = 1024 ** _UNITS.index(found[2] or "")
    return int(found[1]) * factor


def _seconds(text: str) -> float:
    # Redis and JSON have neither NaN nor infinity; a limit that does not exist is left out instead.
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"{text!r}: write a number of seconds, 0 or more")
    return value


@app.command("set")
def set_quota(
    *,
    tenant: _Tenant,
    rate: Annotated[
        str | None, typer.Option(metavar="60/minute", help="New sessions; several rates as 60/minute;1000/day.")
    ] = None,
    unfinished: Annotated[int | None, typer.Option(parser=_count, metavar="N", help="Sessions that are not finished.")] = None,
    editor_seconds_per_day: Annotated[
        float | None, typer.Option(parser=_seconds, metavar="SECONDS", help="Of all edits in a day (UTC).")
    ] = None,
    redis_bytes: Annotated[
        int | None, typer.Option(parser=_bytes, metavar="256MiB", help="Of the events of its sessions in Redis.")
    ] = None,
    blob_bytes: Annotated[
        int | None, typer.Option(parser=_bytes, metavar="100GiB", help="Of the images of its sessions, archived ones too.")
    ] = None,
) -> None:
    """Set the whole quota of a tenant, in place of the server's default.

    What is left out has no limit, except bytes, which keep the server's.
    """

    async def command(keys: ApiKeyStore) -> None:
        if rate is not None:
            rates.parse_rates(rate)
        await keys.set_quota(tenant, Quota(rate, unfinished, editor_seconds_per_day, redis_bytes, blob_bytes))

    with_key_store(command)


@app.command("remove")
def remove_quota(*, tenant: _Tenant) -> None:
    """Remove a tenant's quota, so that the server's default applies again."""

    async def command(keys: ApiKeyStore) -> None:
        if not await keys.remove_quota(tenant):
            raise ValueError(f"no quota is set for {tenant!r}; `quota list` shows them")

    with_key_store(command)


@app.command("list")
def list_quotas() -> None:
    """List the tenants that have a quota of their own."""

    async def command(keys: ApiKeyStore) -> None:
        rows = [
            (tenant, *map(_cell, astuple(quota)[:-2]), _size(quota.redis_bytes), _size(quota.blob_bytes))
            for tenant, quota in sorted((await keys.quotas()).items())
        ]
        print_table(("tenant", "rate", "unfinished", "editor s/day", "redis bytes", "blob bytes"), rows)

    with_key_store(command)


def _size(value: int | None) -> str:
    """As `quota set` takes it."""
    if not value:
        return _cell(value)
    power = max(power for power in range(len(_UNITS)) if value % 1024**power == 0)
    return f"{value // 1024**power}{_UNITS[power]}"


def _cell(value: object) -> str:
    return "-" if value is None else str(value)

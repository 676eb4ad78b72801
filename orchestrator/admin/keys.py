"""``keys create | list | revoke``: API keys. It needs Redis only."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from orchestrator.admin.configuration import redis_settings
from orchestrator.admin.tables import print_table
from orchestrator.ports.errors import PortError
from orchestrator.ports.stores import SCOPES, ApiKey
from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.connection import client
from orchestrator.store.scripts import KeySpace
from services.serving.command_line import PLAIN, USAGE, fail, say

app = typer.Typer(name="keys", help="API keys.", no_args_is_help=True, **PLAIN)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MAX_NAME: Final = 200


def with_key_store(command: Callable[[ApiKeyStore], Awaitable[None]]) -> None:
    """Run a command on the API keys of the Redis that the environment names.

    Raises:
        typer.Exit: with status 2 when the command refuses its arguments, 1 when Redis does not answer.
    """
    settings = redis_settings()

    async def run() -> None:
        redis = client(settings.redis(), connections=1)
        try:
            await command(ApiKeyStore(redis, KeySpace()))
        finally:
            await redis.aclose()

    try:
        asyncio.run(run())
    except ValueError as exc:
        raise fail(str(exc), USAGE) from None
    except PortError as exc:
        raise fail(exc.message) from None


def _scope(text: str) -> str:
    if text not in SCOPES:
        raise typer.BadParameter(f"{text!r}: write one of {', '.join(sorted(SCOPES))}")
    return text


def _duration(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise typer.BadParameter(f"{text!r}: write a number above 0 and s, m, h or d, as in 90d")
    return int(match[1]) * _UNITS[match[2]]


def _name(text: str) -> str:
    if not text.isprintable() or len(text) > _MAX_NAME:
        raise typer.BadParameter(f"{text!r}: write one line of text, {_MAX_NAME} characters at most")
    return text


@app.command("create")
def create(
    *,
    tenant: Annotated[str, typer.Option(help="The key's tenant; a tenant sees its own sessions only.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(parser=_scope, metavar="|".join(sorted(SCOPES)), help="Repeat it for more. [default: edit and read]"),
    ] = None,
    name: Annotated[str, typer.Option(parser=_name, metavar="TEXT", help="What the key is for.")] = "",
    expires_in: Annotated[int | None, typer.Option(parser=_duration, metavar="90d", help="In s, m, h or d.")] = None,
) -> None:
    """Create a key and print it. It is shown only once."""

    async def command(keys: ApiKeyStore) -> None:
        expires_at = None if expires_in is None else time.time() + expires_in
        secret, key = await keys.create(tenant, scope or ["edit", "read"], name=name, expires_at=expires_at)
        # Only the secret goes to standard output, so that it can be piped into a secret store.
        say(f"{key.id} of {key.tenant}, {' '.join(sorted(key.scopes))}; it is shown only once:")
        sys.stdout.write(f"{secret}\n")

    with_key_store(command)


@app.command("list")
def list_keys() -> None:
    """List every key, without its secret."""

    async def command(keys: ApiKeyStore) -> None:
        print_table(("id", "tenant", "scopes", "created", "expires", "name"), [_row(key) for key in await keys.all()])

    with_key_store(command)


@app.command("revoke")
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]) -> None:
    """Revoke a key."""

    async def command(keys: ApiKeyStore) -> None:
        if not await keys.revoke(key_id):
            raise ValueError(f"there is no key {key_id!r}; `keys list` shows them")
        say(f"{key_id} is revoked; every replica refuses it within a second")

    with_key_store(command)


def _row(key: ApiKey) -> tuple[str, ...]:
    expires = "never" if key.expires_at is None else _minute(key.expires_at)
    if key.expires_at is not None and key.expires_at <= time.time():
        expires = "expired"
    return (key.id, key.tenant, " ".join(sorted(key.scopes)), _minute(key.created_at), expires, key.name)


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")

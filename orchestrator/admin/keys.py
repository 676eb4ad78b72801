"""``python -m orchestrator keys|quota …``: who may come in, and what each tenant may use. It works on Redis alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import re
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from orchestrator.ports import ApiKey, PortError, Quota
from orchestrator.settings import RedisSettings
from orchestrator.store import rates
from orchestrator.store.api_keys import SCOPES, ApiKeyStore
from orchestrator.store.connection import client, parse
from orchestrator.store.scripts import KeySpace

NAMES: Final = frozenset({"keys", "quota"})
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_NAME: Final = 200
_Command = Callable[[ApiKeyStore, argparse.Namespace], Awaitable[int]]


def run(arguments: Sequence[str], settings: RedisSettings) -> int:
    """Do what the arguments say; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_run(options.command, options, settings.redis_url))
    except ValueError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    except PortError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return 1


async def _run(command: _Command, options: argparse.Namespace, url: str) -> int:
    async with _keys(url) as keys:
        return await command(keys, options)


@contextlib.asynccontextmanager
async def _keys(url: str) -> AsyncGenerator[ApiKeyStore]:
    redis = client(parse(url), connections=1)
    try:
        yield ApiKeyStore(redis, KeySpace())
    finally:
        await redis.aclose()


# --- the commands ------------------------------------------------------------------------------------------------------


async def _create(keys: ApiKeyStore, options: argparse.Namespace) -> int:
    expires_at = None if options.expires_in is None else time.time() + options.expires_in
    scopes = options.scope or ["edit", "read"]
    secret, key = await keys.create(options.tenant, scopes, name=options.name, expires_at=expires_at)
    # The secret alone on standard output, so that it can be piped to where it belongs.
    sys.stderr.write(f"{key.id} of {key.tenant}, {' '.join(sorted(key.scopes))}; it is shown this once:\n")
    sys.stdout.write(f"{secret}\n")
    return 0


async def _list(keys: ApiKeyStore, _: argparse.Namespace) -> int:
    _table(("id", "tenant", "scopes", "created", "expires", "name"), [_row(key) for key in await keys.all()])
    return 0


async def _revoke(keys: ApiKeyStore, options: argparse.Namespace) -> int:
    if not await keys.revoke(options.id):
        raise ValueError(f"there is no key {options.id!r}; `keys list` shows them")
    sys.stderr.write(f"{options.id} is revoked; every replica refuses it within a second\n")
    return 0


async def _set_quota(keys: ApiKeyStore, options: argparse.Namespace) -> int:
    if options.rate is not None:
        rates.parse_rates(options.rate)
    await keys.set_quota(options.tenant, Quota(options.rate, options.unfinished, options.editor_seconds_per_day))
    return 0


async def _remove_quota(keys: ApiKeyStore, options: argparse.Namespace) -> int:
    if not await keys.remove_quota(options.tenant):
        raise ValueError(f"no quota is set for {options.tenant!r}; `quota list` shows them")
    return 0


async def _list_quotas(keys: ApiKeyStore, _: argparse.Namespace) -> int:
    rows = [
        (tenant, _or_none(quota.rate), _or_none(quota.unfinished), _or_none(quota.editor_s_per_day))
        for tenant, quota in sorted((await keys.quotas()).items())
    ]
    _table(("tenant", "rate", "unfinished", "editor s/day"), rows)
    return 0


# --- the command line ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrator", description="API keys and quotas, in EDITTHINKER_REDIS_URL.")
    groups = parser.add_subparsers(required=True, metavar="keys|quota")
    _key_commands(groups.add_parser("keys", help="API keys").add_subparsers(required=True, metavar="create|list|revoke"))
    _quota_commands(
        groups.add_parser("quota", help="what tenants may use").add_subparsers(required=True, metavar="set|remove|list")
    )
    return parser


def _key_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    create = commands.add_parser("create", help="make a key and show it, this once")
    create.add_argument("--tenant", required=True, help="whose it is; a tenant sees its own sessions only")
    create.add_argument("--scope", action="append", choices=sorted(SCOPES), help="repeat it for more (edit and read)")
    create.add_argument("--name", type=_name, default="", help="what it is for")
    create.add_argument("--expires-in", type=_seconds, metavar="90d", help="so many s, m, h or d (never)")
    create.set_defaults(command=_create)
    commands.add_parser("list", help="every key, without its secret").set_defaults(command=_list)
    revoke = commands.add_parser("revoke", help="make a key useless")
    revoke.add_argument("id", help="of the key, as `list` shows it")
    revoke.set_defaults(command=_revoke)


def _quota_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    described = "The whole quota of a tenant, in place of the server's own; what is left out is not bounded."
    chosen = commands.add_parser("set", help="what a tenant may use", description=described)
    chosen.add_argument("--tenant", required=True)
    chosen.add_argument("--rate", metavar="60/minute", help="requests for new sessions; several as 60/minute;1000/day")
    chosen.add_argument("--unfinished", type=_count, metavar="N", help="sessions that are not finished")
    chosen.add_argument("--editor-seconds-per-day", type=_amount, metavar="SECONDS", help="of all its edits in a day (UTC)")
    chosen.set_defaults(command=_set_quota)
    removed = commands.add_parser("remove", help="let the server's own quota hold for a tenant again")
    removed.add_argument("--tenant", required=True)
    removed.set_defaults(command=_remove_quota)
    commands.add_parser("list", help="tenants for which a quota was set").set_defaults(command=_list_quotas)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0 and s, m, h or d, as in 90d")
    return int(match[1]) * _UNITS[match[2]]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number, 0 or more")
    return int(text)


def _amount(text: str) -> float:
    # Redis and JSON know neither NaN nor infinity, and a bound that is none is left out.
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r}: write a number of seconds, 0 or more")
    return value


def _name(text: str) -> str:
    if not text.isprintable() or len(text) > _LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"{text!r}: write one line of text, {_LONGEST_NAME} characters at most")
    return text


def _row(key: ApiKey) -> tuple[str, ...]:
    ends = "never" if key.expires_at is None else _day(key.expires_at)
    if key.expires_at is not None and key.expires_at <= time.time():
        ends = "expired"
    return (key.id, key.tenant, " ".join(sorted(key.scopes)), _day(key.created_at), ends, key.name)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _or_none(value: object) -> str:
    return "-" if value is None else str(value)


def _shown(cell: str) -> str:
    """What a terminal would obey, and what this one cannot show, as escapes: older versions took any name."""
    plain = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in cell)
    encoding = sys.stdout.encoding or "utf-8"
    return plain.encode(encoding, "backslashreplace").decode(encoding)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [tuple(head), *(tuple(_shown(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")

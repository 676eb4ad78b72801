"""``editthinker export``: sessions that may be used for training, as the field's trainers read them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from editthinker.cli import target
from editthinker.cli.failures import UsageError, friendly, interruptible, say
from editthinker.cli.sessions import End
from editthinker.client import EditThinker
from editthinker.client.export import moment
from editthinker.client.transport import DEFAULT_SERVER
from editthinker.printable import one_line

_WHOLE: Final = 1e-6


class Form(StrEnum):
    """What reads the files."""

    TRL = "trl"
    VERL = "verl"
    SWIFT = "swift"
    OPENAI = "openai"
    PAIRS = "pairs"
    FOLDER = "folder"


def export(  # noqa: PLR0913 - one parameter for each option of the command
    *,
    form: Annotated[Form, typer.Option("--as", help="What reads the files.")],
    output: Annotated[Path, typer.Option("-o", "--output", file_okay=False, help="The folder; one that was begun is continued.")],
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only sessions created then or later.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only sessions created before.")] = None,
    status: Annotated[End | None, typer.Option(help="Only sessions that ended so.")] = None,
    gain: Annotated[
        float | None, typer.Option(metavar="POINTS", help="Only critiques whose next turn gained so much, of 10.")
    ] = None,
    agreement: Annotated[
        float | None, typer.Option(min=0, metavar="POINTS", help="Only pictures whose critiques differ by so much at most.")
    ] = None,
    splits: Annotated[str, typer.Option(metavar="NAME=SHARE,…", help="By source picture, as train=0.95,test=0.05.")] = "train=1",
    licence: Annotated[str, typer.Option(metavar="NAME", help="Of sessions without metadata[licence].")] = "",
    tenant: Annotated[str | None, typer.Option(help="Whose sessions, for a key with the scope admin.")] = None,
    with_ids: Annotated[bool, typer.Option("--with-ids", help="Tell session, tenant, user, metadata and time.")] = False,
    repeats: Annotated[bool, typer.Option("--repeats", help="Further critiques of the same picture, too.")] = False,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
) -> None:
    """Write sessions as training data, one row a critique. Only what its tenant and its request allow leaves the server.

    An export that was interrupted is continued by the same command. The folder's manifest.json says what is complete, and what
    was left out.
    """
    with friendly(), interruptible():
        try:
            from evaluation.trajectories import exporting, shards  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as exc:
            message = f"{exc.name} is not installed; install it with: pip install 'editthinker[eval]'"
            raise UsageError(message) from exc
        if gain is not None and not math.isfinite(gain):
            message = f"--gain {gain}: write a number of points, as in --gain 0.5"
            raise UsageError(message)
        filters = exporting.Filters(_time("--since", since), _time("--until", until), status and status.value, gain, agreement)
        options = exporting.ExportOptions(form.value, filters, _splits(splits), licence, with_ids, repeats)
        try:
            client = EditThinker(server or DEFAULT_SERVER, api_key or "", tenant=tenant)
        except ValueError as exc:
            raise UsageError(str(exc)) from exc
        with client:
            try:
                done = exporting.export(client, output, options, tenant=tenant, progress=_progress())
            except shards.ExportConflictError as exc:
                raise UsageError(str(exc)) from exc
        rows = ", ".join(f"{count} {name}" for name, count in sorted(done.rows.items())) or "no rows"
        left_out = ", ".join(f"{count} {one_line(why)}" for why, count in sorted(done.skipped.items()))
        say(f"{output}: {rows}" + (f"; left out: {left_out}" if left_out else ""))
        if not done.rows:
            say("nothing may be used for training: the operator allows it for a tenant with `editthinker training allow`")


def _progress() -> Callable[[int], None]:
    if not sys.stderr.isatty():
        return lambda _: None
    shown = 0

    def show(rows: int) -> None:
        nonlocal shown
        if rows >= shown + 100:
            shown = rows
            sys.stderr.write(f"\r{rows} rows")

    return show


def _splits(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in text.split(","):
        name, equals, share = each.strip().partition("=")
        try:
            found[name] = float(share)
        except ValueError:
            equals = ""
        if not equals or not name.isidentifier() or not 0 < found[name] <= 1:
            message = f"--splits {each!r}: write NAME=SHARE with a share above 0, as in train=0.95,test=0.05"
            raise UsageError(message)
    if abs(sum(found.values()) - 1) > _WHOLE:
        message = f"--splits: the shares add up to {sum(found.values()):g}; they have to add up to 1"
        raise UsageError(message)
    return found


def _time(option: str, given: str | None) -> float | None:
    try:
        return None if given is None else moment(given)
    except ValueError as exc:
        message = f"{option}: {exc}"
        raise UsageError(message) from None

"""``editthinker sessions ls | show | watch | cancel``: look after the sessions of a server."""

from __future__ import annotations

import json as json_module
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from editthinker.cli import target
from editthinker.cli.failures import FAILED, friendly, interruptible
from editthinker.cli.progress import Progress, follow, mark, summary
from editthinker.client import Candidate, Event, Session

app = typer.Typer(name="sessions", help="Look after the sessions of a server.", no_args_is_help=True)

_Id = Annotated[str, typer.Argument(metavar="ID", help="The session's id.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    status: Annotated[str | None, typer.Option(help="Only those in this status.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
    json: _Json = False,
) -> None:
    """List sessions, newest first."""
    with friendly(), target.connect(server, api_key) as client:
        page = client.sessions.list(limit, cursor, status=status)
        if json:
            _print_json(page.model_dump_json(indent=2, exclude_unset=True))
            return
        table = Table(show_edge=False, pad_edge=False, header_style="bold")
        for name in ("id", "status", "started", "turns", "overall"):
            table.add_column(name, no_wrap=True)
        table.add_column("instruction", overflow="ellipsis", no_wrap=True)
        for session in page.data:
            table.add_row(*_row(session))
        Console().print(table)
        if page.next_cursor:
            Console(stderr=True).print(f"more: --cursor {page.next_cursor}", style="dim", markup=False, soft_wrap=True)


@app.command("show")
def show(session_id: _Id, *, server: target.ServerOption = None, api_key: target.KeyOption = None, json: _Json = False) -> None:
    """Show a session as it stands."""
    with friendly(), target.connect(server, api_key) as client:
        session = client.sessions.get(session_id)
        if json:
            _print_json(session.model_dump_json(indent=2, exclude_unset=True))
            return
        _print_session(session)


@app.command("watch")
def watch(session_id: _Id, *, server: target.ServerOption = None, api_key: target.KeyOption = None, json: _Json = False) -> None:
    """Follow a session until it has ended. With --json each event is printed on a line of its own.

    Ctrl-C stops the watching, not the session. Exit code 1 when the session ended without a picture.
    """
    with friendly(), interruptible(), target.connect(server, api_key) as client:
        events = client.sessions.events(session_id)
        if json:
            for event in events:
                _print_json(json_module.dumps(event.data, ensure_ascii=False))
        else:
            follow(events, Progress(), Console(stderr=True))
        session = client.sessions.get(session_id)
        if not json:
            sys.stdout.write(summary(session) + "\n")
    if session.best is None:
        raise typer.Exit(FAILED)


@app.command("cancel")
def cancel(session_id: _Id, *, server: target.ServerOption = None, api_key: target.KeyOption = None, json: _Json = False) -> None:
    """Cancel a session. What it made so far stays."""
    with friendly(), target.connect(server, api_key) as client:
        session = client.sessions.cancel(session_id)
        if json:
            _print_json(session.model_dump_json(indent=2, exclude_unset=True))
        else:
            sys.stdout.write(f"{session.id}: {session.status}\n")


def _row(session: Session) -> list[str]:
    started = "" if session.created_at is None else _moment(session.created_at)
    overall = mark(session.scores.overall if session.scores else None)
    turns = str(session.totals.turns or len(session.turns))
    return [escape(session.id), escape(session.status), started, turns, overall, escape(session.instruction)]


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _print_session(session: Session) -> None:
    console = Console()
    console.print(f"{session.id}  {session.status}", style="bold", markup=False, highlight=False)
    console.print(session.instruction, markup=False, highlight=False)
    progress = Progress()
    for event in _as_events(session):
        progress.apply(event)
    progress.best = session.best
    if progress.rows:
        console.print(progress.table())
    if session.error is not None:
        console.print(f"{session.error.message} ({session.error.code})", style="red", markup=False, highlight=False)
    console.print(summary(session), markup=False, highlight=False)


def _as_events(session: Session) -> list[Event]:
    """The events that a session's rows come from, so that the same table shows a session at rest."""
    events = []
    for turn in session.turns:
        events.append(Event(type="turn_started", turn=turn.turn, instruction=turn.instruction))
        for candidate in turn.candidates:
            event = {"turn": turn.turn, "candidate": candidate.candidate}
            events.append(Event.model_validate(event | _state(candidate)))
    return events


def _state(candidate: Candidate) -> dict[str, object]:
    if candidate.scores is not None:
        marks = {"semantic": candidate.scores.semantic, "quality": candidate.scores.quality}
        return {"type": "critiqued", **marks, "reasoning": candidate.reasoning}
    if candidate.error is not None:
        kind = "edit_failed" if candidate.status == "failed" else "critique_failed"
        return {"type": kind, "message": candidate.error.message}
    return {"type": "edited" if candidate.image else "edit_started"}


def _print_json(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

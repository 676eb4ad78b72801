"""``editthinker sessions ls | show | watch | cancel | feedback | rm | export``: look after the sessions of a server."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console

from editthinker.cli import target
from editthinker.cli.failures import FAILED, UsageError, describe, friendly, interruptible, say
from editthinker.cli.listing import listing
from editthinker.cli.progress import Progress, follow, summary
from editthinker.client import APIStatusError, AuthenticationError, Candidate, Event, PermissionDeniedError, Session, calls
from editthinker.client.export import Lines, moment
from editthinker.printable import json_line, json_text, one_line

app = typer.Typer(name="sessions", help="Look after the sessions of a server.", no_args_is_help=True)


class Action(StrEnum):
    """A person's answer to a review."""

    ACCEPT = "accept"
    PICK = "pick"
    INSTRUCT = "instruct"
    GO_ON = "go_on"


class End(StrEnum):
    """How a finished session ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_Id = Annotated[str, typer.Argument(metavar="ID", help="The session's id.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    status: Annotated[str | None, typer.Option(help="Only sessions with this status.")] = None,
    metadata: target.MetadataOption = None,
    cursor: Annotated[str | None, typer.Option(help="Continue after the last page.")] = None,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
    json: _Json = False,
) -> None:
    """List sessions, newest first. On a terminal the instruction is truncated."""
    with friendly(), target.connect(server, api_key) as client:
        page = client.sessions.list(limit, cursor, status=status, metadata=target.pairs(metadata))
        if json:
            _print_json(page.model_dump_json(indent=2, exclude_unset=True))
            return
        console = Console()
        for line in listing(page.data, console.width if console.is_terminal else None):
            console.print(line, soft_wrap=True)
        if page.next_cursor:
            Console(stderr=True).print(f"more: --cursor {one_line(page.next_cursor)}", style="dim", markup=False, soft_wrap=True)


@app.command("show")
def show(session_id: _Id, *, server: target.ServerOption = None, api_key: target.KeyOption = None, json: _Json = False) -> None:
    """Show the current state of a session."""
    with friendly(), target.connect(server, api_key) as client:
        session = client.sessions.get(_given(session_id))
        if json:
            _print_json(session.model_dump_json(indent=2, exclude_unset=True))
            return
        _print_session(session)


@app.command("watch")
def watch(session_id: _Id, *, server: target.ServerOption = None, api_key: target.KeyOption = None, json: _Json = False) -> None:
    """Follow a session until it has ended. With --json each event is a JSON line.

    Ctrl-C stops the watching, not the session. Exit status 1 when the session ended without a picture.
    """
    with friendly(), interruptible(), target.connect(server, api_key) as client:
        events = client.sessions.events(_given(session_id))
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
    """Cancel a session. Its images so far stay available."""
    with friendly(), target.connect(server, api_key) as client:
        _print_status(client.sessions.cancel(_given(session_id)), json=json)


@app.command("feedback")
def feedback(  # noqa: PLR0913 - one parameter for each option of the command
    session_id: _Id,
    action: Annotated[Action, typer.Argument(help="What you say about the pictures so far.")],
    *,
    turn: Annotated[int | None, typer.Option(min=1, help="The turn to pick.")] = None,
    candidate: Annotated[int | None, typer.Option(min=1, help="The candidate of that turn.")] = None,
    instruction: Annotated[str | None, typer.Option(metavar="TEXT", help="The instruction of the next turn.")] = None,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
    json: _Json = False,
) -> None:
    """Answer a review: accept the best picture, pick another, instruct the next turn, or go_on without a word."""
    with friendly(), target.connect(server, api_key) as client:
        session = client.sessions.feedback(
            _given(session_id), action=action.value, turn=turn, candidate=candidate, instruction=instruction
        )
        _print_status(session, json=json)


@app.command("rm")
def rm(
    session_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The ids of finished sessions.")],
    *,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
) -> None:
    """Delete finished sessions with their images. Exit status 1 when one of them could not be deleted."""
    failed = False
    with friendly(), target.connect(server, api_key) as client:
        for session_id in session_ids:
            try:
                client.sessions.delete(_given(session_id))
            except (AuthenticationError, PermissionDeniedError):
                raise
            except APIStatusError as exc:
                say(f"editthinker: {one_line(session_id)}: {describe(exc)}")
                failed = True
            else:
                sys.stdout.write(f"{one_line(session_id)}: deleted\n")
    if failed:
        raise typer.Exit(FAILED)


@app.command("export")
def export(
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file, instead of standard output.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only sessions created then or later.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only sessions created before.")] = None,
    status: Annotated[End | None, typer.Option(help="Only sessions that ended so.")] = None,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
) -> None:
    """Write finished sessions with all their events as JSON lines, oldest first.

    TIME is Unix seconds, or an ISO date or time: 2026-11-24, 2026-11-24T10:00Z; without an offset it is local time.
    A file is written completely or not at all. Exit status 1 when the export breaks off.
    """
    with friendly(), interruptible(), target.connect(server, api_key) as client:
        call = calls.export(_time("--since", since), _time("--until", until), status and status.value)
        count = 0
        # A file or a pipe gets the bytes that the server sent.
        shown = output is None and _is_terminal()
        with _destination(output) as file:
            for line in client.stream(call, lambda: Lines(bytes)):
                file.write((json_line(line) if shown else line) + b"\n")
                count += 1
            file.flush()
        if output is not None:
            say(f"{count} session{'' if count == 1 else 's'}: {output}")


@contextmanager
def _destination(output: Path | None) -> Iterator[BinaryIO]:
    """The binary file for an export, which is UTF-8 in any terminal."""
    if output is None:
        yield sys.stdout.buffer
        return
    target.writable(output)
    with target.atomic(output) as file:
        yield file


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _time(option: str, given: str | None) -> float | None:
    try:
        return None if given is None else moment(given)
    except ValueError as exc:
        message = f"{option}: {exc}"
        raise UsageError(message) from None


def _given(session_id: str) -> str:
    if not session_id:
        message = "the session's id is empty; is the shell variable set?"
        raise UsageError(message)
    return session_id


def _print_session(session: Session) -> None:
    console = Console()
    console.print(f"{one_line(session.id)}  {one_line(session.status)}", style="bold", markup=False, highlight=False)
    console.print(one_line(session.instruction), markup=False, highlight=False)
    progress = Progress()
    for event in _as_events(session):
        progress.apply(event)
    progress.best = session.best
    if progress.rows:
        console.print(progress.table())
    if session.error is not None:
        console.print(one_line(f"{session.error.message} ({session.error.code})"), style="red", markup=False, highlight=False)
    console.print(summary(session), markup=False, highlight=False)


def _as_events(session: Session) -> list[Event]:
    """The events that a session's rows come from, so that the same table shows a session that does not run."""
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


def _print_status(session: Session, *, json: bool) -> None:
    if json:
        _print_json(session.model_dump_json(indent=2, exclude_unset=True))
    else:
        sys.stdout.write(f"{one_line(session.id)}: {one_line(session.status)}\n")


def _print_json(text: str) -> None:
    sys.stdout.write(json_text(text) + "\n")
    sys.stdout.flush()

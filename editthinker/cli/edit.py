"""``editthinker edit``: one picture, one wish, one result."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, cast

import typer
from rich.console import Console

from editthinker.cli import target
from editthinker.cli.failures import FAILED, UsageError, friendly, interruptible, say
from editthinker.cli.progress import Progress, follow, summary
from editthinker.client import (
    EditThinker,
    EditThinkerError,
    ImageFormat,
    Session,
    SessionFailedError,
    SessionOptions,
)
from editthinker.client.calls import sniff
from editthinker.report import collect, render

_FORMATS: Final[dict[str, ImageFormat]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


class Strategy(StrEnum):
    """How the edits of a session are chosen."""

    THINK = "think"
    BEST_OF_N = "best_of_n"
    THINK_BEST_OF_N = "think_best_of_n"
    SINGLE = "single"


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for on the command line, and where the answers go."""

    photo: Path
    wish: str
    options: SessionOptions
    output: Path
    report: Path | None
    turns: Path | None
    json: bool
    quiet: bool


def edit(  # noqa: PLR0913 - one parameter for each option of the command
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The picture to edit: PNG, JPEG or WebP.")],
    wish: Annotated[str, typer.Argument(metavar="WISH", help="What it should become, in words.")],
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Result: .png, .jpg or .webp.")] = None,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
    strategy: Annotated[Strategy | None, typer.Option(help="How edits are chosen.")] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Most turns.")] = None,
    candidates: Annotated[int | None, typer.Option(min=1, help="Edits in each turn.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the edits repeatable.")] = None,
    editor: Annotated[str | None, typer.Option(help="Name of the editor.")] = None,
    thinker: Annotated[str | None, typer.Option(help="Name of the thinker.")] = None,
    deadline: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Stop after this long.")] = None,
    semantic_threshold: Annotated[float | None, typer.Option(min=0, max=10, help="Enough, of 10.")] = None,
    quality_threshold: Annotated[float | None, typer.Option(min=0, max=10, help="Enough, of 10.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write one self-contained HTML page.")] = None,
    save_turns: Annotated[Path | None, typer.Option(metavar="DIR", help="Write every turn's pictures here.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the finished session as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Edit a picture until it is what was asked for.

    Without --server it starts the embedded stack for as long as it takes.
    """
    given = {
        "strategy": strategy.value if strategy else None,
        "max_turns": max_turns,
        "candidates": candidates,
        "seed": seed,
        "editor": editor,
        "thinker": thinker,
        "deadline_s": deadline,
        "semantic_threshold": semantic_threshold,
        "quality_threshold": quality_threshold,
    }
    options = cast("SessionOptions", {name: value for name, value in given.items() if value is not None})
    output = output or photo.absolute().with_name(f"{photo.stem}-edited.png")
    carry_out(Job(photo, wish, options, output, report, save_turns, json, quiet), server, api_key)


def carry_out(job: Job, server: str | None, api_key: str | None) -> None:
    """Do the job on a server, or on an embedded stack started for it."""
    with friendly(), interruptible():
        image = read_picture(job.photo)
        image_format = output_format(job.output)
        places_to_write(job)
        with target.server_or_stack(server, api_key, quiet=job.quiet) as client:
            session = run(client, image, job)
            if job.json:
                sys.stdout.write(session.model_dump_json(indent=2, exclude_unset=True) + "\n")
                sys.stdout.flush()
            written = save(client, session, job, image_format)
        if not job.json and not job.quiet:
            sys.stdout.write("\n".join([summary(session), *written]) + "\n")
    if session.best is None:
        say(f"editthinker: {SessionFailedError(session)}")
        raise typer.Exit(FAILED)


def places_to_write(job: Job) -> None:
    """See that everything asked for can be written.

    Raises:
        UsageError: naming what is in the way.
    """
    if not job.wish.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in job.wish):
        message = "the wish is not valid text in this terminal's encoding"
        raise UsageError(message)
    for path in (job.output, job.report):
        if path is not None:
            target.writable(path)
    if job.report is not None and job.report.resolve() == job.output.resolve():
        message = f"{job.report}: the report and the result need names of their own"
        raise UsageError(message)
    if job.turns is not None:
        target.folder_for(job.turns)


def read_picture(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        UsageError: when there is no such file, or it is no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        message = f"{path}: {exc.strerror}"
        raise UsageError(message) from exc
    if sniff(data) is None:
        message = f"{path} is not an image; give a PNG, JPEG or WebP file"
        raise UsageError(message)
    return data


def output_format(path: Path) -> ImageFormat:
    """The format that a file name asks for.

    Raises:
        UsageError: when it asks for none that is offered.
    """
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        message = f"{path}: name the result with .png, .jpg or .webp"
        raise UsageError(message) from None


def run(client: EditThinker, image: bytes, job: Job) -> Session:
    """Create a session and show it until it has ended. Interrupted, it cancels the session."""
    session = client.sessions.create(image, job.wish, **job.options)
    console = Console(stderr=True, quiet=job.quiet)
    try:
        follow(client.sessions.events(session.id), Progress(), console)
    except KeyboardInterrupt:
        with suppress(EditThinkerError):
            client.sessions.cancel(session.id)
        raise
    return client.sessions.get(session.id)


def save(client: EditThinker, session: Session, job: Job, image_format: ImageFormat) -> list[str]:
    """Write what was asked for, as far as there is such; a line about each."""
    written = []
    if session.best is not None:
        target.write_whole(job.output, client.sessions.image(session.id, format=image_format))
        written.append(f"result: {job.output}")
    if job.turns is not None:
        save_turns(client, session, job.turns)
        written.append(f"turns:  {job.turns}")
    if job.report is not None:
        target.write_whole(job.report, render(session, collect(client, session)).encode())
        written.append(f"report: {job.report}")
    return written


def save_turns(client: EditThinker, session: Session, folder: Path) -> None:
    """Write the picture of every turn and candidate, and the session as JSON, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for turn in session.turns:
        several = len(turn.candidates) > 1
        for candidate in turn.candidates:
            if candidate.image is None:
                continue
            name = f"turn-{turn.turn}-candidate-{candidate.candidate}" if several else f"turn-{turn.turn}"
            data = client.sessions.image(session.id, turn.turn, candidate.candidate, format="png")
            target.write_whole(folder / f"{name}.png", data)
    target.write_whole(folder / "session.json", session.model_dump_json(indent=2, exclude_unset=True).encode())

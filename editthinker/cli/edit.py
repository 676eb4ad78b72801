"""``editthinker edit``: one picture and one instruction in, one picture out. Several pictures are a `batch`."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, cast

import typer
from rich.console import Console

from editthinker.cli import batch, target
from editthinker.cli.failures import FAILED, UNCHANGED, UsageError, friendly, interruptible, say
from editthinker.cli.progress import Progress, follow, summary
from editthinker.cli.prompts import items
from editthinker.client import (
    EditThinker,
    EditThinkerError,
    ImageFormat,
    Session,
    SessionFailedError,
    SessionOptions,
)
from editthinker.client.pictures import sniff
from editthinker.printable import json_text, one_line
from editthinker.report import collect, render

STREAM: Final = Path("-")
"""Standard input or output, in place of a file."""
_FORMATS: Final[dict[str, ImageFormat]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


class Strategy(StrEnum):
    """The strategies of a session."""

    THINK = "think"
    ADAPTIVE = "adaptive"
    BEST_OF_N = "best_of_n"
    THINK_BEST_OF_N = "think_best_of_n"
    SINGLE = "single"


@dataclass(frozen=True, slots=True)
class Job:
    """The arguments of the command."""

    photo: Path
    references: tuple[Path, ...]
    mask: Path | None
    instruction: str
    options: SessionOptions
    output: Path
    report: Path | None
    turns: Path | None
    json: bool
    quiet: bool


def edit(  # noqa: PLR0913 - one parameter for each option of the command
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PHOTO... INSTRUCTION",
            help="The pictures to edit, PNG, JPEG or WebP (- reads one from stdin), and what to change, in words.",
        ),
    ] = None,
    *,
    reference: Annotated[
        list[Path] | None, typer.Option(metavar="PHOTO", help="A further picture that the instruction refers to; repeatable.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Where it is transparent, the picture may change; of the same size.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Result: .png, .jpg or .webp, as PHOTO if absent; - is stdout. Of several photos a folder.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Instructions by photo, in place of INSTRUCTION: photo,instruction.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Photos edited at a time, of several.")] = 4,
    server: target.ServerOption = None,
    api_key: target.KeyOption = None,
    strategy: Annotated[Strategy | None, typer.Option(help="How a session chooses its edits.")] = None,
    prepare: Annotated[
        bool | None, typer.Option("--prepare/--no-prepare", help="Rewrite the instruction for the editor first, or do not.")
    ] = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Most turns.")] = None,
    candidates: Annotated[int | None, typer.Option(min=1, help="Edits in each turn.")] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Try with drafts, and edit the best in full.")] = False,
    reject_early: Annotated[bool, typer.Option("--reject-early", help="Stop edits that look hopeless halfway.")] = False,
    seed: Annotated[int | None, typer.Option(help="Makes the edits repeatable.")] = None,
    editor: Annotated[str | None, typer.Option(help="Name of the editor.")] = None,
    thinker: Annotated[str | None, typer.Option(help="Name of the thinker.")] = None,
    judge: Annotated[str | None, typer.Option(help="Name of the judge; the thinker, if absent.")] = None,
    deadline: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Stop after this long.")] = None,
    semantic_threshold: Annotated[float | None, typer.Option(min=0, max=10, help="Score of 10 that is enough.")] = None,
    quality_threshold: Annotated[float | None, typer.Option(min=0, max=10, help="Score of 10 that is enough.")] = None,
    metadata: target.MetadataOption = None,
    report: Annotated[Path | None, typer.Option(help="Write one self-contained HTML page.")] = None,
    save_turns: Annotated[Path | None, typer.Option(metavar="DIR", help="Write every turn's pictures here.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the finished session as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Edit a picture until it matches the instruction.

    Without --server it starts the embedded stack for the time of the edit. A picture from stdin goes to stdout unless -o
    names a file.

    Several photos are a batch: `editthinker edit *.jpg "golden hour" -o folder/`, or `--prompts file.csv`. A batch that was
    stopped goes on where it was when the same command runs again. Exit status 1 when a photo failed, 3 when nothing was
    changed; no picture is written then.
    """
    given = {
        "strategy": strategy.value if strategy else None,
        "prepare": prepare,
        "max_turns": max_turns,
        "candidates": candidates,
        "draft": draft or None,
        "reject_early": reject_early or None,
        "seed": seed,
        "editor": editor,
        "thinker": thinker,
        "judge": judge,
        "deadline_s": deadline,
        "semantic_threshold": semantic_threshold,
        "quality_threshold": quality_threshold,
    }
    options = cast("SessionOptions", {name: value for name, value in given.items() if value is not None})
    with friendly(), interruptible():
        photos, instruction = split_words(words or [], prompts)
        if pairs := target.pairs(metadata):
            options["metadata"] = pairs
        if instruction is not None and len(photos) == 1 and (output is None or output == STREAM or not output.is_dir()):
            (photo,) = photos
            if output is None:
                suffix = photo.suffix if photo.suffix.lower() in _FORMATS else ".png"
                output = STREAM if photo == STREAM else photo.absolute().with_name(f"{photo.stem}-edited{suffix}")
            job = Job(photo, tuple(reference or ()), mask, instruction, options, output, report, save_turns, json, quiet)
            status = carry_out(job, server, api_key)
        else:
            of_one = {"--report": report, "--save-turns": save_turns, "--reference": reference, "--mask": mask}
            folder = folder_of_batch(output, photos, [name for name, value in of_one.items() if value])
            many = batch.Batch(items(photos, instruction, prompts), folder, options, jobs, json, quiet)
            status = batch.carry_out(many, server, api_key)
    if status:
        raise typer.Exit(status)


def split_words(words: list[str], prompts: Path | None) -> tuple[list[Path], str | None]:
    """The photos and the instruction of a command line; None where a file has the instructions.

    Raises:
        UsageError: when one of them is missing.
    """
    if prompts is not None:
        return [Path(word) for word in words], None
    if len(words) < 2:  # noqa: PLR2004 - a photo and an instruction
        missing = "an instruction, in words, after the photo" if words else "a photo and an instruction"
        message = f"give {missing}; or --prompts with a file that has them"
        raise UsageError(message)
    *photos, instruction = words
    if Path(instruction).is_file() and not any(Path(word).exists() for word in photos) and STREAM not in map(Path, photos):
        message = f"{instruction} is a file, and the instruction comes last: editthinker edit {instruction} {photos[0]!r}"
        raise UsageError(message)
    if len(photos) > 1 and Path(instruction).is_file():
        message = f"{instruction} is a file, and the instruction comes last; give one, or --prompts with a file that has them"
        raise UsageError(message)
    return [Path(photo) for photo in photos], instruction


def folder_of_batch(output: Path | None, photos: list[Path], of_one: list[str]) -> Path:
    """The folder for the results of several photos.

    Args:
        of_one: the options given that are for one photo.

    Raises:
        UsageError: when an option is missing, or is for one photo.
    """
    if output is None or output == STREAM or output.is_file() or (output.suffix.lower() in _FORMATS and not output.is_dir()):
        message = "the results of several photos need a folder: -o folder/"
        raise UsageError(message)
    if STREAM in photos:
        message = "standard input is one photo, and cannot be among several; name files"
        raise UsageError(message)
    if of_one:
        message = f"{of_one[0]} is for one photo; leave it out"
        raise UsageError(message)
    return output


def carry_out(job: Job, server: str | None, api_key: str | None) -> int:
    """Run the job on a server, or on an embedded stack started for it; the exit status."""
    inputs = read_inputs(job)
    image_format = output_format(job.output, inputs.images[0])
    check_outputs(job)
    with target.address(server, api_key, quiet=job.quiet) as at, target.connect(at.url, at.key) as client:
        session = run(client, inputs, job, at if at.stays else None)
        if job.json:
            sys.stdout.write(json_text(session.model_dump_json(indent=2, exclude_unset=True)) + "\n")
            sys.stdout.flush()
        written = save(client, session, job, image_format)
    if not job.json and not job.quiet:
        out = sys.stderr if job.output == STREAM else sys.stdout
        out.write("\n".join([summary(session), *written]) + "\n")
    if session.best is None:
        say(f"editthinker: {one_line(str(SessionFailedError(session)))}")
        return FAILED
    return UNCHANGED if session.unchanged else 0


def check_outputs(job: Job) -> None:
    """Check that every output can be written, before the edit is paid for.

    Raises:
        UsageError: naming what is in the way.
    """
    if not job.instruction.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in job.instruction):
        message = "the instruction is not valid text in this terminal's encoding"
        raise UsageError(message)
    if job.output == STREAM and job.json:
        message = "the picture and the JSON cannot both go to standard output; name a file with -o"
        raise UsageError(message)
    if job.output == STREAM and sys.stdout.isatty():
        message = "the picture is not written to a terminal; name a file with -o, or redirect standard output"
        raise UsageError(message)
    for path in (job.output, job.report):
        if path is not None and path != STREAM:
            target.writable(path)
    if job.report == STREAM:
        message = "the report needs a file name"
        raise UsageError(message)
    if job.report is not None and job.output != STREAM and job.report.resolve() == job.output.resolve():
        message = f"{job.report}: the report and the result need different names"
        raise UsageError(message)
    if job.turns is not None:
        target.folder_for(job.turns)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The encoded pictures that are sent: the source with its references, and the mask."""

    images: list[bytes]
    mask: bytes | None


def read_inputs(job: Job) -> Inputs:
    """The pictures that the arguments name.

    Raises:
        UsageError: when one cannot be read, is not a picture, or two are standard input.
    """
    paths = [job.photo, *job.references, *([job.mask] if job.mask else [])]
    if paths.count(STREAM) > 1:
        message = "only one picture can come from standard input; name files for the others"
        raise UsageError(message)
    mask = read_picture(job.mask) if job.mask else None
    return Inputs([read_picture(path) for path in (job.photo, *job.references)], mask)


def read_picture(path: Path) -> bytes:
    """The bytes of a picture file, or of standard input.

    Raises:
        UsageError: when the file cannot be read, or is not a picture.
    """
    try:
        data = sys.stdin.buffer.read() if path == STREAM else path.read_bytes()
    except OSError as exc:
        message = f"{path}: {exc.strerror}"
        raise UsageError(message) from exc
    if sniff(data) is None:
        what = "standard input" if path == STREAM else path
        message = f"{what} is not an image; give a PNG, JPEG or WebP file"
        raise UsageError(message)
    return data


def output_format(path: Path, image: bytes) -> ImageFormat:
    """The image format of an output, by its suffix; that of the source for standard output.

    Raises:
        UsageError: when no format has that suffix.
    """
    if path == STREAM:
        return _FORMATS[f".{(sniff(image) or 'image/png').removeprefix('image/')}"]
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        message = f"{path}: name the result with .png, .jpg or .webp"
        raise UsageError(message) from None


def run(client: EditThinker, inputs: Inputs, job: Job, at: target.Address | None) -> Session:
    """Create a session and show its progress until it has ended. An interrupt cancels the session.

    Args:
        at: the server, if it stays: the session can then be watched in its studio, now and later.
    """
    options: SessionOptions = {**job.options, "mask": inputs.mask}
    session = client.sessions.create(inputs.images, job.instruction, **options)
    if at and not job.quiet:
        say(f"studio: {target.studio(at.url, f'/sessions/{session.id}')}")
    console = Console(stderr=True, quiet=job.quiet)
    try:
        follow(client.sessions.events(session.id), Progress(), console)
    except KeyboardInterrupt:
        with suppress(EditThinkerError):
            client.sessions.cancel(session.id)
        raise
    return client.sessions.get(session.id)


def save(client: EditThinker, session: Session, job: Job, image_format: ImageFormat) -> list[str]:
    """Write the result, the turns and the report, as requested and available; a line about each file."""
    written = []
    if session.best is not None and not session.unchanged:
        picture = client.sessions.image(session.id, format=image_format)
        if job.output == STREAM:
            sys.stdout.buffer.write(picture)
            sys.stdout.buffer.flush()
        else:
            target.write_atomically(job.output, picture)
            written.append(f"result: {job.output}")
    if job.turns is not None:
        save_turns(client, session, job.turns)
        written.append(f"turns:  {job.turns}")
    if job.report is not None:
        target.write_atomically(job.report, render(session, collect(client, session)).encode())
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
            target.write_atomically(folder / f"{name}.png", data)
    target.write_atomically(folder / "session.json", session.model_dump_json(indent=2, exclude_unset=True).encode())

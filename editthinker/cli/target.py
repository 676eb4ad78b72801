"""The server that a command uses, named or embedded, and the files that it writes."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from editthinker.cli.failures import UsageError, say
from editthinker.client import EditThinker
from editthinker.client.calls import normal_base
from editthinker.client.transport import DEFAULT_SERVER, KEY_VARIABLE, SERVER_VARIABLES
from editthinker.local import DataDirBusyError, Stack

ServerOption = Annotated[
    str | None, typer.Option("--server", envvar=list(SERVER_VARIABLES), metavar="URL", help="The server to use.")
]
KeyOption = Annotated[str | None, typer.Option("--api-key", envvar=KEY_VARIABLE, metavar="KEY", help="Its API key.")]
MetadataOption = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="A pair of your own; repeat it for more.")
]


def pairs(given: list[str] | None) -> dict[str, str]:
    """The pairs of ``--metadata``.

    Raises:
        UsageError: for one without ``=``.
    """
    found = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            message = f"--metadata {text!r}: write KEY=VALUE, as in --metadata order=17"
            raise UsageError(message)
        found[key] = value
    return found


def studio(url: str, path: str = "") -> str:
    """The address of the studio of a server, or of one of its screens; a password in the URL is not shown."""
    return f"{re.sub('//[^/@]*@', '//', normal_base(url))}/studio{path}"


def connect(server: str | None, api_key: str | None) -> EditThinker:
    """A client of the named server, by default the one that `up` starts.

    Raises:
        UsageError: for an invalid URL or key.
    """
    try:
        return EditThinker(server or DEFAULT_SERVER, api_key or "")
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


@dataclass(frozen=True, slots=True)
class Address:
    """Where a command finds its server.

    Attributes:
        stays: whether the server is there after the command, so that its links can be opened.
    """

    url: str
    key: str
    stays: bool


@contextmanager
def address(server: str | None, api_key: str | None, *, quiet: bool) -> Iterator[Address]:
    """The named server, or the stack of `up`, or else an embedded stack that runs during the block.

    A stack that another command started for itself ends with that command: in its place one on a temporary directory is used.
    """
    key = api_key or ""
    if server:
        yield Address(server, key, stays=True)
        return
    note = _silent if quiet else say
    note("starting the embedded stack …")
    with ExitStack() as exits:
        stack = Stack(note=note)
        try:
            exits.enter_context(stack)
        except DataDirBusyError as exc:
            if exc.url:
                note(f"using the stack that runs at {exc.url}")
                yield Address(exc.url, key, stays=True)
                return
            note(f"{stack.data_dir} is in use by another stack; this session will not be stored")
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="editthinker-")))
            stack = exits.enter_context(Stack(folder, note=note))
        yield Address(stack.base_url, "", stays=False)


def _silent(_: str) -> None:
    pass


def writable(path: Path) -> None:
    """Check that a file can be written, before the edit is paid for.

    Raises:
        UsageError: naming what is in the way.
    """
    # The target of a link is written, through a temporary file in its folder.
    real = Path(os.path.realpath(path))
    folder = real.parent
    if real.is_symlink():
        message = f"{path} is a link whose target does not exist"
        raise UsageError(message)
    if not folder.is_dir():
        message = f"{path}: the folder {folder} does not exist"
        raise UsageError(message)
    if path.is_dir():
        message = f"{path} is a folder; name a file"
        raise UsageError(message)
    if path.exists() and not path.is_file():
        message = f"{path} is not a regular file; name one"
        raise UsageError(message)
    if path.exists() and not os.access(path, os.W_OK):
        message = f"{path} cannot be written"
        raise UsageError(message)
    _check_folder(folder, path)


def folder_for(path: Path) -> None:
    """Create a folder and check that it can be written, before the edit is paid for.

    Raises:
        UsageError: naming what is in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        message = f"{path}: the folder cannot be created ({exc.strerror})"
        raise UsageError(message) from exc
    _check_folder(path, path)


def _check_folder(folder: Path, path: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        message = f"{path} cannot be written: no file can be created in the folder {folder}"
        raise UsageError(message)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic(path) as file:
        file.write(data)


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A temporary file that replaces the named one when the block ends, and is removed when the block fails.

    Raises:
        OSError: with the name of the requested file.
    """
    # Write the target of a link, not the link.
    real = Path(os.path.realpath(path))
    # A short name of its own: appending to the file's name may exceed the longest legal one.
    draft = real.with_name(f".{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(real)
    except OSError as exc:
        if exc.filename not in {None, str(draft)}:
            raise
        raise OSError(exc.errno, exc.strerror, str(path)) from exc
    finally:
        draft.unlink(missing_ok=True)

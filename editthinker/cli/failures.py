"""Errors of the command line: one line on standard error, and an exit status."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from editthinker.client import APIConnectionError, APIStatusError, AuthenticationError, EditThinkerError
from editthinker.local import ServiceFailedError, StackError
from editthinker.printable import block, one_line

FAILED: Final = 1
USAGE: Final = 2
UNCHANGED: Final = 3
"""An edit ended, and the answer is the source."""
INTERRUPTED: Final = 130


class UsageError(Exception):
    """Wrong use of a command that Typer does not detect."""


def say(text: str) -> None:
    """Write a line to standard error. Its control characters are escaped: errors quote servers, and those quote strangers."""
    sys.stderr.write(f"{block(text)}\n")
    sys.stderr.flush()


@contextmanager
def friendly() -> Iterator[None]:
    """Turn expected errors of a command into one line and an exit status."""
    try:
        yield
    except KeyboardInterrupt:
        say("editthinker: interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except UsageError as exc:
        say(f"editthinker: {exc}")
        raise typer.Exit(USAGE) from None
    except UnicodeEncodeError:
        # Only a command-line argument can contain lone surrogates; the request cannot encode them.
        say("editthinker: an argument is not valid text in this terminal's encoding")
        raise typer.Exit(USAGE) from None
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone. Python would report it again when it flushes at exit.
        sys.stdout = None
        raise typer.Exit(FAILED) from None
    except (EditThinkerError, StackError, OSError) as exc:
        say(f"editthinker: {describe(exc)}")
        raise typer.Exit(FAILED) from None


def describe(exc: Exception) -> str:
    """An expected error as one line, and the end of the log of a service that failed."""
    if isinstance(exc, APIStatusError):
        notes = [f"param {exc.param}" if exc.param else "", f"request {exc.request_id}" if exc.request_id else ""]
        details = ", ".join([exc.code or "", *(note for note in notes if note)])
        fix = "; give it as --api-key or EDITTHINKER_API_KEY" if isinstance(exc, AuthenticationError) else ""
        return one_line(f"{exc.message}{fix} [{details}]")
    if isinstance(exc, APIConnectionError):
        return one_line(f"{exc}; is the server running?")
    if isinstance(exc, ServiceFailedError):
        tail = "".join(f"\n  | {line}" for line in exc.tail.splitlines())
        return f"{exc}{tail}"
    if isinstance(exc, OSError) and exc.filename is not None:
        return f"{exc.filename}: {exc.strerror}"
    return one_line(str(exc)) if isinstance(exc, EditThinkerError) else str(exc)


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal like Ctrl-C, so that the command cleans up.

    SIGINT is set as well: a shell that starts a command in the background leaves it ignored.
    """
    # Windows has no SIGHUP.
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(name, signal.default_int_handler) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)

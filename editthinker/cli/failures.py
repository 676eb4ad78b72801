"""How the command line says that something went wrong: one line on standard error, and an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from editthinker.client import APIConnectionError, APIStatusError, EditThinkerError
from editthinker.local import ServiceFailedError, StackError

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


class UsageError(Exception):
    """The command was asked wrongly, in a way that only we can see."""


def say(text: str) -> None:
    """One line to the person, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def friendly() -> Iterator[None]:
    """Around a command: what can be expected to go wrong becomes one line and an exit code, never a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        say("editthinker: interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except UsageError as exc:
        say(f"editthinker: {exc}")
        raise typer.Exit(USAGE) from None
    except UnicodeEncodeError:
        # Only an argument can hold what no encoding has, and it is found when the request is made.
        say("editthinker: an argument is not valid text in this terminal's encoding")
        raise typer.Exit(USAGE) from None
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone. Python would complain once more when it flushes at exit.
        sys.stdout = None
        raise typer.Exit(FAILED) from None
    except (EditThinkerError, StackError, OSError) as exc:
        say(f"editthinker: {describe(exc)}")
        raise typer.Exit(FAILED) from None


def describe(exc: Exception) -> str:
    """An expected error in one line; the log of a failed service follows it."""
    if isinstance(exc, APIStatusError):
        notes = [f"param {exc.param}" if exc.param else "", f"request {exc.request_id}" if exc.request_id else ""]
        kept = ", ".join(note for note in notes if note)
        return f"{exc.message} [{exc.code}{', ' if kept else ''}{kept}]"
    if isinstance(exc, APIConnectionError):
        return f"{exc}; is the server running?"
    if isinstance(exc, ServiceFailedError):
        tail = "".join(f"\n  | {line}" for line in exc.tail.splitlines())
        return f"{exc}{tail}"
    if isinstance(exc, OSError) and exc.filename is not None:
        return f"{exc.filename}: {exc.strerror}"
    return str(exc)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and a closed terminal end the command the way Ctrl-C does, so that nothing is left behind.

    SIGINT is set as well: a shell that starts us in the background leaves it ignored.
    """
    # Windows has no SIGHUP.
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(name, signal.default_int_handler) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)

"""What the command lines of the services share: settings from options and environment, and how a server ends.

Exit statuses: 0 done; 1 it failed; 2 an option or a setting is wrong. A failure is a line on standard error, never a
traceback.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from services.errors import reason_of
from services.serving.deprecated_settings import MissingSecretsError, misspelt

FAILED: Final = 1
USAGE: Final = 2

PLAIN: Final[dict[str, Any]] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
"""How every `typer.Typer` of a service is made: its output goes to logs as often as to terminals."""

_Settings = TypeVar("_Settings", bound=BaseSettings)


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")


def fail(text: str, status: int = FAILED) -> typer.Exit:
    """The exception that ends the command with a status, after its reason was written to standard error."""
    say(text)
    return typer.Exit(status)


def read_settings(kind: type[_Settings], prefix: str, **options: Any) -> _Settings:
    """Settings from options (those that are not None) over environment over defaults.

    Raises:
        typer.Exit: with status 2, after a line on standard error for each setting that is wrong.
    """
    for name, meant in misspelt(kind, os.environ).items():
        say(f"warning: {name} is no setting, and is ignored; {meant} is one")
    try:
        return kind(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as exc:
        raise fail("\n".join(_mistakes(exc, prefix)), USAGE) from None
    except SettingsError as exc:
        raise fail(_not_json(exc, prefix), USAGE) from None
    except MissingSecretsError as exc:
        raise fail(str(exc), USAGE) from None


def run_server(name: str, run: Callable[[], object]) -> None:
    """Run a uvicorn server until SIGTERM or Ctrl-C.

    Args:
        name: of the service, for the message.
        run: starts the server and returns once it has stopped.

    Raises:
        typer.Exit: with status 1 when it cannot start.
    """
    try:
        run()
    except KeyboardInterrupt:
        pass  # uvicorn raises the signal once more after it has shut down
    except SystemExit as exc:
        # uvicorn exits with 3. The cause is in its log as a record; this line is for people.
        raise fail(f"the {name} cannot start: {exc.__context__ or 'its log says why'}") from None


def _mistakes(exc: ValidationError, prefix: str) -> Iterator[str]:
    for error in exc.errors():
        inner = error.get("ctx", {}).get("error")
        if isinstance(inner, ValidationError):
            # Its text would quote the input, API keys included.
            yield from _mistakes(inner, prefix)
            continue
        # The names of entries and their fields are as in the JSON.
        first, *rest = (str(part) for part in error["loc"]) if error["loc"] else ("",)
        setting = ".".join((first.upper().removeprefix(prefix), *rest))
        message = _reason(error)
        # One about several settings has their names without the prefix.
        yield message if not setting and prefix in message else f"{prefix}{setting or '*'}: {message}"


def _reason(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, in words of the setting instead of pydantic's."""
    limits = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        return "there is no such field; docs/operations.md lists them"
    if error["type"] == "missing":
        return "it is required"
    if error["type"] == "too_short":
        return f"it must have at least {limits['min_length']} characters"
    if error["type"] == "string_pattern_mismatch":
        return reason_of(error)
    return str(error["msg"]).removeprefix("Value error, ")


def _not_json(exc: SettingsError, prefix: str) -> str:
    field = re.search(r'field "(\w+)"', str(exc))
    name = f"{prefix}{field[1].upper()}" if field else "a setting"
    example = '{"name": {"url": "http://127.0.0.1:8000/v1", "model": "the server\'s name for it"}}'
    return f"{name} is not JSON ({exc.__cause__}); write it as {example}"

"""The orchestrator's settings for its commands, checked before anything is started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from obstore.exceptions import BaseError

from orchestrator.settings import RedisSettings, Settings
from orchestrator.store.blobs import ObjectBlobs
from services.serving.command_line import USAGE, fail, read_settings

_PREFIX: Final = "EDITTHINKER_"


def redis_settings() -> RedisSettings:
    """The settings of commands that need Redis only.

    Raises:
        typer.Exit: with status 2, after saying what is wrong.
    """
    return read_settings(RedisSettings, _PREFIX)


def server_settings(**options: Any) -> Settings:
    """All settings; options override the environment.

    Raises:
        typer.Exit: with status 2, after saying what is wrong, an unusable blob store included.
    """
    settings = read_settings(Settings, _PREFIX, **options)
    if why := _unusable(settings.blobs):
        text = f"{_PREFIX}BLOBS: {settings.blobs!r}: {why}; name a directory that can be written, or s3://bucket/prefix"
        raise fail(text, USAGE)
    return settings


def _unusable(location: str) -> str | None:
    """What is wrong with a blob store, as far as it can be found without writing to it."""
    try:
        ObjectBlobs(location)
    except OSError as exc:
        return str(exc.strerror)
    except (BaseError, ValueError) as exc:
        # The lines after the first are obstore's internals.
        return str(exc).partition("\n")[0]
    if "://" in location or os.access(Path(location).expanduser(), os.W_OK | os.X_OK):
        return None
    return "Permission denied"

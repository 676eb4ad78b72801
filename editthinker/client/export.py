"""The export: its time limits, and its JSON lines as they arrive. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from editthinker.client.errors import APIResponseError

T = TypeVar("T")
Moment = float | str | datetime
"""Unix seconds (as text, too), an ISO 8601 date or time, or a `datetime`. Without an offset it is this machine's time."""


def moment(given: Moment) -> float:
    """A time in Unix seconds.

    Raises:
        ValueError: for an invalid time.
    """
    try:
        at = _seconds(given)
    except (ValueError, OverflowError, OSError):
        at = math.nan
    if not math.isfinite(at):
        message = f"{given!r} is not a time; write Unix seconds, or an ISO date such as 2026-11-24 or 2026-11-24T10:00Z"
        raise ValueError(message)
    return at


def record(line: bytes) -> dict[str, Any]:
    """The archived session that a line holds.

    Raises:
        APIResponseError: when it holds something else.
    """
    try:
        body = from_json(line)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        message = "the export has a line that is not a session; check the base URL"
        raise APIResponseError(message)
    return body


class Lines(Generic[T]):
    """Splits chunks of bytes into whole lines. Only a line feed ends a line, not U+2028 and the like.

    Args:
        read: makes of a line, without its end, what is given to the caller.
    """

    media_type = "application/jsonl"

    def __init__(self, read: Callable[[bytes], T]) -> None:
        self.begun = False
        self._read = read
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> list[T]:
        """What is in the lines that the chunk completes."""
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join([*self._parts, whole[0]])
            self._parts = []
            self.begun = True
        self._parts.append(rest)
        return [self._read(line) for line in whole]

    def end(self) -> None:
        """Check that the last line was complete.

        Raises:
            APIResponseError: when the last line has no end.
        """
        if any(self._parts):
            message = "the export ended within a line: it is incomplete"
            raise APIResponseError(message)


def _seconds(given: Moment) -> float:
    if isinstance(given, str):
        try:
            return float(given)
        except ValueError:
            return datetime.fromisoformat(given).timestamp()
    return given.timestamp() if isinstance(given, datetime) else float(given)

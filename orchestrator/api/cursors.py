"""Cursors of lists: where a page ends, the newest first, by the millisecond of creation and the id."""

from __future__ import annotations

import base64
import binascii

from services.errors import ApiError


def write_cursor(position: tuple[int, str]) -> str:
    """The cursor of the page after a position."""
    return base64.urlsafe_b64encode(f"{position[0]}:{position[1]}".encode()).decode()


def read_cursor(cursor: str | None) -> tuple[int, str] | None:
    """The position that a cursor names; None without one.

    Raises:
        ApiError: ``invalid_value`` for a text that is no cursor.
    """
    if cursor is None:
        return None
    try:
        created_ms, _, name = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition(":")
        return int(created_ms), name
    except (binascii.Error, ValueError) as exc:
        raise ApiError("invalid_value", "cursor: not valid; use next_cursor of the previous page", param="cursor") from exc

"""JSON that stays on its line, whoever reads it: lines of logs and exports, and server-sent events.

JSON lets U+0085, U+2028 and U+2029 stand in strings as they are, and readers of lines (``str.splitlines`` and httpx's
``iter_lines`` among them) end a line there. A model may well write them.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

_ENDS: Final = tuple((chr(code).encode(), b"\\u%04x" % code) for code in (0x85, 0x2028, 0x2029))


def one_line(value: Any) -> bytes:
    """The value as JSON in one line, without an end of line.

    Raises:
        orjson.JSONEncodeError: for what JSON cannot say.
    """
    line = orjson.dumps(value)
    if not line.isascii():
        for end, escape in _ENDS:
            line = line.replace(end, escape)
    return line


def sse_message(data: Any, *, event: str = "", seq: int | None = None) -> bytes:
    """One server-sent event with JSON as its data.

    Args:
        data: what it tells.
        event: its type; without one, ``message``.
        seq: its id, for ``Last-Event-ID``.
    """
    head = b"" if seq is None else b"id: %d\n" % seq
    if event:
        head += b"event: " + event.encode() + b"\n"
    return head + b"data: " + one_line(data) + b"\n\n"

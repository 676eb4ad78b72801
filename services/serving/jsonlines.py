"""JSON Lines and server-sent events that any line reader splits correctly.

JSON allows U+0085, U+2028 and U+2029 unescaped in strings, but ``str.splitlines`` and httpx's ``iter_lines``, among others, end
a line there. Models write them.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

_LINE_ENDS: Final = tuple((chr(code).encode(), b"\\u%04x" % code) for code in (0x85, 0x2028, 0x2029))


def json_line(value: Any) -> bytes:
    """The value as JSON on one line, without the line end.

    Raises:
        orjson.JSONEncodeError: for a value that JSON cannot express.
    """
    line = orjson.dumps(value)
    if not line.isascii():
        for end, escape in _LINE_ENDS:
            line = line.replace(end, escape)
    return line


def sse_message(data: Any, *, event: str = "", seq: int | None = None) -> bytes:
    """One server-sent event with JSON as its data.

    Args:
        data: the payload.
        event: its type; readers assume ``message`` if empty.
        seq: its id, for ``Last-Event-ID``.
    """
    head = b"" if seq is None else b"id: %d\n" % seq
    if event:
        head += b"event: " + event.encode() + b"\n"
    return head + b"data: " + json_line(data) + b"\n\n"

"""A decoder for server-sent events. No I/O.

The format is that of the HTML standard: lines end in LF, CR LF or CR; a blank line ends a message; a line that
begins with a colon is a comment (ours are heartbeats). An incomplete message is discarded, as the standard says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Message:
    """One server-sent event: its type, its data, and the last id seen up to it."""

    event: str
    data: str
    id: str


class Decoder:
    """An incremental decoder for one connection. Feed it chunks cut anywhere."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._event = ""
        self._data: list[str] = []
        self._id = ""
        self._first = True

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that the chunk completes."""
        self._rest += chunk
        messages = []
        while (line := self._next_line()) is not None:
            if line:
                self._field(line)
            elif (message := self._dispatch()) is not None:
                messages.append(message)
        return messages

    def _next_line(self) -> str | None:
        # A picture in base64 is one line of megabytes: what was searched is not searched again.
        end = _LINE_END.search(self._rest, self._searched)
        # A CR at the very end may be half of a CR LF: wait for the next byte before calling it a line end.
        if end is None or (end.group() == b"\r" and end.end() == len(self._rest)):
            self._searched = len(self._rest) if end is None else end.start()
            return None
        line = self._rest[: end.start()].decode("utf-8", errors="replace")
        del self._rest[: end.end()]
        self._searched = 0
        if self._first:
            self._first = False
            line = line.removeprefix("\ufeff")
        return line

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value

    def _dispatch(self) -> Message | None:
        message = Message(self._event or "message", "\n".join(self._data), self._id) if self._data else None
        self._event, self._data = "", []
        return message

"""The picture events of a streamed edit (``stream=true``), read as they arrive. No I/O.

`image_edit.partial_image` is an unfinished picture, `image_edit.completed` the result, and `error` ends the stream with a body of
the error format. Comments, which keep the connection alive, and other events are passed over.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

PARTIAL: Final = "image_edit.partial_image"
_COMPLETED: Final = "image_edit.completed"


class EventStream:
    """Collects a stream that arrives in pieces which are cut anywhere.

    Attributes:
        size: bytes so far.
        completed: the event of the result, once it has come.
        error: the body of the error that ended the stream.
    """

    def __init__(self) -> None:
        self.size = 0
        self.completed: dict[str, Any] | None = None
        self.error: bytes | None = None
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._event = b""

    def add(self, piece: bytes) -> list[dict[str, Any]]:
        """The unfinished pictures that the piece completes.

        Raises:
            orjson.JSONDecodeError: if an event of a picture is not JSON.
        """
        self.size += len(piece)
        # A picture is one line of megabytes: its pieces are joined once.
        *ended, rest = piece.split(b"\n")
        pictures: list[dict[str, Any]] = []
        for end in ended:
            line = b"".join([*self._rest, end]).removesuffix(b"\r")
            self._rest = []
            pictures += self._line(line)
        self._rest.append(rest)
        return pictures

    def _line(self, line: bytes) -> list[dict[str, Any]]:
        if not line:
            return self._ended()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._event = value.removeprefix(b" ")
        return []

    def _ended(self) -> list[dict[str, Any]]:
        """The unfinished picture, if the event that ends here is one."""
        kind, data, self._event, self._data = self._event, b"\n".join(self._data), b"", []
        if kind == b"error":
            self.error = data
        if kind and kind not in {PARTIAL.encode(), _COMPLETED.encode()}:
            return []
        event = orjson.loads(data) if data and data != b"[DONE]" else None
        if not isinstance(event, dict):
            return []
        if event.get("type") == _COMPLETED and self.completed is None:
            self.completed = event
        return [event] if event.get("type") == PARTIAL else []

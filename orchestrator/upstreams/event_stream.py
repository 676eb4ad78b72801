"""The picture events of a streamed edit (``stream=true``), read as they arrive. No I/O.

`image_edit.partial_image` is an unfinished picture, `image_edit.completed` the result, and `error` ends the stream with a body of
the error format. Comments, which keep the connection alive, and other events are passed over.
"""

from __future__ import annotations

from typing import Any, Final

from services.serving.json_body import MAX_JSON_VALUES, JsonBody

PARTIAL: Final = "image_edit.partial_image"
_COMPLETED: Final = "image_edit.completed"
_PICTURES: Final = frozenset({PARTIAL.encode(), _COMPLETED.encode()})
_MAX_LINES: Final = 200_000
"""A worker sends three for each of its steps, and two every 15 seconds."""


class TooManyLinesError(Exception):
    """The stream has more lines than an edit has events."""


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
        self._lines = 0

    def add(self, piece: bytes) -> list[dict[str, Any]]:
        """The unfinished pictures that the piece completes.

        Raises:
            orjson.JSONDecodeError: if an event of a picture is not JSON.
            TooManyValuesError: if one has more values than the reply of an upstream may have.
            TooManyLinesError: after too many lines.
        """
        self.size += len(piece)
        self._lines += piece.count(b"\n")
        if self._lines > _MAX_LINES:
            raise TooManyLinesError
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
        if (kind and kind not in _PICTURES) or not data or data == b"[DONE]":
            return []
        body = JsonBody(MAX_JSON_VALUES)
        body.add(data)
        event = body.value()
        if not isinstance(event, dict):
            return []
        if event.get("type") == _COMPLETED and self.completed is None:
            self.completed = event
        return [event] if event.get("type") == PARTIAL else []


def as_reply(completed: dict[str, Any]) -> dict[str, Any]:
    """The result's event in the form of a whole reply, without what no reply has."""
    first = {name: value for name in ("b64_json", "url", "unchanged") if isinstance(value := completed.get(name), str | bool)}
    timings, phrases = completed.get("timings"), completed.get("not_understood")
    numbers = {name: value for name, value in timings.items() if type(value) in {int, float}} if isinstance(timings, dict) else {}
    texts = [phrase for phrase in phrases if isinstance(phrase, str)] if isinstance(phrases, list) else []
    return {"data": [first], "timings": numbers, "not_understood": texts}

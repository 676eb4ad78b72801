"""JSON from strangers, received in pieces: its values are counted as they arrive, before any of them is built.

Three bytes of JSON become a hundred of objects. Commas and opening brackets are counted, which no JSON value can do without;
those inside of strings count too, so the limit is generous.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

MAX_JSON_VALUES: Final = 200_000
"""More than two instructions full of commas, and far below the memory limit."""
_MARKS: Final = (b",", b"[", b"{")


class TooManyValuesError(ValueError):
    """The JSON has more values than are built."""


class JsonBody:
    """A JSON document as it arrives.

    Args:
        max_values: commas and opening brackets that it may have.
    """

    def __init__(self, max_values: int = MAX_JSON_VALUES) -> None:
        self._left = max_values
        self._pieces: list[bytes] = []
        self.size = 0
        """Bytes received."""

    def add(self, piece: bytes) -> None:
        """Receive a piece.

        Raises:
            TooManyValuesError: when there are too many values.
        """
        self._left -= sum(piece.count(mark) for mark in _MARKS)
        if self._left < 0:
            raise TooManyValuesError
        self.size += len(piece)
        self._pieces.append(piece)

    def content(self) -> bytes:
        """All bytes, which this object then no longer holds."""
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content

    def value(self) -> Any:
        """The document's value.

        Raises:
            orjson.JSONDecodeError: if it is not JSON.
        """
        return orjson.loads(self.content())

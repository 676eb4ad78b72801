"""The events of a streamed edit, as they arrive. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from editthinker.client.errors import APIConnectionError, APIError, APIResponseError
from editthinker.client.models import ImageEvent
from editthinker.client.sse import Decoder, Message

_COMPLETED = "image_edit.completed"


class ImageEvents:
    """Reads the events out of chunks of bytes."""

    media_type = "text/event-stream"

    def __init__(self) -> None:
        self.begun = False
        self._completed = False
        self._decoder = Decoder()

    def feed(self, chunk: bytes) -> list[ImageEvent]:
        """The events that the chunk completes.

        Raises:
            APIError: when the server says that the edit failed.
        """
        events = [_event(message) for message in self._decoder.feed(chunk)]
        if events:
            self.begun = True
            self._completed = self._completed or any(event.type == _COMPLETED for event in events)
        return events

    def end(self) -> None:
        """Check that there was a result.

        Raises:
            APIConnectionError: when the stream ended before it.
        """
        if not self._completed:
            message = "the stream ended before the edit was completed"
            raise APIConnectionError(message, sent=True)


def _event(message: Message) -> ImageEvent:
    try:
        if message.event == "error":
            error: Mapping[str, Any] = from_json(message.data)["error"]
            told = f"{error['message']} ({error['code']})"
            raise APIError(told)
        return ImageEvent.model_validate_json(message.data)
    except (ValidationError, ValueError, KeyError, TypeError) as exc:
        note = f"the server sent an event ({message.event}) that cannot be read"
        raise APIResponseError(note) from exc

"""A chat request as it is sent, and the format of its replies: JSON in pieces, so that pictures are loaded and encoded
while they are sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import orjson
import pybase64

from orchestrator.ports.collaborators import StoredImage
from orchestrator.upstreams.http import Lazy
from services.protocol.critique.formats import ReplyFormat
from services.protocol.critique.messages import Unparseable, repair_messages

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ReplyContract(Generic[_T]):
    """A request's messages and pictures, and the format of its replies.

    Attributes:
        format: of the replies.
        messages: the chat messages, given a URL for each picture.
        pictures: in the order of the messages.
        unreadable: the text of a first reply and why it could not be read, if this is the second attempt.
    """

    format: ReplyFormat[_T]
    messages: Callable[[Sequence[str]], list[dict[str, Any]]]
    pictures: Sequence[StoredImage]
    unreadable: tuple[str, Unparseable] | None = None

    def repair(self, reply: str, unparseable: Unparseable) -> ReplyContract[_T]:
        """The request after an unreadable reply."""
        return replace(self, unreadable=(reply, unparseable))

    def body(self, fields: Mapping[str, Any]) -> list[bytes | Lazy]:
        """The request's JSON; random marks stand for the pictures until they are sent."""
        marks = [secrets.token_hex(16) for _ in self.pictures]
        messages = self.messages(marks)
        if self.unreadable is not None:
            messages = repair_messages(messages, *self.unreadable, self.format.form())
        rest = orjson.dumps({"messages": messages, **fields})
        pieces: list[bytes | Lazy] = []
        for mark, picture in zip(marks, self.pictures, strict=True):
            head, rest = rest.split(mark.encode())
            pieces += [head, *_data_url(picture)]
        return [*pieces, rest]


def _data_url(image: StoredImage) -> list[bytes | Lazy]:
    async def encoded() -> bytes:
        return pybase64.b64encode(await image.load())

    return [f"data:{image.ref.media_type};base64,".encode(), Lazy((image.ref.bytes + 2) // 3 * 4, encoded)]

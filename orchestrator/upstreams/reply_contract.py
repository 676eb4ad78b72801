"""A chat request as it is sent, and the format of its replies: JSON in pieces, so that pictures are loaded and encoded
while they are sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

import orjson
import pybase64
from cachetools import LRUCache

from orchestrator.ports.collaborators import StoredImage
from orchestrator.upstreams.http import Lazy
from services.protocol.critique.formats import ReplyFormat
from services.protocol.critique.messages import Unparseable, repair_messages

_T = TypeVar("_T")
_SOURCES_BYTES: Final = 64 * 1024 * 1024


class EncodedSources:
    """Sources as base64, the latest within a limit of bytes: a session's source is sent with each of its critiques."""

    def __init__(self) -> None:
        self._kept: LRUCache[str, bytes] = LRUCache(_SOURCES_BYTES, getsizeof=len)
        """By the picture's digest."""

    async def encoded(self, image: StoredImage) -> bytes:
        """The picture as base64."""
        kept = self._kept.get(image.ref.sha256)
        if kept is None:
            kept = await _encoded(image)
            with contextlib.suppress(ValueError):  # larger than all that is kept
                self._kept[image.ref.sha256] = kept
        return kept


@dataclass(frozen=True, slots=True)
class ReplyContract(Generic[_T]):
    """A request's messages and pictures, and the format of its replies.

    Attributes:
        format: of the replies.
        messages: the chat messages, given a URL for each picture.
        pictures: in the order of the messages; the session's source is the first.
        sources: keeps sources as base64.
        sampling: fields of this request in place of the thinker's own.
        wanted: what a reply should hold, in a word.
        unreadable: the text of a first reply and why it could not be read, if this is the second attempt.
    """

    format: ReplyFormat[_T]
    messages: Callable[[Sequence[str]], list[dict[str, Any]]]
    pictures: Sequence[StoredImage]
    sources: EncodedSources
    sampling: Mapping[str, Any] = field(default_factory=dict)
    wanted: str = "critique"
    unreadable: tuple[str, Unparseable] | None = None

    def repair(self, reply: str, unparseable: Unparseable) -> ReplyContract[_T]:
        """The request after an unreadable reply."""
        return replace(self, unreadable=(reply, unparseable))

    def digest(self) -> str:
        """Of the first request's messages, with the sizes of the pictures in place of their URLs: 32 hex digits.

        The pictures are named by the session's events. A scaled one may have other bytes in another version of the server.
        """
        messages = self.messages([f"{picture.ref.width}x{picture.ref.height}" for picture in self.pictures])
        return hashlib.sha256(orjson.dumps(messages)).hexdigest()[:32]

    def body(self, fields: Mapping[str, Any]) -> list[bytes | Lazy]:
        """The request's JSON; random marks stand for the pictures until they are sent."""
        marks = [secrets.token_hex(16) for _ in self.pictures]
        messages = self.messages(marks)
        if self.unreadable is not None:
            messages = repair_messages(messages, *self.unreadable, self.format.form())
        rest = orjson.dumps({"messages": messages, **fields, **self.sampling})
        pieces: list[bytes | Lazy] = []
        for number, (mark, picture) in enumerate(zip(marks, self.pictures, strict=True)):
            head, rest = rest.split(mark.encode())
            encode = self.sources.encoded if number == 0 else _encoded
            prefix = f"data:{picture.ref.media_type};base64,".encode()
            pieces += [head + prefix, Lazy((picture.ref.bytes + 2) // 3 * 4, partial(encode, picture))]
        return [*pieces, rest]


async def _encoded(image: StoredImage) -> bytes:
    return pybase64.b64encode(await image.load())

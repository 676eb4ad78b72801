"""A request to a thinker as it is sent: JSON in pieces, so that pictures are loaded and encoded as they go out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import orjson
import pybase64

from orchestrator.ports import StoredImage
from orchestrator.upstreams.http import Lazy
from services.protocol.critique.formats import Constraint
from services.protocol.critique.messages import Unparseable
from services.protocol.critique.replies import Reply

_T = TypeVar("_T")
_Messages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ReplyContract(Generic[_T]):
    """What is asked and how its replies are read.

    Attributes:
        messages: the chat messages, given a URL for each picture.
        repair: the messages of a second attempt, given those of the first, its reply, and what was wrong with it.
        read: a reply's meaning.
        conforms: whether a reply is one that the constraint allows.
    """

    messages: Callable[[Sequence[str]], _Messages]
    repair: Callable[[_Messages, str, Unparseable], _Messages]
    read: Callable[[Reply], _T | Unparseable]
    conforms: Callable[[Reply, Constraint], bool]


@dataclass(frozen=True, slots=True)
class Prompt(Generic[_T]):
    """A request with its pictures, and what a first attempt brought, if there was one."""

    written: ReplyContract[_T]
    pictures: Sequence[StoredImage]
    wrong: tuple[str, Unparseable] | None = None

    def again(self, reply: str, wrong: Unparseable) -> Prompt[_T]:
        """The same, asked once more."""
        return replace(self, wrong=(reply, wrong))

    def body(self, fields: Mapping[str, Any]) -> list[bytes | Lazy]:
        """The request's JSON: marks stand for the pictures until they are sent."""
        marks = [secrets.token_hex(16) for _ in self.pictures]
        messages = self.written.messages(marks)
        if self.wrong is not None:
            messages = self.written.repair(messages, *self.wrong)
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

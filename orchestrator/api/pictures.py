"""Pictures in replies: sent from the blob store in pieces, so that a reader who stops holds a piece and no more.

Conditional and range requests: RFC 9110, sections 13.1.2 (If-None-Match), 13.1.5 (If-Range) and 14.2 (Range).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Self

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator.api.marks import UNMARKED, Mark
from orchestrator.loop.events import ImageRef
from orchestrator.ports.errors import PortError
from orchestrator.ports.stores import ReadableBlobs
from services.errors import ApiError
from services.imaging.alpha import HEAD_BYTES
from services.imaging.marks import Splice
from services.serving.middleware import ReplyAbortedError, error_response

PIECE: Final = 3 * 256 * 1024
"""Bytes read at a time: large enough for an object store, and a multiple of 3, so that base64 can be made of each."""


_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")
"""One range; several are ignored, as a server may."""


@dataclass(frozen=True, slots=True)
class Part:
    """What of a picture is sent: all of it (200), or the bytes from `start` up to before `end` (206)."""

    status: int
    start: int
    end: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Representation:
    """A picture in one encoding: its strong entity tag, its media type, and the headers that are always sent with it."""

    etag: str
    media_type: str
    headers: dict[str, str]

    def not_modified(self, request: Request) -> Response | None:
        """The response to a client that has it already."""
        known = request.headers.get("if-none-match")
        if known is None or (
            known.strip() != "*" and self.etag not in (tag.strip().removeprefix("W/") for tag in known.split(","))
        ):
            return None
        return Response(status_code=304, headers={**self.headers, "etag": self.etag})

    def part(self, request: Request, size: int) -> Part | Response:
        """The part that a request asks for, or the response that refuses it."""
        headers = {**self.headers, "etag": self.etag, "accept-ranges": "bytes"}
        found = _RANGE.fullmatch(request.headers.get("range", "").strip())
        if not found or request.headers.get("if-range", self.etag) != self.etag:
            return Part(200, 0, size, headers)
        first, last, suffix = found.groups()
        start = int(first) if first else max(0, size - int(suffix))
        end = min(size, int(last) + 1) if last else size
        if first and last and int(last) < int(first):
            return Part(200, 0, size, headers)
        if start >= size:
            error = ApiError("range_not_satisfiable", f"Range: the picture has {size:,} bytes", param="Range")
            return error_response(error, {"content-range": f"bytes */{size}"})
        return Part(206, start, end, {**headers, "content-range": f"bytes {start}-{end - 1}/{size}"})


async def _once(read: Callable[[], Awaitable[bytes]]) -> bytes:
    return await read()


_Read = Callable[[Callable[[], Awaitable[bytes]]], Awaitable[bytes]]
"""Reads a piece, with retries perhaps."""


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A stored image with its mark: its bytes are read in pieces.

    Attributes:
        changes: what writes the mark into it.
        head: its first bytes without the mark, as far as they were read for that.
    """

    blobs: ReadableBlobs
    session_id: str
    image: ImageRef
    changes: tuple[Splice, ...] = ()
    head: bytes = b""

    @classmethod
    async def open(
        cls, blobs: ReadableBlobs, session_id: str, image: ImageRef, mark: Mark, *, head_bytes: int = PIECE, read: _Read = _once
    ) -> Self:
        """The image with a mark.

        Args:
            head_bytes: of it that are read at once; those that will be sent first, if any.
            read: reads them.
        """
        if mark.source_type is None:
            return cls(blobs, session_id, image)
        head = await read(partial(blobs.read, session_id, image.sha256, 0, min(head_bytes, image.bytes)))
        return cls(blobs, session_id, image, mark.splices(head, image.bytes), head)

    @property
    def size(self) -> int:
        """Bytes of the marked picture."""
        return self.image.bytes + sum(len(change.insert) - change.drop for change in self.changes)

    async def read(self, start: int, end: int) -> bytes:
        """A part of the marked picture."""
        parts, at = [], 0
        for begin, length, inserted in self._layout():
            low, high = max(start, at) - at, min(end, at + length) - at
            if low < high:
                part = self._stored(begin + low, begin + high) if inserted is None else None
                parts.append(await part if part else (inserted or b"")[low:high])
            at += length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _layout(self) -> Iterator[tuple[int, int, bytes | None]]:
        """Its parts in order: where each begins in the stored image, its length, and its bytes if it is not from there."""
        at = 0
        for change in self.changes:
            yield at, change.at - at, None
            yield change.at, len(change.insert), change.insert
            at = change.at + change.drop
        yield at, self.image.bytes - at, None

    async def _stored(self, start: int, end: int) -> bytes:
        if end <= len(self.head):
            return self.head[start:end]
        return await self.blobs.read(self.session_id, self.image.sha256, start, end)


async def stored_pieces(
    picture: StoredPicture, start: int = 0, end: int | None = None, *, read: _Read = _once
) -> AsyncGenerator[bytes]:
    """The bytes of a stored picture, or a part of them.

    Args:
        read: reads each piece.
    """
    end = picture.size if end is None else end
    for at in range(start, end, PIECE):
        yield await read(partial(picture.read, at, min(at + PIECE, end)))
        # The next pieces are not in the head.
        picture = replace(picture, head=b"")


async def stored_response(
    blobs: ReadableBlobs, session_id: str, image: ImageRef, whole: Representation, request: Request, mark: Mark = UNMARKED
) -> Response:
    """A stored image with its mark, or the part that is asked for, as a response.

    Raises:
        PortError: when it cannot be read.
    """
    if known := whole.not_modified(request):
        return known
    head_bytes = HEAD_BYTES if "range" in request.headers else PIECE
    picture = await StoredPicture.open(blobs, session_id, image, mark, head_bytes=head_bytes)
    part = whole.part(request, picture.size)
    if isinstance(part, Response):
        return part
    pieces = stored_pieces(picture, part.start, part.end)
    first = await anext(pieces)
    if len(first) == part.end - part.start:
        return Response(first, part.status, part.headers, whole.media_type)
    headers = {**part.headers, "content-length": str(part.end - part.start)}
    return PiecesResponse(_continued([first], pieces), part.status, media_type=whole.media_type, headers=headers)


class PiecesResponse(StreamingResponse):
    """A response in pieces, whose generator releases what it holds when it has been sent, or the client has left."""

    def __init__(self, pieces: AsyncGenerator[bytes], status: int = 200, *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(pieces, status, headers, media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces."""
        # Not left to the garbage collector: it would come late.
        async with contextlib.aclosing(self._pieces):
            await super().__call__(scope, receive, send)


async def _continued(first: list[bytes], pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(pieces):
        yield first.pop()
        try:
            async for piece in pieces:
                yield piece
        except PortError as exc:
            raise ReplyAbortedError(exc.message) from exc


def size_of(image: ImageRef) -> int:
    """The bytes that an image may have in another encoding: a byte for each pixel, or its own size if that is more."""
    return max(image.bytes, image.width * image.height)

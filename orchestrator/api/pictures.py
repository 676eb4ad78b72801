"""Pictures in replies: sent from the blob store in pieces, so that a reader who stops holds a piece and no more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator.loop.events import ImageRef
from orchestrator.ports import PortError, ReadableBlobs
from services.serving.middleware import ReplyAbortedError

PIECE: Final = 3 * 256 * 1024
"""Bytes read at a time: large enough for an object store, and a multiple of 3, so that base64 can be made of each."""


async def stored_pieces(blobs: ReadableBlobs, session_id: str, image: ImageRef) -> AsyncGenerator[bytes]:
    """The bytes of a stored image."""
    for at in range(0, image.bytes, PIECE):
        yield await blobs.read(session_id, image.sha256, at, min(at + PIECE, image.bytes))


async def stored_response(blobs: ReadableBlobs, session_id: str, image: ImageRef, headers: dict[str, str]) -> Response:
    """A stored image as a response.

    Raises:
        PortError: when it cannot be read.
    """
    pieces = stored_pieces(blobs, session_id, image)
    first = await anext(pieces)
    if len(first) == image.bytes:
        return Response(first, media_type=image.media_type, headers=headers)
    headers = {**headers, "content-length": str(image.bytes)}
    return PiecesResponse(_continued([first], pieces), media_type=image.media_type, headers=headers)


class PiecesResponse(StreamingResponse):
    """A response in pieces, whose generator releases what it holds when it has been sent, or the client has left."""

    def __init__(self, pieces: AsyncGenerator[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(pieces, media_type=media_type, headers=headers)
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

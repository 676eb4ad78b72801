"""Pictures in replies: sent from the blob store in pieces, so that a reader who stops holds a piece and no more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse

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
    return StreamingResponse(_continued([first], pieces), media_type=image.media_type, headers=headers)


async def _continued(first: list[bytes], pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first.pop()
    try:
        async for piece in pieces:
            yield piece
    except PortError as exc:
        raise ReplyAbortedError(exc.message) from exc


def size_of(image: ImageRef) -> int:
    """The bytes that an image may have in another encoding: a byte for each pixel, or its own size if that is more."""
    return max(image.bytes, image.width * image.height)

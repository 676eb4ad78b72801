"""Pictures for a thinker: the stored bytes, or, where they exceed its pixel budget, a scaled copy that is cached."""

from __future__ import annotations

import asyncio
import contextlib
import math

from cachetools import LRUCache
from PIL import Image

from orchestrator.loop.events import ImageRef
from orchestrator.ports import StoredImage, ThinkerError
from services.errors import ApiError
from services.imaging.codec import UNLIMITED, decode, digest, encode

_CACHE_BYTES = 64 * 1024 * 1024


class Pictures:
    """Scales pictures to a pixel budget. A session's source is scaled once, since it is the same in every turn.

    Args:
        max_pixels: width x height; None sends every picture unchanged.
    """

    def __init__(self, max_pixels: int | None) -> None:
        self._max_pixels = max_pixels
        self._scaled: LRUCache[str, tuple[ImageRef, bytes]] = LRUCache(_CACHE_BYTES, getsizeof=lambda scaled: len(scaled[1]))
        """By the original's digest."""

    async def fit(self, image: StoredImage) -> StoredImage:
        """The picture itself if it is within the budget, else a scaled copy.

        Raises:
            ThinkerError: when it cannot be decoded. An editor's output is accepted by its header and checksums, because decoding
                every picture would cost more than the few that are corrupt.
        """
        limit = self._max_pixels
        if limit is None or image.ref.width * image.ref.height <= limit:
            return image
        scaled = self._scaled.get(image.ref.sha256)
        if scaled is None:
            data = await image.load()
            try:
                scaled = await asyncio.to_thread(_scale, data, limit)
            except ApiError as exc:
                raise ThinkerError(exc.code, exc.message, kind="refused") from exc
            # Larger than the whole cache: not cached.
            with contextlib.suppress(ValueError):
                self._scaled[image.ref.sha256] = scaled
        ref, small = scaled

        async def load() -> bytes:
            return small

        return StoredImage(ref, load)


def _scale(data: bytes, limit: int) -> tuple[ImageRef, bytes]:
    image = decode(data, limits=UNLIMITED, param="the picture for the thinker")
    scale = math.sqrt(limit / (image.width * image.height))
    width, height = (max(1, int(side * scale)) for side in image.size)
    # Lossless, so that the thinker does not take compression artefacts for the editor's.
    small = encode(image.resize((width, height), Image.Resampling.LANCZOS), "png")
    ref = ImageRef(sha256=digest(small), media_type="image/png", bytes=len(small), width=width, height=height)
    return ref, small

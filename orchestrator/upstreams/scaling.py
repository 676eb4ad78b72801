"""Pictures for a thinker: the stored bytes, or, where they exceed its pixel budget, a scaled copy that is cached."""

from __future__ import annotations

import contextlib

from cachetools import LRUCache

from orchestrator.loop.events import ImageRef
from orchestrator.ports.collaborators import StoredImage
from orchestrator.ports.errors import ThinkerError
from services.errors import ApiError
from services.imaging.codec import digest
from services.imaging.decode_pool import DecodePool

_PARAM = "the picture for the thinker"
_CACHE_BYTES = 64 * 1024 * 1024


class Pictures:
    """Scales pictures to a pixel budget. A session's source is scaled once, since it is the same in every turn.

    Args:
        max_pixels: width x height; None sends every picture unchanged.
        decoder: scales them.
    """

    def __init__(self, max_pixels: int | None, decoder: DecodePool) -> None:
        self._decoder = decoder
        self._max_pixels = max_pixels
        self._scaled: LRUCache[str, tuple[ImageRef, bytes]] = LRUCache(_CACHE_BYTES, getsizeof=lambda scaled: len(scaled[1]))
        """By the original's digest."""

    async def fit(self, image: StoredImage, tenant: str = "") -> StoredImage:
        """The picture itself if it is within the budget, else a scaled copy: lossless, so that the thinker does not take
        compression artefacts for the editor's.

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
                small, width, height = await self._decoder.reduce(data, limit, param=_PARAM, tenant=tenant)
            except ApiError as exc:
                raise ThinkerError(exc.code, exc.message, kind="refused") from exc
            ref = ImageRef(sha256=digest(small), media_type="image/png", bytes=len(small), width=width, height=height)
            scaled = (ref, small)
            # Larger than the whole cache: not cached.
            with contextlib.suppress(ValueError):
                self._scaled[image.ref.sha256] = scaled
        ref, made = scaled

        async def load() -> bytes:
            return made

        return StoredImage(ref, load)

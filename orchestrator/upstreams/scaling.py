"""Pictures for a thinker: the stored bytes, or, where they exceed its pixel budget, a scaled copy that is cached; and the picture
of what may change, which is made of source and mask.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Hashable, Sequence

from cachetools import LRUCache

from orchestrator.loop.events import ImageRef
from orchestrator.ports.collaborators import StoredImage
from orchestrator.ports.errors import ThinkerError
from services.errors import ApiError
from services.imaging import shapes
from services.imaging.codec import digest
from services.imaging.decode_pool import DecodePool
from services.imaging.masks import WORKING_PIXELS

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
        self._made: LRUCache[Hashable, tuple[ImageRef, bytes]] = LRUCache(_CACHE_BYTES, getsizeof=lambda made: len(made[1]))
        """By the originals' digests, and the budget."""

    async def of_session(
        self,
        source: StoredImage,
        references: Sequence[StoredImage],
        mask: StoredImage | None,
        tenant: str = "",
        *,
        candidate: StoredImage | None = None,
    ) -> list[StoredImage]:
        """The pictures that are the same in all requests of a session: the source, its references, and what may change.

        References and area share the budget of one picture, so that the tokens of a request are bounded however many there are.
        The source comes at the candidate's size, where that is smaller and has nearly its shape: that an editor's native size is
        smaller is none of the edit's faults.

        Raises:
            ThinkerError: as `fit`.
        """
        most = self._max_pixels
        share = None if most is None else max(1, most // max(1, len(references) + (mask is not None)))
        shown = [await self._as_large(source, candidate or source, tenant)]
        shown += [await self._within(reference, share, tenant) for reference in references]
        if mask is not None:
            shown.append(await self._area(source, mask, min(share or WORKING_PIXELS, WORKING_PIXELS), tenant))
        return shown

    async def fit(self, image: StoredImage, tenant: str = "") -> StoredImage:
        """The picture itself if it is within the budget, else a scaled copy: lossless, so that the thinker does not take
        compression artefacts for the editor's.

        Raises:
            ThinkerError: when it cannot be decoded. An editor's output is accepted by its header and checksums, because decoding
                every picture would cost more than the few that are corrupt.
        """
        return await self._within(image, self._max_pixels, tenant)

    async def _as_large(self, source: StoredImage, candidate: StoredImage, tenant: str) -> StoredImage:
        made, ref = (candidate.ref.width, candidate.ref.height), source.ref
        if not shapes.enlarges(made, (ref.width, ref.height)):
            return await self.fit(source, tenant)

        async def make() -> tuple[bytes, int, int]:
            return await self._decoder.resize(await source.load(), made, param=_PARAM, tenant=tenant), *made

        return await self.fit(await self._cached((ref.sha256, made), make), tenant)

    async def _within(self, image: StoredImage, limit: int | None, tenant: str) -> StoredImage:
        if limit is None or image.ref.width * image.ref.height <= limit:
            return image

        async def make() -> tuple[bytes, int, int]:
            return await self._decoder.reduce(await image.load(), limit, param=_PARAM, tenant=tenant)

        return await self._cached((image.ref.sha256, limit), make)

    async def _area(self, source: StoredImage, mask: StoredImage, limit: int, tenant: str) -> StoredImage:
        async def make() -> tuple[bytes, int, int]:
            return await self._decoder.overlay(await source.load(), await mask.load(), limit, param=_PARAM, tenant=tenant)

        return await self._cached((source.ref.sha256, mask.ref.sha256, limit), make)

    async def _cached(self, key: Hashable, make: Callable[[], Awaitable[tuple[bytes, int, int]]]) -> StoredImage:
        made = self._made.get(key)
        if made is None:
            try:
                data, width, height = await make()
            except ApiError as exc:
                raise ThinkerError(exc.code, exc.message, kind="refused") from exc
            made = (ImageRef(sha256=digest(data), media_type="image/png", bytes=len(data), width=width, height=height), data)
            # Larger than the whole cache: not cached.
            with contextlib.suppress(ValueError):
                self._made[key] = made
        ref, data = made

        async def load() -> bytes:
            return data

        return StoredImage(ref, load)

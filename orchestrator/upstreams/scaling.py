"""Pictures as a thinker gets them: the bytes at hand, or, where they are larger than it looks at, scaled down once."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict

from PIL import Image

from orchestrator.loop.events import ImageRef
from orchestrator.ports import StoredImage, ThinkerError
from services.errors import ApiError
from services.imaging.codec import OURS, decode, digest, encode

_KEPT_BYTES = 64 * 1024 * 1024


class Pictures:
    """Scales pictures to a budget; a session's source is the same bytes in every turn.

    Args:
        max_pixels: width x height at most; None sends every picture as it is.
    """

    def __init__(self, max_pixels: int | None) -> None:
        self._max_pixels = max_pixels
        self._kept: OrderedDict[str, tuple[ImageRef, bytes]] = OrderedDict()
        self._size = 0

    async def fit(self, image: StoredImage) -> StoredImage:
        """The picture itself if it is small enough, else a smaller one.

        Raises:
            ThinkerError: when it cannot be decoded. An editor's reply is taken by its header and its checksums, since decoding
                every picture would cost more than the few that are broken.
        """
        limit = self._max_pixels
        if limit is None or image.ref.width * image.ref.height <= limit:
            return image
        known = self._kept.get(image.ref.sha256)
        if known is None:
            data = await image.load()
            try:
                known = await asyncio.to_thread(_smaller, data, limit)
            except ApiError as exc:
                raise ThinkerError(exc.code, exc.message, kind="refused") from exc
            self._keep(image.ref.sha256, known)
        else:
            self._kept.move_to_end(image.ref.sha256)
        ref, data = known

        async def load() -> bytes:
            return data

        return StoredImage(ref, load)

    def _keep(self, sha256: str, made: tuple[ImageRef, bytes]) -> None:
        if sha256 in self._kept:
            return
        self._kept[sha256] = made
        self._size += len(made[1])
        while self._size > _KEPT_BYTES and len(self._kept) > 1:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._size -= len(dropped)


def _smaller(data: bytes, limit: int) -> tuple[ImageRef, bytes]:
    image = decode(data, limits=OURS, param="the picture for the thinker")
    scale = math.sqrt(limit / (image.width * image.height))
    width, height = (max(1, int(side * scale)) for side in image.size)
    # Without loss: what a lossy encoder did to the picture must not be taken for the editor's doing.
    small = encode(image.resize((width, height), Image.Resampling.LANCZOS), "png")
    ref = ImageRef(sha256=digest(small), media_type="image/png", bytes=len(small), width=width, height=height)
    return ref, small

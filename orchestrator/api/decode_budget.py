"""A budget of pixels that are decoded concurrently: a file of six kilobytes can decode to half a gigabyte."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

DECODING_PIXELS: Final = 50_000_000
"""Of one replica: the largest accepted image, or several photographs; about a gigabyte at worst, with 16-bit samples."""
_SMALL: Final = 2_000_000
"""Images up to this size do not wait behind large ones; the number of threads bounds them."""


class DecodeBudget:
    """A number of pixels shared by the images that are being decoded; an image larger than the budget is decoded alone."""

    def __init__(self, pixels: int = DECODING_PIXELS) -> None:
        self._pixels = pixels
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def reserve(self, pixels: int) -> AsyncIterator[None]:
        """Wait until so many pixels are free, and hold them."""
        if pixels <= _SMALL:
            yield
            return
        while self._used and self._used + pixels > self._pixels:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        self._used += pixels
        try:
            yield
        finally:
            self._used -= pixels
            while self._waiting:
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(None)

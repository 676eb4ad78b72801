"""How many pixels are decoded at a time: a file of six kilobytes may become half a gigabyte, and thirty may come together."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

DECODING_PIXELS: Final = 50_000_000
"""At a time, in one replica: the largest picture there may be, or some photographs; about a gigabyte at worst, in 16 bits."""
_SMALL: Final = 2_000_000
"""What takes so little waits for no bomb; threads bound how many there are."""


class Room:
    """A number of pixels that pictures share while they are decoded; a picture that is larger than all of it goes alone."""

    def __init__(self, pixels: int = DECODING_PIXELS) -> None:
        self._most = pixels
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def of(self, pixels: int) -> AsyncIterator[None]:
        """Wait until there is room for so many pixels, and hold it."""
        if pixels <= _SMALL:
            yield
            return
        while self._used and self._used + pixels > self._most:
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

"""Keeps the digests of pictures that were made, after they were stored or converted: nobody waits for it.

Two digests of each: of the file's image data, which stays the same when metadata comes or goes, and of its pixels,
which is the same in every lossless encoding. The second takes a decode, in the pool's processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cachetools import LRUCache

from orchestrator.ports.errors import PortError
from orchestrator.ports.stores import MadeLog
from services.errors import ApiError
from services.imaging.codec import UNLIMITED
from services.imaging.decode_pool import DecodePool

log = logging.getLogger(__name__)
_NAMES: Final = 10_000
"""Pictures that are remembered as kept."""
_MOST_BYTES: Final = 64 * 1024 * 1024
"""Of pictures that wait. Above that they are dropped: the answer about them is then that it is not known."""


@dataclass(slots=True)
class MadePictures:
    """The pictures that are being noted.

    Attributes:
        made: where digests are kept.
        decoder: makes them.
        counted: is told whether those of a picture were ``kept`` or ``dropped``.
    """

    made: MadeLog
    decoder: DecodePool
    counted: Callable[[str], None] = lambda _: None
    _bytes: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _names: LRUCache[tuple[str, ...], bool] = field(default_factory=lambda: LRUCache(_NAMES))
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    def note(self, tenant: str, picture: bytes, name: tuple[str, ...] = ()) -> None:
        """Keep the digests of an encoded picture soon.

        Args:
            name: of the picture and its encoding, if it may come again: it is then kept once.
        """
        key = (tenant, *name)
        if not self.made.keeps or (name and key in self._names):
            return
        if self._bytes and self._bytes + len(picture) > _MOST_BYTES:
            self.counted("dropped")
            return
        if name:
            self._names[key] = True
        self._bytes += len(picture)
        task = asyncio.create_task(self._note(tenant, picture), name="digests of a picture")
        self._tasks.add(task)
        task.add_done_callback(partial(self._noted, len(picture)))

    def _noted(self, size: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._bytes -= size

    async def close(self) -> None:
        """Give up what is not done."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _note(self, tenant: str, picture: bytes) -> None:
        try:
            # One at a time: callers' own pictures go first.
            async with self._turn:
                told, _ = await self.decoder.provenance(picture, limits=UNLIMITED, tenant=tenant, digests=True)
            await self.made.add(tenant, [bytes.fromhex(digest) for digest in told["digests"]])
        except (ApiError, PortError) as exc:
            log.warning("the digests of a picture were not kept: %s", exc.message)
            self.counted("dropped")
        else:
            self.counted("kept")

"""Bytes that are made once for all who wait for them, and kept for those who come later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache


@dataclass(slots=True)
class _Making:
    """Something under way, and how many wait for it."""

    task: asyncio.Task[bytes]
    waiting: int = 0


@dataclass(slots=True)
class MadeOnce:
    """A cache whose missing values are made by one task each. The last caller to leave cancels it.

    Attributes:
        cache_bytes: what is kept in all; the least recently used goes first.
    """

    cache_bytes: int
    _cache: LRUCache[Hashable, bytes] = field(init=False)
    _under_way: dict[Hashable, _Making] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._cache = LRUCache(self.cache_bytes, getsizeof=len)

    async def get(self, name: Hashable, make: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """What is kept under that name, or what `make` returns; its error reaches all who wait, and is not kept."""
        known = self._cache.get(name)
        if known is not None:
            return known
        making = self._under_way.get(name)
        if making is None:
            making = self._under_way[name] = _Making(asyncio.create_task(make()))
            making.task.add_done_callback(lambda task: self._done(name, task))
        making.waiting += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if not making.waiting and not making.task.done():
                # Not joined by a later caller while it ends.
                if self._under_way.get(name) is making:
                    del self._under_way[name]
                making.task.cancel()

    def _done(self, name: Hashable, task: asyncio.Task[bytes]) -> None:
        making = self._under_way.get(name)
        if making is not None and making.task is task:
            del self._under_way[name]
        # The exception is retrieved, so that asyncio does not log that of a task whose callers left.
        if not task.cancelled() and task.exception() is None:
            # Larger than the whole cache: not kept.
            with contextlib.suppress(ValueError):
                self._cache[name] = task.result()

"""Stored images in another encoding: counted per tenant, shared between requests for the same, and cached."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from cachetools import LRUCache

from services.errors import ApiError
from services.imaging.codec import OutputFormat
from services.imaging.decode_pool import DecodePool

CACHE_BYTES: Final = 64 * 1024 * 1024
_WAITING: Final = 32
"""Transcodes of one tenant that wait for others of its own."""
_RETRY_S: Final = 2


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding of an image.

    Attributes:
        compression: OpenAI's ``output_compression``, or None.
        opaque: a transparent image is laid on white.
        max_side: pixels of the longer side, to which a larger image is reduced.
    """

    format: OutputFormat
    compression: int | None = None
    opaque: bool = False
    max_side: int | None = None

    @property
    def name(self) -> tuple[str, ...]:
        """It as text, as entity tags and the names of signed pictures have it."""
        more = [*(["opaque"] if self.opaque else []), *([f"side{self.max_side}"] if self.max_side else [])]
        return (str(self.format), str(self.compression), *more)


_Name = tuple[str, Encoding]


@dataclass(slots=True)
class _Tenant:
    """The transcodes of one tenant: `running` bounds those at work, `requests` counts them and those that wait."""

    running: asyncio.Semaphore
    requests: int = 0


@dataclass(slots=True)
class _Shared:
    """A transcode under way, and how many requests wait for it; the last one to leave cancels it."""

    task: asyncio.Task[bytes]
    requests: int = 0


@dataclass(slots=True)
class Transcodes:
    """Transcodes stored images.

    Attributes:
        pool: decodes and encodes them.
        tenant_running: transcodes of one tenant that run at a time; others of its own wait.
        cache_bytes: the results kept, by the digest of the image and the encoding.
    """

    pool: DecodePool
    tenant_running: int = 2
    cache_bytes: int = CACHE_BYTES
    _cache: LRUCache[_Name, bytes] = field(init=False)
    _under_way: dict[_Name, _Shared] = field(init=False, default_factory=dict)
    _tenants: dict[str, _Tenant] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._cache = LRUCache(self.cache_bytes, getsizeof=len)

    async def get(
        self,
        sha256: str,
        load: Callable[[], Awaitable[bytes]],
        encoding: Encoding,
        *,
        tenant: str,
        param: str = "format",
    ) -> bytes:
        """The image in an encoding.

        Args:
            sha256: digest of the stored image.
            load: reads it; called only if it is needed, and once the tenant's turn has come.
            encoding: the one that is wanted.
            tenant: whose transcodes are counted.
            param: the request field that asks for it.

        Raises:
            ApiError: ``overloaded`` when many transcodes of the tenant wait already, and as `DecodePool.transcode`.
        """
        name = (sha256, encoding)
        known = self._cache.get(name)
        if known is not None:
            return known
        shared = self._under_way.get(name)
        if shared is None:
            shared = _Shared(asyncio.create_task(self._transcode(name, load, tenant, param)))
            self._under_way[name] = shared
            shared.task.add_done_callback(lambda task: self._done(name, task))
        shared.requests += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.requests -= 1
            if not shared.requests and not shared.task.done():
                # Not joined by a later request while it ends.
                if self._under_way.get(name) is shared:
                    del self._under_way[name]
                shared.task.cancel()

    async def _transcode(self, name: _Name, load: Callable[[], Awaitable[bytes]], tenant: str, param: str) -> bytes:
        _, to = name
        async with self._turn(tenant, param):
            made = await self.pool.transcode(
                await load(), to.format, to.compression, opaque=to.opaque, max_side=to.max_side, param=param, tenant=tenant
            )
        # Larger than the whole cache: not cached.
        with contextlib.suppress(ValueError):
            self._cache[name] = made
        return made

    @contextlib.asynccontextmanager
    async def _turn(self, tenant: str, param: str) -> AsyncIterator[None]:
        state = self._tenants.setdefault(tenant, _Tenant(asyncio.Semaphore(self.tenant_running)))
        if state.requests >= self.tenant_running + _WAITING:
            message = f"{state.requests} of your images are being converted already; retry in a few seconds, or without {param}"
            raise ApiError("overloaded", message, param=param, retry_after=_RETRY_S)
        state.requests += 1
        try:
            async with state.running:
                yield
        finally:
            state.requests -= 1
            if not state.requests:
                del self._tenants[tenant]

    def _done(self, name: _Name, task: asyncio.Task[bytes]) -> None:
        shared = self._under_way.get(name)
        if shared is not None and shared.task is task:
            del self._under_way[name]
        if not task.cancelled():
            # Retrieved, so that asyncio does not log the exception of a task whose callers left.
            task.exception()

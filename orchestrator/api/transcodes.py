"""Stored images in another encoding: counted per tenant, shared between requests for the same, and cached."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from orchestrator.api.made_once import MadeOnce
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


@dataclass(slots=True)
class _Tenant:
    """The transcodes of one tenant: `running` bounds those at work, `requests` counts them and those that wait."""

    running: asyncio.Semaphore
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
    _made: MadeOnce = field(init=False)
    _tenants: dict[str, _Tenant] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._made = MadeOnce(self.cache_bytes)

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
        return await self._made.get((sha256, encoding), lambda: self._transcode(load, encoding, tenant, param))

    async def _transcode(self, load: Callable[[], Awaitable[bytes]], to: Encoding, tenant: str, param: str) -> bytes:
        async with self._turn(tenant, param):
            return await self.pool.transcode(
                await load(), to.format, to.compression, opaque=to.opaque, max_side=to.max_side, param=param, tenant=tenant
            )

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

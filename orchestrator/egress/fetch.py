"""Fetches an image from a caller's URL: public https, no redirects, bounded in time and size."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import httpcore
import httpx

from orchestrator.egress.addresses import (
    CheckedNetworkBackend,
    ForbiddenAddressError,
    InvalidURLError,
    checked_url,
    is_public,
    is_public_or_local,
)
from orchestrator.egress.resolver import NameResolver, ResolutionTimeoutError
from services.errors import ApiError, shown

_TIMEOUT_S: Final = 20.0
_MAX_CHUNKS: Final = 4096
"""Pieces of a file at any size, and one more for each `_CHUNK_BYTES`: one of a byte costs as much as one of 64 KiB."""
_CHUNK_BYTES: Final = 512
_STEP: Final = 1024 * 1024
"""How many bytes more are reserved at a time where the server does not tell the length: pictures have a few, and may have 50."""
Reserve = Callable[[int], Awaitable[None]]
"""Waits until so many bytes more may be held."""
_HEADERS: Final[dict[bytes | str, bytes | str]] = {"Accept": "image/*", "Accept-Encoding": "identity"}


async def fetch_image(
    url: str,
    *,
    max_bytes: int,
    param: str,
    tenant: str,
    resolver: NameResolver,
    reserve: Reserve,
    trusted: bool = False,
) -> bytes:
    """Download the image at a tenant's URL.

    Args:
        reserve: waits until so many bytes may be held, before they are read.
        trusted: whether the operator named the host: it may be in a private network, and the URL http.

    Raises:
        ApiError: ``invalid_url``, ``url_forbidden``, ``url_unreachable`` or ``image_too_large``, naming `param`; and those of
            `reserve`.
    """
    allowed = is_public_or_local if trusted else is_public
    try:
        target = checked_url(url, allowed=allowed, http_anywhere=trusted)
    except InvalidURLError as exc:
        raise ApiError(exc.code, f"{param}: {exc.message}; send an https URL, or the image itself", param=param) from exc
    pool = httpcore.AsyncConnectionPool(
        ssl_context=httpx.create_ssl_context(), network_backend=CheckedNetworkBackend(resolver, tenant, allowed)
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S) as limit, pool, pool.stream("GET", target, headers=_HEADERS) as reply:
            if reply.status != 200:  # noqa: PLR2004
                message = f"{param}: the URL answered {reply.status}; redirects are not followed"
                raise ApiError("url_unreachable", message, param=param)
            return await _bounded(reply, max_bytes, param, lambda size: _untimed(limit, reserve(size)))
    except ForbiddenAddressError as exc:
        message = f"{param}: the URL leads to an address that is not public; send the image itself"
        raise ApiError("url_forbidden", message, param=param) from exc
    except ResolutionTimeoutError as exc:
        raise ApiError("url_unreachable", f"{param}: {exc}; try again, or send the image itself", param=param) from exc
    except (TimeoutError, OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as exc:
        raise ApiError("url_unreachable", f"{param}: the URL could not be fetched", param=param) from exc


async def _untimed(limit: asyncio.Timeout, wait: Awaitable[None]) -> None:
    """Wait for other requests without counting it: it is not the URL that is slow."""
    loop, ends = asyncio.get_running_loop(), limit.when()
    began = loop.time()
    limit.reschedule(None)
    await wait
    limit.reschedule(None if ends is None else ends + loop.time() - began)


def _length(reply: httpcore.Response, max_bytes: int) -> int | None:
    """The bytes that will be read at most, if the server tells."""
    told = [value for name, value in reply.headers if name.lower() == b"content-length" and value.isdigit()]
    return min([max_bytes, *map(int, told)]) if told else None


async def _bounded(reply: httpcore.Response, max_bytes: int, param: str, reserve: Reserve) -> bytes:
    encodings = [value.decode("latin-1").strip().lower() for name, value in reply.headers if name.lower() == b"content-encoding"]
    if any(encoding not in {"", "identity"} for encoding in encodings):
        # Never decoded: a few kilobytes can stand for gigabytes.
        message = f"{param}: the URL answered with the content encoding {shown(', '.join(encodings))}; send the image itself"
        raise ApiError("url_unreachable", message, param=param)
    step = min(_STEP, max_bytes)
    reserved = _length(reply, max_bytes) or step
    await reserve(reserved)
    chunks: list[bytes] = []
    size = 0
    async for chunk in reply.aiter_stream():
        size += len(chunk)
        if size > max_bytes:
            raise ApiError("image_too_large", f"{param}: the file behind the URL is larger than {max_bytes:,} bytes", param=param)
        if len(chunks) > _MAX_CHUNKS + size // _CHUNK_BYTES:
            raise ApiError(
                "url_unreachable", f"{param}: the URL answered in too many small chunks; send the image itself", param=param
            )
        while size > reserved:
            await reserve(step)
            reserved += step
        chunks.append(chunk)
    return b"".join(chunks)

"""Fetches an image from a caller's URL without becoming a way into the private network.

https only, no redirects, no credentials; the name is resolved here, every address must be public, and the connection
goes to the very address that was checked (so a second DNS answer cannot change it).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any, Final

import httpcore
import httpx

from services.wire.errors import ApiError

_TIMEOUT_S: Final = 20.0


class _Private(Exception):
    """The name leads to an address that is not public."""


class _PublicOnly(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check every address, connect to the first."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(info[4][0]) for info in found]
        if not addresses or not all(is_public(address) for address in addresses):
            raise _Private(host)
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Used by httpcore between connection retries, of which there are none here."""
        await self._inner.sleep(seconds)


def is_public(address: str) -> bool:
    """Whether an IP address is reachable by everybody: not private, loopback, link-local, reserved or mapped to one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None and not is_public(str(inner)):
            return False
    return ip.is_global and not ip.is_multicast


async def fetch_image(url: str, *, max_bytes: int, param: str) -> bytes:
    """The bytes behind a URL.

    Raises:
        ApiError: ``invalid_url``, ``url_forbidden``, ``url_unreachable`` or ``image_too_large``, naming `param`.
    """
    _check(url, param)
    pool = httpcore.AsyncConnectionPool(ssl_context=httpx.create_ssl_context(), network_backend=_PublicOnly())
    try:
        async with asyncio.timeout(_TIMEOUT_S), pool, pool.stream("GET", url, headers={"Accept": "image/*"}) as reply:
            if reply.status != 200:  # noqa: PLR2004
                message = f"{param}: the URL answered {reply.status}; redirects are not followed"
                raise ApiError("url_unreachable", message, param=param)
            return await _bounded(reply, max_bytes, param)
    except _Private as exc:
        message = f"{param}: the URL leads to an address that is not public; send the image itself"
        raise ApiError("url_forbidden", message, param=param) from exc
    except (TimeoutError, OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as exc:
        raise ApiError("url_unreachable", f"{param}: the URL could not be fetched", param=param) from exc


def _check(url: str, param: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise ApiError("invalid_url", f"{param}: not a valid URL", param=param) from exc
    if parsed.scheme != "https" or not parsed.host:
        raise ApiError("invalid_url", f"{param}: only https URLs, data URLs and base64 are read", param=param)
    if parsed.userinfo:
        raise ApiError("invalid_url", f"{param}: a URL with a user name or password is not fetched", param=param)
    try:
        address = ipaddress.ip_address(parsed.host.strip("[]"))
    except ValueError:
        return
    if not is_public(str(address)):
        raise ApiError("url_forbidden", f"{param}: the URL leads to an address that is not public", param=param)


async def _bounded(reply: httpcore.Response, max_bytes: int, param: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in reply.aiter_stream():
        size += len(chunk)
        if size > max_bytes:
            raise ApiError("image_too_large", f"{param}: the file behind the URL is larger than {max_bytes:,} bytes", param=param)
        chunks.append(chunk)
    return b"".join(chunks)

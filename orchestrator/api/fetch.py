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
_LONGEST_HOST: Final = 253
_LAST_PORT: Final = 65_535
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


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
    """Whether an IP address is everybody's: not private, loopback, link-local, reserved, nor a way to one that is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped
        if inner is not None:
            return is_public(str(inner))
        # 6to4 and Teredo wrap IPv4 addresses, too, and no server lives there any longer.
        if ip not in _GLOBAL_UNICAST or ip.sixtofour or ip.teredo:
            return False
    return ip.is_global and not ip.is_multicast


async def fetch_image(url: str, *, max_bytes: int, param: str) -> bytes:
    """The bytes behind a URL.

    Raises:
        ApiError: ``invalid_url``, ``url_forbidden``, ``url_unreachable`` or ``image_too_large``, naming `param`.
    """
    target = _checked(url, param)
    pool = httpcore.AsyncConnectionPool(ssl_context=httpx.create_ssl_context(), network_backend=_PublicOnly())
    try:
        async with asyncio.timeout(_TIMEOUT_S), pool, pool.stream("GET", target, headers={"Accept": "image/*"}) as reply:
            if reply.status != 200:  # noqa: PLR2004
                message = f"{param}: the URL answered {reply.status}; redirects are not followed"
                raise ApiError("url_unreachable", message, param=param)
            return await _bounded(reply, max_bytes, param)
    except _Private as exc:
        message = f"{param}: the URL leads to an address that is not public; send the image itself"
        raise ApiError("url_forbidden", message, param=param) from exc
    except (TimeoutError, OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as exc:
        raise ApiError("url_unreachable", f"{param}: the URL could not be fetched", param=param) from exc


def _checked(url: str, param: str) -> httpcore.URL:
    """The URL as it is requested, in the one reading that was checked."""
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
        host.encode("idna")  # as the look-up will: labels that are empty or too long
        shown = parsed.host
    except (httpx.InvalidURL, UnicodeError) as exc:
        raise ApiError("invalid_url", f"{param}: not a valid URL", param=param) from exc
    if len(host) > _LONGEST_HOST or (parsed.port is not None and not 0 < parsed.port <= _LAST_PORT):
        raise ApiError("invalid_url", f"{param}: not a valid URL", param=param)
    if parsed.scheme != "https" or not host:
        raise ApiError("invalid_url", f"{param}: only https URLs, data URLs and base64 are read", param=param)
    if parsed.userinfo:
        raise ApiError("invalid_url", f"{param}: a URL with a user name or password is not fetched", param=param)
    try:
        public = is_public(shown.strip("[]"))
    except ValueError:
        public = True  # a name; where it leads is checked when it is looked up
    if not public:
        raise ApiError("url_forbidden", f"{param}: the URL leads to an address that is not public", param=param)
    return httpcore.URL(scheme=b"https", host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)


async def _bounded(reply: httpcore.Response, max_bytes: int, param: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in reply.aiter_stream():
        size += len(chunk)
        if size > max_bytes:
            raise ApiError("image_too_large", f"{param}: the file behind the URL is larger than {max_bytes:,} bytes", param=param)
        chunks.append(chunk)
    return b"".join(chunks)

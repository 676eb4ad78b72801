"""Requests to URLs that callers choose, without access to private networks (SSRF protection).

No redirects and no credentials. The host is resolved here, every address must be allowed, and the connection goes to an address
that was checked, so a second DNS answer cannot change it (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import httpcore
import httpx

from orchestrator.egress.resolver import NameResolver

_MAX_HOST_LENGTH: Final = 253
_LAST_PORT: Final = 65_535
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL: Final = tuple(
    ipaddress.ip_network(block)
    for block in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)

_METADATA: Final = ipaddress.ip_address("fd00:ec2::254")
"""AWS keeps credentials behind this address too, which is not link-local ("Instance Metadata Service", IPv6 endpoint)."""


class ForbiddenAddressError(Exception):
    """The host has an address that is not allowed."""


class InvalidURLError(Exception):
    """A URL that is not requested.

    Attributes:
        code: of the error table.
    """

    def __init__(self, code: Literal["invalid_url", "url_forbidden"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def is_public(address: str) -> bool:
    """Whether an IP address is public: not private, loopback, link-local or reserved, nor a translated form of such a one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped
        if inner is not None:
            return is_public(str(inner))
        # 6to4 and Teredo wrap IPv4 addresses too, and no server uses them any longer.
        if ip not in _GLOBAL_UNICAST or ip.sixtofour or ip.teredo:
            return False
    return ip.is_global and not ip.is_multicast


def is_public_or_local(address: str) -> bool:
    """Whether an IP address is public, loopback or of a private network. Link-local addresses (cloud metadata) are not."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip != _METADATA and (is_public(address) or any(ip in block for block in _LOCAL if block.version == ip.version))


class CheckedNetworkBackend(httpcore.AsyncNetworkBackend):
    """Connects to allowed addresses only.

    Args:
        resolver: resolves host names.
        tenant: the tenant that named the host.
        allowed: whether an address is allowed.
    """

    def __init__(self, resolver: NameResolver, tenant: str, allowed: Callable[[str], bool] = is_public) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._resolver = resolver
        self._tenant = tenant
        self._allowed = allowed

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve the host, check every address, and connect to the first."""
        addresses = await self._resolver.resolve(host, port, self._tenant)
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise ForbiddenAddressError(host)
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Required by httpcore, for connection retries, which are not used here."""
        await self._inner.sleep(seconds)


def checked_url(
    url: str, *, allowed: Callable[[str], bool] = is_public, allow_http: bool = False, http_anywhere: bool = False
) -> httpcore.URL:
    """Parse a URL once, check it, and return the parsed form that is requested; an address in it must be allowed.

    Args:
        allow_http: whether http is allowed on this machine.
        http_anywhere: whether it is on all.

    Raises:
        InvalidURLError: with why it is not requested.
    """
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
        host.encode("idna")  # as getaddrinfo will: fails for labels that are empty or too long
        shown = parsed.host
    except (httpx.InvalidURL, UnicodeError) as exc:
        raise InvalidURLError("invalid_url", "not a valid URL") from exc
    if len(host) > _MAX_HOST_LENGTH or (parsed.port is not None and not 0 < parsed.port <= _LAST_PORT):
        raise InvalidURLError("invalid_url", "not a valid URL")
    http = http_anywhere or (allow_http and _is_loopback(shown))
    if not host or parsed.scheme not in ({"https", "http"} if http else {"https"}):
        raise InvalidURLError("invalid_url", "only https URLs are called")
    if parsed.userinfo:
        raise InvalidURLError("invalid_url", "a URL with a user name or password is not called")
    try:
        permitted = allowed(shown.strip("[]"))
    except ValueError:
        permitted = True  # a name, whose addresses are checked when it is resolved
    if not permitted:
        raise InvalidURLError("url_forbidden", "the URL leads to an address that is not public")
    return httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

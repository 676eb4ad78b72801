"""Strangers' URLs, without becoming a way into the private network.

No redirects and no credentials; the name is resolved here, every address must be allowed, and the connection goes to the
very address that was checked (so a second DNS answer cannot change it).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import httpcore
import httpx

from orchestrator.egress.lookups import Lookups

_LONGEST_HOST: Final = 253
_LAST_PORT: Final = 65_535
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NEAR: Final = tuple(
    ipaddress.ip_network(block)
    for block in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)


class PrivateAddressError(Exception):
    """The name leads to an address that is not allowed."""


class InvalidURLError(Exception):
    """A URL that is not called: a code of the error table, and why."""

    def __init__(self, code: Literal["invalid_url", "url_forbidden"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


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


def is_near_or_public(address: str) -> bool:
    """Whether it is everybody's, this machine's, or of a private network; never a cloud's metadata, which is link-local."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return is_public(address) or any(ip in block for block in _NEAR if block.version == ip.version)


class Checked(httpcore.AsyncNetworkBackend):
    """Connects to allowed addresses only.

    Args:
        lookups: finds them.
        whose: the tenant that named the host.
        allowed: which are.
    """

    def __init__(self, lookups: Lookups, whose: str, allowed: Callable[[str], bool] = is_public) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._lookups = lookups
        self._whose = whose
        self._allowed = allowed

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check every address, connect to the first."""
        addresses = await self._lookups.find(host, port, self._whose)
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise PrivateAddressError(host)
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Used by httpcore between connection retries, of which there are none here."""
        await self._inner.sleep(seconds)


def read_url(url: str, *, allowed: Callable[[str], bool] = is_public, plain: bool = False) -> httpcore.URL:
    """The URL as it is requested, in the one reading that was checked; an address in it must be allowed.

    Args:
        plain: whether http will do on this machine.

    Raises:
        InvalidURLError: why it is not called.
    """
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
        host.encode("idna")  # as the look-up will: labels that are empty or too long
        shown = parsed.host
    except (httpx.InvalidURL, UnicodeError) as exc:
        raise InvalidURLError("invalid_url", "not a valid URL") from exc
    if len(host) > _LONGEST_HOST or (parsed.port is not None and not 0 < parsed.port <= _LAST_PORT):
        raise InvalidURLError("invalid_url", "not a valid URL")
    if not host or parsed.scheme not in ({"https", "http"} if plain and _is_here(shown) else {"https"}):
        raise InvalidURLError("invalid_url", "only https URLs are called")
    if parsed.userinfo:
        raise InvalidURLError("invalid_url", "a URL with a user name or password is not called")
    try:
        fit = allowed(shown.strip("[]"))
    except ValueError:
        fit = True  # a name; where it leads is checked when it is looked up
    if not fit:
        raise InvalidURLError("url_forbidden", "the URL leads to an address that is not public")
    return httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

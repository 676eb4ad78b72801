"""Which host names and web origins a request may come with, and the headers that keep browsers from misusing responses.

A server that asks for no key trusts all that reaches it, and a browser on the same machine reaches it on behalf of every open
page. Two attacks follow, with a check for each:

- DNS rebinding: the page's own name is made to resolve to this server, so that its requests are same-origin. Their Host header
  still has that name, and only names that nobody else can own are accepted.
- Cross-site requests: a form or a fetch of a foreign page. Browsers say so in Origin or, for requests without it, in
  Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/).

A server that asks for a key needs neither, since browsers attach no bearer token by themselves. There the list of origins is
CORS alone (https://fetch.spec.whatwg.org/#http-cors-protocol): which pages may send a key that they have, and read the response.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import Counter
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import ApiError, shown

Header = tuple[bytes, bytes]

_PROBES: Final = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
"""Requested by address or by the names of a cluster; they are documented as public."""
_PAGES: Final = re.compile(r"/|/studio(?:/.*)?")
"""Pages without data: links of other sites may lead there. What such a page then requests is same-origin."""
_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".svc", ".home.arpa")
"""Names that no public name server answers for: RFC 6761, RFC 6762, ICANN's .internal (2024), Kubernetes, RFC 8375."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,252}[a-z0-9])?")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,?#@*]+")
_METHODS: Final = "GET, HEAD, POST, DELETE"
_REQUEST_HEADERS: Final = (
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "prefer",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-tenant",
)
_CLIENT_HEADERS: Final = re.compile(r"(x-stainless-|openai-)[a-z0-9-]{1,60}")
"""What OpenAI's JavaScript client adds to its requests."""
_RESPONSE_HEADERS: Final = (
    "editthinker-ignored, idempotent-replayed, location, preference-applied, retry-after, server-timing, x-request-id, "
    "x-session-id, x-should-retry"
)
_PREFLIGHT_S: Final = 600
_SEEN_HEADERS: Final = "editthinker.response_headers"
"""The scope's entry for the headers of this response; for the handler of unexpected errors, which answers outside."""

_STRICT: Final[tuple[Header, ...]] = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""A response is data: nothing in it may run or be framed, and links in it do not tell where they were."""


def host_of(value: str) -> str | None:
    """The name or address in a Host header, lower case and without its port; None if it is malformed."""
    text = value.strip().lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        if not bracket or not _is_port(port) or _address(name) is None:
            return None
        return name
    name, colon, port = text.partition(":")
    if not _is_port(colon + port):
        return None
    name = name.removesuffix(".")
    return name if _NAME.fullmatch(name) else None


def _is_port(text: str) -> bool:
    return not text or (text[0] == ":" and text[1:].isascii() and text[1:].isdigit() and int(text[1:7]) <= 65_535)  # noqa: PLR2004


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a name or an address is that of the machine itself."""
    address = _address(host.strip("[]"))
    return address.is_loopback if address else host.lower() == "localhost"


def origins_in(text: str) -> tuple[str, ...]:
    """The origins of a setting: separated by commas, each as a browser sends it.

    Raises:
        ValueError: with what is wrong with one of them.
    """
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for origin in found:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is not an origin: write https://app.example.com, without a path; * is not allowed")
    return found


def hosts_in(text: str) -> tuple[str, ...]:
    """The host names of a setting: separated by commas, without ports.

    Raises:
        ValueError: with what is wrong with one of them.
    """
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for name in found:
        if host_of(f"[{name}]" if name.count(":") > 1 else name) != name:
            raise ValueError(f"{name!r} is not a host name: write edit.example.com, without a scheme or a port; * is not allowed")
    return found


@dataclass(frozen=True)
class OriginPolicy:
    """The host names and web origins that a service accepts.

    Attributes:
        keyless: whether requests need no key; only then hosts and origins are checked.
        loopback: whether the service listens on loopback only.
        hosts: further names by which it is called.
        origins: web origins whose pages may call it.
        setting: the prefix of the settings that messages name.
        cors: whether it has a setting for web origins.
    """

    keyless: bool = True
    loopback: bool = True
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    setting: str = "EDITTHINKER_"
    cors: bool = False
    refused: Counter = field(
        default_factory=lambda: Counter(
            "editthinker_origin_refused", "Requests refused for their Host or their web origin.", ["reason"], registry=None
        ),
        compare=False,
    )

    @classmethod
    def of(
        cls,
        listens_on: str,
        *,
        keyless: bool,
        setting: str,
        hosts: str = "",
        public_url: str | None = None,
        cors: str | None = None,
    ) -> OriginPolicy:
        """The policy of a service.

        Args:
            listens_on: the address that it is bound to.
            keyless: whether it needs no key.
            setting: prefix of its settings.
            hosts: its further names, separated by commas.
            public_url: its URL for callers.
            cors: web origins, separated by commas; None where it has no such setting.
        """
        public = urlsplit(public_url.lower()) if public_url else None
        names = {*hosts_in(hosts), *([public.hostname] if public and public.hostname else [])}
        origins = {*origins_in(cors or ""), *([f"{public.scheme}://{public.netloc}"] if public else [])}
        return cls(keyless, is_loopback(listens_on), frozenset(names), frozenset(origins), setting, cors is not None)

    def knows(self, host: str | None) -> bool:
        """Whether a Host header has a name of this service that no stranger can make resolve to it."""
        name = None if host is None else host_of(host)
        if name is None:
            return False
        return is_loopback(name) or name in self.hosts or (not self.loopback and _is_private(name))

    def check(self, path: str, headers: dict[bytes, list[bytes]]) -> None:
        """Check a request's Host and origin.

        Raises:
            ApiError: ``forbidden``, naming the header and the setting that allows it.
        """
        if not self.keyless or path in _PROBES:
            return
        host = self._checked_host(headers.get(b"host", []))
        origins = headers.get(b"origin", [])
        if origins:
            given = origins[0].decode("latin-1").lower()
            if len(origins) == 1 and (given in self.origins or given.partition("://")[2] == host):
                return
            self.refused.labels("origin").inc()
            raise ApiError("forbidden", f"Origin: {self._foreign()}", param="Origin")
        own = headers.get(b"sec-fetch-site", [b"none"])[0].lower() in {b"none", b"same-origin"}
        if not own and not _is_link(path, headers):
            self.refused.labels("origin").inc()
            raise ApiError("forbidden", f"Sec-Fetch-Site: {self._foreign()}", param="Sec-Fetch-Site")

    def _checked_host(self, hosts: list[bytes]) -> str | None:
        # A browser always sends one. A client of HTTP/1.0 may not, and its request names nothing that could be wrong.
        if not hosts:
            return None
        host = hosts[0].decode("latin-1").strip().lower()
        if len(hosts) > 1 or not self.knows(host):
            self.refused.labels("host").inc()
            message = (
                "Host: this server needs no key, so it answers to its own names only; call it as localhost, "
                f"or add the name to {self.setting}ALLOWED_HOSTS"
            )
            raise ApiError("forbidden", message, param="Host")
        return host

    def _foreign(self) -> str:
        allow = f", or allow its origin with {self.setting}CORS_ORIGINS" if self.cors else ""
        return f"this server needs no key, so pages of other sites may not call it; call it without a browser{allow}"

    def cors_headers(self, headers: dict[bytes, list[bytes]]) -> list[Header]:
        """The CORS headers of a response."""
        if not self.origins:
            return []
        origin = (headers.get(b"origin") or [b""])[0]
        if origin.decode("latin-1").lower() not in self.origins:
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _RESPONSE_HEADERS.encode()),
        ]

    def preflight(self, method: str, headers: dict[bytes, list[bytes]]) -> Response | None:
        """The response to a preflight request of an allowed page; None for other requests.

        Raises:
            ApiError: ``forbidden`` for another page, naming the setting that allows it.
        """
        origin = (headers.get(b"origin") or [b""])[0].decode("latin-1").lower()
        if method != "OPTIONS" or b"access-control-request-method" not in headers or not origin:
            return None
        if origin not in self.origins:
            if not self.cors:
                return None
            message = f"Origin: pages of {shown(origin)} may not call this server; allow them with {self.setting}CORS_ORIGINS"
            raise ApiError("forbidden", message, param="Origin")
        asked = b",".join(headers.get(b"access-control-request-headers", [])).decode("latin-1").lower()
        of_clients = {name for name in (part.strip() for part in asked.split(",")) if _CLIENT_HEADERS.fullmatch(name)}
        allowed = {
            "access-control-allow-methods": _METHODS,
            "access-control-allow-headers": ", ".join([*_REQUEST_HEADERS, *sorted(of_clients)]),
            "access-control-max-age": str(_PREFLIGHT_S),
        }
        return Response(status_code=204, headers=allowed)


def _is_link(path: str, headers: dict[bytes, list[bytes]]) -> bool:
    """Whether a request shows one of the pages in a window of its own, and not in a frame or as part of another page."""
    shown = [headers.get(name) for name in (b"sec-fetch-mode", b"sec-fetch-dest")]
    return shown == [[b"navigate"], [b"document"]] and bool(_PAGES.fullmatch(path))


def _is_private(name: str) -> bool:
    """An address, or a name that only private name servers know."""
    return _address(name) is not None or "." not in name or name.endswith((*_PRIVATE_SUFFIXES, ".cluster.local"))


class ResponseHeaders:
    """ASGI middleware: adds the security headers and those of CORS to every response, errors of other middleware included."""

    def __init__(self, app: ASGIApp, *, policy: OriginPolicy) -> None:
        self.app = app
        self.policy = policy
        self._fixed = [*_STRICT, *([(b"cross-origin-resource-policy", b"same-origin")] if policy.keyless else [])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        cors = self.policy.cors_headers(grouped(scope["headers"])) if self.policy.origins else []
        scope[_SEEN_HEADERS] = [*self._fixed, *cors]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message["headers"]
                names = {name for name, _ in given}
                message["headers"] = [*given, *(pair for pair in self._fixed if pair[0] not in names), *cors]
            await send(message)

        await self.app(scope, receive, with_headers)


def response_headers(scope: Scope) -> dict[str, str]:
    """The headers that `ResponseHeaders` adds, for a response that is sent outside of it."""
    return {name.decode(): value.decode("latin-1") for name, value in scope.get(_SEEN_HEADERS, ())}


def grouped(headers: Iterable[Header]) -> dict[bytes, list[bytes]]:
    """Header values by name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found

"""Authentication by bearer keys, scopes and quotas.

With keys required, every route needs one except the service's own (health, metrics, documentation) and the studio's files. A
tenant sees its own sessions only; those of other tenants do not exist for it.

A browser that is signed in (`orchestrator.api.sign_in`) has a cookie in place of the key. Unlike a key, a browser sends it by
itself, so it counts only in requests of this server's own pages: SameSite=Strict leaves it out of those of other sites, and
`_check_own_page` refuses those of other origins of the same site (https://www.w3.org/TR/fetch-metadata/; RFC 6454, section 7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.ports.stores import ApiKey, ApiKeys, Bounds, Quota, RateLimiter, RateUsage, SignIn, check_tenant
from orchestrator.ports.stores import Scope as KeyScope
from services.errors import ApiError
from services.serving.bearer import how_to_send, token_of

DEFAULT_TENANT: Final = "default"
"""The tenant of all callers where no keys are required."""
TENANT_HEADER: Final = "x-tenant"
BEARER: Final = HTTPBearer(
    bearerFormat="et_…",
    description="An API key, where the server requires keys. One with the scope `admin` may name a tenant in `X-Tenant`.",
    auto_error=False,
)
"""For the OpenAPI document; `Access` reads the header itself."""
COOKIE: Final = "editthinker_sign_in"
SECURE_COOKIE: Final = f"__Host-{COOKIE}"
"""Over https; browsers then accept it from this host alone (RFC 6265bis, section 4.1.3.2)."""
_SIGNED_OUT: Final = "this browser is signed out: its time is over, or the API key is no longer valid; sign in again"
_WRONG: Final = "this API key is not valid: it is mistyped, revoked or expired"


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant of a request, and the id of its key (empty where none was needed)."""

    tenant: str = DEFAULT_TENANT
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """Authenticates callers and applies their quotas.

    Attributes:
        rates: counts requests for new sessions, for all replicas together.
        required: whether a key is needed.
        quota: the default of tenants for which none was set.
        redis_bytes: the bound where neither has one; it is lowered to the tenant's share of a small Redis.
        public_url: of the server, for callers; empty if it is not known.
    """

    keys: ApiKeys
    rates: RateLimiter
    required: bool = False
    quota: Quota = field(default_factory=Quota)
    redis_bytes: int | None = None
    public_url: str = ""

    async def admit(self, request: Request, scope: KeyScope | None) -> Caller:
        """Authenticate a request and check the scope of its key; None is any.

        Raises:
            ApiError: ``invalid_api_key`` (401) without a valid key, ``forbidden`` (403) where it lacks the scope.
        """
        requested = request.headers.get(TENANT_HEADER)
        if not self.required:
            return _on_behalf_of(Caller(), requested, admin=False)
        key = await self.key(request)
        if scope is not None and scope not in key.scopes and "admin" not in key.scopes:
            raise ApiError("forbidden", f"this key may {_listed(key.scopes)}; the request needs the scope {scope}")
        return _on_behalf_of(Caller(key.tenant, key.id), requested, admin="admin" in key.scopes)

    async def bounds_of(self, tenant: str, redis_share: int | None = None) -> Bounds:
        """The tenant's bounds on unfinished sessions, editor seconds a day, and bytes.

        Args:
            redis_share: bytes of Redis that a tenant may use where nobody set another bound.
        """
        quota, default = await self._quota(tenant), self.quota
        # A quota that says nothing about bytes does not lift the server's bounds.
        log_bytes = default.redis_bytes if quota.redis_bytes is None else quota.redis_bytes
        if log_bytes is None and self.redis_bytes is not None:
            log_bytes = min(self.redis_bytes, redis_share or self.redis_bytes)
        blob_bytes = default.blob_bytes if quota.blob_bytes is None else quota.blob_bytes
        return Bounds(quota.unfinished, quota.editor_s_per_day, log_bytes, blob_bytes)

    async def count(self, request: Request, tenant: str) -> None:
        """Count a request for a new session; the response says what is left (`RateLimitHeaders`).

        Raises:
            ApiError: ``rate_limited`` when the tenant exceeds its rate.
        """
        rate = (await self._quota(tenant)).rate
        if not rate:
            return
        within, usages = await self.rates.hit(rate, tenant)
        request.state.rate_limit = usages
        if not within:
            wait_s = max((usage.reset_s for usage in usages if not usage.remaining), default=1)
            raise ApiError("rate_limited", f"no more than {rate} requests for new sessions; try again later", retry_after=wait_s)

    async def _quota(self, tenant: str) -> Quota:
        return await self.keys.quota(tenant) or replace(self.quota, redis_bytes=None, blob_bytes=None)

    async def key(self, request: Request) -> ApiKey:
        """The key of a request: that which it has, or that with which its browser is signed in.

        Raises:
            ApiError: ``invalid_api_key``; ``forbidden`` where another page uses the browser's sign-in.
        """
        secret = token_of(request)
        if secret is not None:
            key = await self.keys.find(secret)
            if key is None:
                raise ApiError("invalid_api_key", _WRONG)
            return key
        if "authorization" in request.headers or self.cookie(request) is None:
            raise ApiError("invalid_api_key", how_to_send(request, "et_…"))
        found = await self.sign_in_of(request)
        if found is None:
            raise ApiError("invalid_api_key", _SIGNED_OUT)
        return found.key

    def cookie(self, request: Request) -> str | None:
        """The token of a browser that is signed in."""
        # Another host of the same site can set a cookie of a plain name, and so sign a browser in as somebody else. What changes
        # something has an Origin, which tells https also where nobody configured the server's URL.
        secure = "https:" in (self.public_url[:6], request.headers.get("origin", "")[:6])
        return request.cookies.get(SECURE_COOKIE, None if secure else request.cookies.get(COOKIE))

    async def sign_in_of(self, request: Request) -> SignIn | None:
        """The sign-in of a request's browser.

        Raises:
            ApiError: ``forbidden`` where it is another page that makes the request.
        """
        token = self.cookie(request)
        if token is None:
            return None
        self.check_own_page(request)
        return await self.keys.signed_in(token)

    def check_own_page(self, request: Request) -> None:
        """Refuse a request that a page of another origin makes.

        Raises:
            ApiError: ``forbidden``.
        """
        _check_own_page(request, self.public_url)


class RateLimitHeaders:
    """ASGI middleware: tells callers what is left of their rates, in the fields of draft-ietf-httpapi-ratelimit-headers-10."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""

        async def with_headers(message: Message) -> None:
            usages: tuple[RateUsage, ...] = scope.get("state", {}).get("rate_limit", ())
            if usages and message["type"] == "http.response.start":
                policy = ", ".join(f'"{usage.name}";q={usage.limit};w={usage.window_s}' for usage in usages)
                left = ", ".join(f'"{usage.name}";r={usage.remaining};t={usage.reset_s}' for usage in usages)
                headers = [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        await self.app(scope, receive, with_headers)


def access_ended() -> ApiError:
    """The error for a caller whose key was valid when it began to wait."""
    return ApiError("invalid_api_key", _WRONG)


def _check_own_page(request: Request, public_url: str) -> None:
    """Refuse a request that a page of another origin makes with this browser's cookie."""
    changes = request.method not in {"GET", "HEAD"}
    site = request.headers.get("sec-fetch-site", "same-origin")
    # `none`: the person typed the address, which cannot change anything.
    own = site == "same-origin" or (site == "none" and not changes)
    origin = request.headers.get("origin")
    if origin is not None:
        parts = urlsplit(public_url)
        own = own and (origin.partition("://")[2] == request.headers.get("host") or origin == f"{parts.scheme}://{parts.netloc}")
    if not own or (changes and origin is None):
        raise ApiError("forbidden", "Origin: only this server's own pages may use a browser's sign-in; send an API key")


def _on_behalf_of(caller: Caller, requested: str | None, *, admin: bool) -> Caller:
    """The caller, acting for the tenant that the request names."""
    if requested is None or requested == caller.tenant:
        return caller
    if not admin:
        raise ApiError("forbidden", "X-Tenant: only a key with the scope admin may act for another tenant; leave it out")
    try:
        check_tenant(requested)
    except ValueError as exc:
        raise ApiError("invalid_value", f"X-Tenant: {exc}", param="X-Tenant") from exc
    return Caller(requested, caller.key_id)


def _listed(scopes: frozenset[str]) -> str:
    return " and ".join(sorted(scopes))

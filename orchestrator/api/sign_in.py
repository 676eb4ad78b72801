"""``/v1/sign_in``: exchanges an API key for a cookie, so that pages of this server need not keep the key in the browser."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from orchestrator.api.access import COOKIE, SECURE_COOKIE
from orchestrator.api.context import Context, any_access
from orchestrator.api.errors import documented
from orchestrator.ports.stores import SCOPES, Scope
from services.errors import ApiError
from services.serving.bearer import how_to_send, token_of

router = APIRouter(prefix="/v1/sign_in", tags=["service"])
AnyAccess = Annotated[Context, Depends(any_access)]
SIGN_IN_S: Final = 12 * 3600.0
"""A working day; the key itself may end sooner."""
_EXAMPLE: Final = {
    "object": "sign_in",
    "key_required": True,
    "tenant": "ann",
    "scopes": ["edit", "read"],
    "expires_at": 1795531200.0,
}


class SignInView(BaseModel):
    """Who the caller is."""

    object: Literal["sign_in"] = "sign_in"
    key_required: bool = Field(description="Whether this server requires keys; without them everybody may do everything.")
    tenant: str
    scopes: list[Scope] = Field(description="Of the key.")
    expires_at: float | None = Field(description="When the browser's sign-in ends, Unix seconds; null for a caller with a key.")


def _scopes(of_key: frozenset[str]) -> list[Scope]:
    return sorted(scope for scope in SCOPES if scope in of_key)


@router.get("", responses=documented(example=_EXAMPLE))
async def show_sign_in(request: Request, ctx: AnyAccess) -> SignInView:
    """Who the caller is, by its key or its browser's sign-in."""
    if not ctx.access.required:
        return SignInView(key_required=False, tenant=ctx.tenant, scopes=sorted(SCOPES), expires_at=None)
    key = await ctx.access.key(request)
    known = None if token_of(request) else await ctx.access.sign_in_of(request)
    return SignInView(
        key_required=True, tenant=ctx.tenant, scopes=_scopes(key.scopes), expires_at=known.expires_at if known else None
    )


@router.post("", responses=documented(example=_EXAMPLE))
async def sign_in(request: Request, response: Response, ctx: AnyAccess) -> SignInView:
    """Sign a browser in with the API key of this request: the answer sets a cookie that stands for the key for twelve hours.

    Pages of other origins cannot use it, and scripts cannot read it.
    """
    if not ctx.access.required:
        return await show_sign_in(request, ctx)
    secret = token_of(request)
    if secret is None:
        raise ApiError("invalid_api_key", how_to_send(request, "et_…"))
    if "origin" in request.headers:
        # Another page, of the list of EDITTHINKER_CORS_ORIGINS perhaps, does not choose who this browser is.
        ctx.access.check_own_page(request)
    earlier = ctx.access.cookie(request)
    if earlier is not None:
        await ctx.access.keys.sign_out(earlier)
    token = await ctx.access.keys.sign_in(secret, SIGN_IN_S)
    secure = request.headers.get("origin", ctx.access.public_url).startswith("https:")
    name = SECURE_COOKIE if secure else COOKIE
    response.set_cookie(name, token, max_age=int(SIGN_IN_S), secure=secure, httponly=True, samesite="strict")
    shown = await show_sign_in(request, ctx)
    return shown.model_copy(update={"expires_at": ctx.clock.now() + SIGN_IN_S})


_SIGNED_OUT: Final = {
    "description": "Signed out.",
    "headers": {
        "Set-Cookie": {
            "description": "Removes the browser's cookie, if it sent one.",
            "schema": {"type": "string"},
            "example": f'{COOKIE}=""; HttpOnly; Max-Age=0; Path=/; SameSite=strict',
        }
    },
}


@router.delete("", status_code=204, response_class=Response, responses=documented(ok={204: _SIGNED_OUT}))
async def sign_out(request: Request, ctx: AnyAccess) -> Response:
    """Sign this browser out: its cookie is worthless from now on, on every replica within a second."""
    token = ctx.access.cookie(request)
    response = Response(status_code=204)
    if token is not None:
        await ctx.access.keys.sign_out(token)
    for name, secure in ((COOKIE, False), (SECURE_COOKIE, True)):
        if name in request.cookies:
            response.delete_cookie(name, secure=secure, httponly=True, samesite="strict")
    return response

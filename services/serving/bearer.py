"""The bearer token of a request, and what to change where it was sent in another way."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from services.errors import shown

_OTHER_HEADERS: Final = ("api-key", "x-api-key", "x-goog-api-key", "xi-api-key")
"""Azure's, Anthropic's, Google's and others'."""


def token_of(request: Request) -> str | None:
    """The token of ``Authorization: Bearer``; None without one."""
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def how_to_send(request: Request, example: str) -> str:
    """The message for a request without a bearer token: what it has in its place, and what to send.

    Args:
        example: of a token, as ``et_…``.
    """
    wanted = f"Authorization: Bearer {example}"
    given = request.headers.get("authorization", "").strip()
    scheme, _, rest = given.partition(" ")
    if given and not rest:
        what = "nothing after Bearer" if scheme.lower() == "bearer" else "a value without a scheme"
        return f"the header Authorization has {what}; write {wanted}"
    if given:
        # Not the rest: it may be a key.
        return f"the header Authorization has the scheme {shown(scheme, 20)}; write {wanted}"
    for name in _OTHER_HEADERS:
        if name in request.headers:
            return f"the key came in the header {name}; send it as {wanted}"
    return f"send your API key as {wanted}"

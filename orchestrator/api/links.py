"""Signed links to images, which work without a key until they expire: a path and its query, signed with HMAC-SHA256.

The tokens of shares are signed in the same way: the path of the share, without a query. No image has such a path.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from services.errors import ApiError

EXPIRES: Final = "expires"
SIGNATURE: Final = "signature"
Query = Iterable[tuple[str, str]]
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and verifies links to images.

    Attributes:
        secret: the signing secret, the same on every replica.
        ttl_s: seconds until a link expires.
        signed: whether links are signed; they are where keys are required.
        base: base URL of the links; that of the request's Host if None.
        knows: whether a Host header has a name of this server.
    """

    secret: Callable[[], Awaitable[bytes]]
    ttl_s: float
    signed: bool
    base: str | None = None
    knows: Callable[[str | None], bool] = lambda _: True

    def check_base(self, host: str | None) -> None:
        """Check that links can be made for a request: a Host header is the caller's choice, and may be anything.

        Raises:
            ApiError: ``invalid_value``, naming the settings.
        """
        if self.base is None and not self.knows(host):
            message = (
                "response_format: this server makes no links for the name in the Host header, which it does not know; "
                "use b64_json, or set EDITTHINKER_PUBLIC_URL or EDITTHINKER_ALLOWED_HOSTS"
            )
            raise ApiError("invalid_value", message, param="response_format")

    async def link(self, base: str, path: str, query: Query, now: float) -> str:
        """The URL of an image."""
        pairs = list(query)
        if self.signed:
            pairs.append((EXPIRES, str(int(now + self.ttl_s))))
            pairs.append((SIGNATURE, sign(await self.secret(), path, pairs)))
        return f"{(self.base or base).rstrip('/')}{path}" + (f"?{urlencode(pairs)}" if pairs else "")

    async def check(self, path: str, query: Query, now: float) -> None:
        """Verify the signature and expiry of a link.

        Raises:
            ApiError: ``forbidden``, with the reason.
        """
        verify(await self.secret(), path, query, now)

    async def share_token(self, session_id: str, share_id: str) -> str:
        """The token of a share: its id, its session, and the signature."""
        signature = sign(await self.secret(), f"/v1/sessions/{session_id}/shares/{share_id}", ())
        return f"{share_id}.{session_id}.{signature}"

    async def shared(self, token: str) -> tuple[str, str] | None:
        """The session and the id of a share, by its token; None if the signature is not ours."""
        share_id, _, rest = token.partition(".")
        session_id = rest.rpartition(".")[0]
        expected = await self.share_token(session_id, share_id)
        return (session_id, share_id) if hmac.compare_digest(expected.encode(), token.encode()) else None


def sign(secret: bytes, path: str, query: Query) -> str:
    """The signature of a path and its query; the order of parameters does not matter, and a signature among them is ignored."""
    pairs = sorted((name, value) for name, value in query if name != SIGNATURE)
    # Quoted, so that different requests never have the same text. The path is the decoded one.
    text = f"{quote(path, safe='/')}?{urlencode(pairs)}"
    mac = hmac.digest(secret, text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def verify(secret: bytes, path: str, query: Query, now: float) -> None:
    """Verify the signature among the parameters, and that the link has not expired.

    Raises:
        ApiError: ``forbidden``, with the reason.
    """
    pairs = list(query)
    given = [value for name, value in pairs if name == SIGNATURE]
    expires = [value for name, value in pairs if name == EXPIRES]
    expected = sign(secret, path, pairs).encode()
    if len(given) != 1 or len(expires) != 1 or not hmac.compare_digest(expected, given[0].encode()):
        raise ApiError("forbidden", "this link was changed; use it unchanged, or request a new one", param=SIGNATURE)
    if not (expires[0].isascii() and expires[0].isdigit() and len(expires[0]) <= _DIGITS) or int(expires[0]) <= now:
        raise ApiError("forbidden", "this link has expired; request a new one", param=EXPIRES)

"""Links to images that work without a key for a while: a path and its parameters, signed with HMAC-SHA256."""

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
    """Makes and checks links.

    Attributes:
        secret: the signing secret, the same on every replica.
        ttl_s: how long a link works.
        signed: whether a link needs a signature: where no keys are required it does not.
        base: of the links; what the request came to if None.
    """

    secret: Callable[[], Awaitable[bytes]]
    ttl_s: float
    signed: bool
    base: str | None = None

    async def link(self, base: str, path: str, query: Query, now: float) -> str:
        """The URL of an image."""
        pairs = list(query)
        if self.signed:
            pairs.append((EXPIRES, str(int(now + self.ttl_s))))
            pairs.append((SIGNATURE, sign(await self.secret(), path, pairs)))
        return f"{(self.base or base).rstrip('/')}{path}" + (f"?{urlencode(pairs)}" if pairs else "")

    async def check(self, path: str, query: Query, now: float) -> None:
        """See that a link is one of ours and still works.

        Raises:
            ApiError: ``forbidden``, and why.
        """
        verify(await self.secret(), path, query, now)


def sign(secret: bytes, path: str, query: Query) -> str:
    """The signature of a path with these parameters, in whatever order; one among them that is a signature does not count."""
    pairs = sorted((name, value) for name, value in query if name != SIGNATURE)
    # Quoted, so that no two requests read the same; a path is as it was before it was quoted for the wire.
    text = f"{quote(path, safe='/')}?{urlencode(pairs)}"
    mac = hmac.digest(secret, text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def verify(secret: bytes, path: str, query: Query, now: float) -> None:
    """See that a signature among the parameters is that of the path with the others, and that its time is not over.

    Raises:
        ApiError: ``forbidden``, and why.
    """
    pairs = list(query)
    given = [value for name, value in pairs if name == SIGNATURE]
    expires = [value for name, value in pairs if name == EXPIRES]
    right = sign(secret, path, pairs).encode()
    if len(given) != 1 or len(expires) != 1 or not hmac.compare_digest(right, given[0].encode()):
        raise ApiError("forbidden", "this link is not as it was made; use it unchanged, or ask for a new one", param=SIGNATURE)
    if not (expires[0].isascii() and expires[0].isdigit() and len(expires[0]) <= _DIGITS) or int(expires[0]) <= now:
        raise ApiError("forbidden", "this link has expired; ask for a new one", param=EXPIRES)

"""Verifies what a webhook receives, by the Standard Webhooks specification. No I/O.

>>> event = client.webhooks.unwrap(body, request.headers)  # doctest: +SKIP
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from time import time
from typing import Final

from pydantic import ValidationError

from editthinker.client.errors import InvalidWebhookSignatureError
from editthinker.client.models import WebhookEvent
from editthinker.client.transport import WEBHOOK_SECRET_VARIABLE

DEFAULT_TOLERANCE_S: Final = 300.0
"""Seconds that a webhook's clock may differ from ours, as in the libraries of Standard Webhooks."""
_PREFIX: Final = "whsec_"
_VERSION: Final = "v1"


class Verifier:
    """Verifies webhooks.

    Args:
        secret: of the webhook; used where a call names none.
    """

    def __init__(self, secret: str | None) -> None:
        self._secret = secret

    def verify(
        self,
        body: bytes | str,
        headers: Mapping[str, str],
        secret: str | None = None,
        *,
        tolerance: float = DEFAULT_TOLERANCE_S,
    ) -> None:
        """Check that this server sent the body, not long ago.

        Args:
            body: as it arrived. A body that was parsed and written again has other bytes.
            headers: of the request, by names in any case.
            secret: of the webhook, ``whsec_…``.
            tolerance: seconds that ``webhook-timestamp`` may differ from this machine's time.

        Raises:
            InvalidWebhookSignatureError: if not.
            ValueError: when no secret is named, or it is not one.
        """
        key = _key(self._secret if secret is None else secret)
        named = {name.lower(): value for name, value in headers.items()}
        try:
            message_id, timestamp, signatures = (named[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        except KeyError as exc:
            message = f"the request has no header {exc.args[0]}; it is not a webhook of this server"
            raise InvalidWebhookSignatureError(message) from None
        _check_time(timestamp, tolerance)
        content = body.encode() if isinstance(body, str) else body
        signed = hmac.new(key, f"{message_id}.{timestamp}.".encode() + content, hashlib.sha256).digest()
        expected = base64.b64encode(signed)
        # After a rotation there are two.
        given = [value for version, _, value in (each.partition(",") for each in signatures.split()) if version == _VERSION]
        if not any(hmac.compare_digest(expected, each.encode(errors="replace")) for each in given):
            message = "no signature of the webhook was made with this secret; is it the secret of this webhook?"
            raise InvalidWebhookSignatureError(message)

    def unwrap(
        self,
        body: bytes | str,
        headers: Mapping[str, str],
        secret: str | None = None,
        *,
        tolerance: float = DEFAULT_TOLERANCE_S,
    ) -> WebhookEvent:
        """The event in a webhook, after `verify`.

        Raises:
            InvalidWebhookSignatureError, ValueError: as `verify`.
        """
        self.verify(body, headers, secret, tolerance=tolerance)
        message_id = next(value for name, value in headers.items() if name.lower() == "webhook-id")
        try:
            return WebhookEvent.model_validate({"id": message_id, **json.loads(body)})
        except (ValidationError, TypeError, ValueError):
            message = "the body of the webhook cannot be read, although it is signed"
            raise InvalidWebhookSignatureError(message) from None


def _key(secret: str | None) -> bytes:
    if not secret:
        message = f"the webhook's secret is missing; give secret=, or set {WEBHOOK_SECRET_VARIABLE}"
        raise ValueError(message)
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        # Not quoted: it is a secret, also with a letter missing.
        message = "the webhook's secret is invalid: write whsec_ and base64, as the server gave it"
        raise ValueError(message)
    return key


def _check_time(timestamp: str, tolerance: float) -> None:
    try:
        age = time() - int(timestamp)
    except (ValueError, OverflowError):
        message = "webhook-timestamp is not a number; it is not a webhook of this server"
        raise InvalidWebhookSignatureError(message) from None
    if abs(age) > tolerance:
        when = "ago" if age > 0 else "ahead"
        message = f"signed {abs(age):.0f} s {when}, and {tolerance:g} s are allowed; is this machine's clock right?"
        raise InvalidWebhookSignatureError(message)

"""Webhooks are verified as the library of Standard Webhooks signs them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from editthinker import EditThinker, EditThinkerError, InvalidWebhookSignatureError
from editthinker.client.webhooks import Verifier

SECRET = "whsec_" + base64.b64encode(b"a secret of at least 24 bytes").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of 24 bytes and more").decode()
BODY = json.dumps({"type": "session.finished", "timestamp": "2026-11-29T10:00:00.000Z", "data": {"id": "ses_1", "new": 1}})


def signed(body: str = BODY, *secrets: str, age: float = 0.0, **changes: str) -> dict[str, str]:
    """The headers of a webhook, by the independent library."""
    at = datetime.now(UTC) - timedelta(seconds=age)
    signature = " ".join(Webhook(secret).sign("msg_1", at, body) for secret in secrets or (SECRET,))
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(at.timestamp())), "Webhook-Signature": signature}
    return {**headers, **{name.replace("_", "-"): value for name, value in changes.items()}}


@pytest.mark.parametrize("body", [BODY, BODY.encode()])
def test_a_signed_body_is_unwrapped(body: str | bytes) -> None:
    event = Verifier(SECRET).unwrap(body, signed())
    assert (event.id, event.type, event.data.id) == ("msg_1", "session.finished", "ses_1")
    assert (event.data.model_extra or {})["new"] == 1


def test_either_secret_of_a_rotation_is_accepted() -> None:
    headers = signed(BODY, OTHER, SECRET)
    Verifier(None).verify(BODY, headers, SECRET)
    Verifier(None).verify(BODY, headers, OTHER)
    Verifier(None).verify(BODY, {name.lower(): value for name, value in headers.items()}, SECRET.removeprefix("whsec_"))


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (BODY + " ", signed, "no signature"),
        (BODY, lambda: signed(BODY, OTHER), "no signature"),
        (BODY, lambda: signed(Webhook_Id="msg_2"), "no signature"),
        (BODY, lambda: signed(Webhook_Signature="v1,"), "no signature"),
        (BODY, lambda: signed(Webhook_Signature="é v2,x"), "no signature"),
        (BODY, lambda: signed(Webhook_Signature=signed()["Webhook-Signature"].replace("v1,", "v1a,")), "no signature"),
        (BODY, lambda: signed(age=310), r"signed \d+ s ago"),
        (BODY, lambda: signed(age=-400), "ahead, and 300 s are allowed"),
        (BODY, lambda: signed(Webhook_Timestamp="soon"), "not a number"),
        (BODY, lambda: signed(Webhook_Timestamp="9" * 400), "not a number"),
        (BODY, lambda: {"Webhook-Id": "msg_1"}, "no header webhook-timestamp"),
        ("[1]", lambda: signed("[1]"), "cannot be read"),
        ("{", lambda: signed("{"), "cannot be read"),
    ],
)
def test_what_was_not_signed_now_with_this_secret_is_refused(body: str, headers: Callable[[], dict[str, str]], says: str) -> None:
    with pytest.raises(InvalidWebhookSignatureError, match=says) as caught:
        Verifier(SECRET).unwrap(body, headers())
    assert isinstance(caught.value, EditThinkerError)
    assert isinstance(caught.value, ValueError)


def test_the_tolerance_is_the_callers() -> None:
    Verifier(SECRET).verify(BODY, signed(age=3000), tolerance=3600)
    with pytest.raises(InvalidWebhookSignatureError):
        Verifier(SECRET).verify(BODY, signed(age=30), tolerance=10)


@pytest.mark.parametrize("secret", [None, "", "whsec_", "whsec_not base64!", "whsec_é"])
def test_a_missing_or_broken_secret_is_not_an_invalid_webhook(secret: Any) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        Verifier(secret).verify(BODY, signed())
    assert not isinstance(caught.value, InvalidWebhookSignatureError)
    assert "not base64" not in str(caught.value)


def test_the_client_takes_the_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITTHINKER_WEBHOOK_SECRET", SECRET)
    with EditThinker("http://127.0.0.1:9") as client:
        assert client.webhooks.unwrap(BODY, signed()).id == "msg_1"
    with EditThinker("http://127.0.0.1:9", webhook_secret=OTHER) as client, pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(BODY, signed())

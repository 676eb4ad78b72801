"""Whether keys are needed, and when a server does not start without them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.settings import Settings

UPSTREAM = {"url": "http://127.0.0.1:1/v1", "model": "x"}


def made(**fields: Any) -> Settings:
    return Settings.model_validate({"editors": {"x": UPSTREAM}, "thinkers": {"x": UPSTREAM}, **fields})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    """Unless it is told to."""
    assert not made(host=host).keys_required
    assert not made(host=host, keys="off").keys_required
    assert made(host=host, keys="required").keys_required


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.7", "example.com", "", "::ffff:10.0.0.1"])
def test_every_other_address_needs_keys(host: str) -> None:
    """Unless it is told twice."""
    assert made(host=host).keys_required
    assert made(host=host, keys="required", allow_open=True).keys_required
    assert not made(host=host, allow_open=True).keys_required
    assert not made(host=host, allow_open=True, keys="off").keys_required
    with pytest.raises(ValidationError, match="everybody who reaches the port"):
        made(host=host, keys="off")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quota_rate", "often"),
        ("quota_unfinished", -1),
        ("url_secret", "short"),
        ("public_url", "example.com"),
        ("keys", "maybe"),
    ],
)
def test_wrong_values_are_refused(name: str, value: object) -> None:
    """By name."""
    with pytest.raises(ValidationError, match=name):
        made(**{name: value})


def test_a_signing_secret_is_kept_out_of_logs() -> None:
    """As the keys of editors and thinkers are."""
    assert made(url_secret="not for everybody").secrets() == ["not for everybody"]

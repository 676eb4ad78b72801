"""Renamed settings: the former environment variable works, with a warning that names the present one."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from services.serving.deprecated_settings import ServiceSettings


class Example(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="EXAMPLE_", frozen=True, extra="ignore")

    renamed: ClassVar[dict[str, str]] = {"wait_s": "timeout_s", "keep": "cache"}

    timeout_s: Annotated[float, Field(gt=0)] = 1.0
    cache: str = "none"


@pytest.mark.parametrize("former", ["EXAMPLE_WAIT_S", "example_wait_s"])
def test_a_former_name_is_read_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, former: str
) -> None:
    monkeypatch.setenv(former, "2.5")
    assert Example().timeout_s == 2.5
    expected = "EXAMPLE_WAIT_S is deprecated and will be removed in the next release; set EXAMPLE_TIMEOUT_S instead"
    assert [record.getMessage() for record in caplog.records] == [expected]


def test_the_present_name_wins_over_the_former_one(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("EXAMPLE_WAIT_S", "2.5")
    monkeypatch.setenv("EXAMPLE_TIMEOUT_S", "3.5")
    assert Example().timeout_s == 3.5
    assert Example(timeout_s=4.5).timeout_s == 4.5
    assert "EXAMPLE_WAIT_S is deprecated" in caplog.text


def test_a_wrong_value_is_reported_under_the_present_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_WAIT_S", "-1")
    with pytest.raises(ValidationError) as caught:
        Example()
    assert [error["loc"] for error in caught.value.errors()] == [("timeout_s",)]


def test_nothing_is_warned_of_where_no_former_name_is_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EXAMPLE_CACHE", "disk")
    assert (Example().timeout_s, Example().cache) == (1.0, "disk")
    assert caplog.records == []

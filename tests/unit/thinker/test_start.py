"""Starting a thinker: settings from options and environment, refused with the reason when wrong."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from services.thinker import __main__ as command
from services.thinker.profiles import PROFILES
from services.thinker.settings import Settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITTHINKER_THINKER_WORKERS", "5")
    nothing: dict[str, Any] = {}
    settings = Settings(**nothing)
    assert settings.workers == 5
    assert settings.profile in PROFILES
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(("name", "value"), [("WORKERS", "0"), ("PORT", "99999"), ("PROFILE", "gpt"), ("LOG_LEVEL", "loud")])
def test_wrong_settings_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(f"EDITTHINKER_THINKER_{name}", value)
    monkeypatch.setattr(sys, "argv", ["thinker"])
    assert command.main() == 2
    assert f"EDITTHINKER_THINKER_{name}" in capsys.readouterr().err


def test_options_choose_profile_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(command, "PROFILES", {"rules": served.append})
    monkeypatch.setattr(sys, "argv", ["thinker", "--profile", "rules", "--host", "0.0.0.0", "--port", "0", "--model", "m"])
    assert command.main() == 0
    assert (served[0].host, served[0].port, served[0].model) == ("0.0.0.0", 0, "m")

"""Renamed settings: the former environment variable works, with a warning that names the present one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import typer
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from orchestrator.settings import Settings
from services.editor.settings import Settings as EditorSettings
from services.serving.command_line import read_settings
from services.serving.deprecated_settings import MissingSecretsError, ServiceSettings, misspelt
from services.thinker.settings import Settings as ThinkerSettings


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


def test_a_setting_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "example_cache").write_text("from a file\n")
    (tmp_path / "EXAMPLE_TIMEOUT_S").write_text("2.5")
    (tmp_path / "another").write_text("of another program")
    monkeypatch.setenv("EDITTHINKER_SECRETS_DIR", str(tmp_path))

    assert (Example().cache, Example().timeout_s) == ("from a file", 2.5)
    monkeypatch.setenv("EXAMPLE_CACHE", "variable")
    assert Example().cache == "variable"
    assert Example(cache="option").cache == "option"


def test_a_folder_of_secrets_must_exist_if_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mistyped name would otherwise mean a server without its keys."""
    assert Example().cache == "none"
    monkeypatch.setenv("EDITTHINKER_SECRETS_DIR", str(tmp_path / "missing"))

    with pytest.raises(MissingSecretsError, match="EDITTHINKER_SECRETS_DIR: there is no folder"):
        Example()
    with pytest.raises(typer.Exit) as end:
        read_settings(Example, "EXAMPLE_")
    assert end.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("EDITTHINKER_REDIS_ULR", "EDITTHINKER_REDIS_URL"),
        ("editthinker_thinker", "EDITTHINKER_THINKERS"),
        ("EDITHINKER_EDITORS", "EDITTHINKER_EDITORS"),
        ("EDITTHINKER_LEASES_S", "EDITTHINKER_LEASE_S"),
    ],
)
def test_a_misspelt_variable_is_told_with_the_name_that_was_meant(given: str, meant: str) -> None:
    """It would be ignored otherwise."""
    assert misspelt(Settings, [given, "PATH", "HOME"]) == {given.upper(): meant}


def test_what_is_set_for_others_is_not_misspelt() -> None:
    """Settings, their former names, and those of the other services, the client, compose and the tests."""
    ours = [f"EDITTHINKER_{name}".upper() for name in (*Settings.model_fields, *Settings.renamed)]
    others = ["EDITOR_MAX_BATCH", "EDITOR_HOST", "THINKER_PROFILE", "THINKER_PORT", "SERVER", "API_KEY", "HOME"]
    others += ["SECRETS_DIR", "PUBLISHED_PORT", "VLLM", "CONTAINERS", "THOUSAND", "AGENDA_LIMIT"]
    others += [f"EDITOR_{name}".upper() for name in EditorSettings.model_fields]
    others += [f"THINKER_{name}".upper() for name in ThinkerSettings.model_fields]
    assert misspelt(Settings, [*ours, *(f"EDITTHINKER_{name}" for name in others), "OTEL_EXPORTER_OTLP_ENDPOINT"]) == {}
    for kind in (EditorSettings, ThinkerSettings):
        assert misspelt(kind, [*ours, *(f"EDITTHINKER_{name}" for name in others)]) == {}


def test_each_service_warns_of_a_misspelt_variable_at_its_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line on standard error; it starts nevertheless."""
    monkeypatch.setenv("EDITTHINKER_EDITOR_MAX_BACH", "2")
    read_settings(EditorSettings, "EDITTHINKER_EDITOR_")
    assert capsys.readouterr().err == (
        "warning: EDITTHINKER_EDITOR_MAX_BACH is no setting, and is ignored; EDITTHINKER_EDITOR_MAX_BATCH is one\n"
    )

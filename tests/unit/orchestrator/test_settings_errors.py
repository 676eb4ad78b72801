"""Settings that are wrong: a line each, status 2, and never what is secret in them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.__main__ import main
from orchestrator.settings import Settings

UPSTREAM = json.dumps({"x": {"url": "http://127.0.0.1:1/v1", "model": "x", "api_key": "SECRET"}})


@pytest.fixture(autouse=True, params=[(), ("sweep",)], ids=["serve", "sweep"])
def _right_but_for_one(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both commands that read all settings."""
    for name in [name for name in os.environ if name.startswith("EDITTHINKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["orchestrator", *request.param])
    monkeypatch.setenv("EDITTHINKER_EDITORS", UPSTREAM)
    monkeypatch.setenv("EDITTHINKER_THINKERS", UPSTREAM)
    monkeypatch.setenv("EDITTHINKER_BLOBS", str(tmp_path / "blobs"))


def status() -> object:
    """The exit status of the command line."""
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize("name", ["EDITTHINKER_EDITORS", "EDITTHINKER_THINKERS"])
@pytest.mark.parametrize("value", ["", "{'x': {'api_key': 'SECRET'}}", '{"x": {"api_key": "SECRET"},}', "http://editor:8000"])
def test_invalid_json_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    """The variable, where it is wrong, and how it should look; never what it holds."""
    monkeypatch.setenv(name, value)
    assert status() == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{name} is not JSON (Expecting ")
    assert '{"name": {"url": "http://127.0.0.1:' in told
    assert told.count("\n") == 1
    assert "SECRET" not in told


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("EDITTHINKER_EDITORS", "[]", "EDITTHINKER_EDITORS: Input should be a valid dictionary\n"),
        ("EDITTHINKER_EDITORS", "{}", "there are no editors: name at least one in EDITTHINKER_EDITORS or EDITTHINKER_REGISTRY\n"),
        (
            "EDITTHINKER_EDITORS",
            '{"a": {"url": "ftp://x"}}',
            "EDITTHINKER_EDITORS.a.url: it must begin with http:// or https://\n",
        ),
        ("EDITTHINKER_EDITORS", '{"a": {}}', "EDITTHINKER_EDITORS.a.url: it is required\n"),
        (
            "EDITTHINKER_EDITORS",
            '{"a": {"url": "http://x/v1", "max_inflight": 3}}',
            "EDITTHINKER_EDITORS.a.max_inflight: there is no such field; docs/operations.md lists them\n",
        ),
        ("EDITTHINKER_URL_SECRET", "short", "EDITTHINKER_URL_SECRET: it must have at least 16 characters\n"),
        ("EDITTHINKER_PUBLIC_URL", "edit.example.com", "EDITTHINKER_PUBLIC_URL: it must begin with http:// or https://\n"),
        ("EDITTHINKER_DEFAULT_EDITOR", "y", "EDITTHINKER_DEFAULT_EDITOR is 'y', which is none of ['x']\n"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert status() == 2
    assert capsys.readouterr().err == told


def test_a_key_in_a_wrong_registry_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text('[editors.k]\napi_key = "SECRET"\nurl = "http://h/v1"\nfallback = "nobody"\n')
    monkeypatch.setenv("EDITTHINKER_REGISTRY", str(registry))
    assert status() == 2
    told = capsys.readouterr().err
    assert "editors.k.fallback is 'nobody'" in told
    assert told.count("\n") == 1
    assert "SECRET" not in told


@pytest.mark.parametrize("place", ["s3://", "nonsense://bucket", "s3://a bucket/x", "FILE", "FILE/below", "/proc/nowhere"])
def test_an_unusable_blob_store_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    monkeypatch.setenv("EDITTHINKER_BLOBS", place.replace("FILE", str(file)))
    assert status() == 2
    told = capsys.readouterr().err
    assert told.startswith("EDITTHINKER_BLOBS: '")
    assert told.endswith("; name a directory that can be written, or s3://bucket/prefix\n")
    assert told.count("\n") == 1
    assert file.read_text() == "mine"


def test_a_read_only_folder_is_refused_as_blob_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # For root every folder is open.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "blobs")
    assert status() == 2
    assert "Permission denied; name a directory" in capsys.readouterr().err


def test_former_names_of_the_retention_settings_still_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EDITTHINKER_RETENTION_S", "60")
    monkeypatch.setenv("EDITTHINKER_KEEP_S", "120")
    given: dict[str, Any] = {}
    settings = Settings(**given)
    assert (settings.redis_retention_s, settings.archive_retention_s) == (60, 120)
    assert "set EDITTHINKER_REDIS_RETENTION_S instead" in caplog.text
    assert "set EDITTHINKER_ARCHIVE_RETENTION_S instead" in caplog.text


@pytest.mark.parametrize("rate", ["60perminute", "60 per5minute", "60/fortnight", "minute", "60"])
def test_a_rate_in_another_form_is_told_with_the_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rate: str
) -> None:
    """It might be taken for another rate."""
    monkeypatch.setenv("EDITTHINKER_QUOTA_RATE", rate)
    assert status() == 2
    told = f"EDITTHINKER_QUOTA_RATE: {rate!r} is not a rate: write 60/minute, or 60/minute;1000/day for several\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
@pytest.mark.parametrize("name", ["LEASE_S", "DRAIN_S", "DEFAULT_DEADLINE_S", "REDIS_RETENTION_S", "ARCHIVE_RETENTION_S"])
def test_a_time_that_no_clock_can_count_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    """At the start; each new session was answered with 500."""
    monkeypatch.setenv(f"EDITTHINKER_{name}", value)

    assert status() == 2
    assert capsys.readouterr().err.startswith(f"EDITTHINKER_{name}: ")

"""The plan of the embedded stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editthinker.local import StackError, embedded_plan
from editthinker.local.home import Home


def test_an_alias_is_a_further_name_of_the_editor(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    try:
        plan = embedded_plan(home, 8080, ["gpt-image-1", "gpt-image-2"])
    finally:
        home.release()
    [orchestrator] = [service for service in plan.services if service.name == "orchestrator"]

    editors = json.loads(orchestrator.env["EDITTHINKER_EDITORS"])
    assert editors["classical"]["aliases"] == ["gpt-image-1", "gpt-image-2"]


def test_a_thinker_of_the_command_line_is_served_by_vllm_and_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITTHINKER_THINKERS", '{"seer": {"url": "http://127.0.0.1:9/v1", "model": "m"}}')
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path / "home")
    try:
        plan = embedded_plan(home, 8080, thinker="miniature=./model")
    finally:
        home.release()
    services = {service.name: service for service in plan.services}

    thinkers = json.loads(services["orchestrator"].env["EDITTHINKER_THINKERS"])
    assert list(thinkers) == ["seer", "miniature", "rules"]
    assert services["orchestrator"].env["EDITTHINKER_DEFAULT_THINKER"] == "miniature"
    assert Path(thinkers["miniature"]["template"]).is_file()
    assert services["vllm"].ready_url == thinkers["miniature"]["url"].removesuffix("/v1") + "/health"
    words = " ".join(services["vllm"].command)
    assert f"services.thinker --profile miniature --model {tmp_path / 'model'}" in words


def test_the_rules_are_there_in_any_case_and_the_default_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITTHINKER_THINKERS", '{"seer": {"url": "http://127.0.0.1:9/v1", "model": "m"}}')
    home = Home(tmp_path / "home")
    try:
        plan = embedded_plan(home, 8080, thinker="rules")
    finally:
        home.release()
    assert "vllm" not in [service.name for service in plan.services]
    assert plan.services[-1].env["EDITTHINKER_DEFAULT_THINKER"] == "rules"


@pytest.mark.parametrize("variable", ["EDITTHINKER_THINKERS", "EDITTHINKER_THINKER_SERVED_NAME"])
def test_a_name_that_another_thinker_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    taken = {"miniature": {"url": "http://127.0.0.1:9/v1", "model": "m"}}
    monkeypatch.setenv(variable, json.dumps(taken) if variable == "EDITTHINKER_THINKERS" else "rules")
    home = Home(tmp_path / "home")
    try:
        with pytest.raises(StackError, match="give this one another name in EDITTHINKER_THINKER_SERVED_NAME"):
            embedded_plan(home, 8080, thinker=f"miniature={tmp_path}")
    finally:
        home.release()


def test_the_environments_key_opens_every_thinker_of_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITTHINKER_THINKER_API_KEY", "k")
    home = Home(tmp_path / "home")
    try:
        plan = embedded_plan(home, 8080, thinker=f"miniature={tmp_path}")
    finally:
        home.release()
    thinkers = json.loads(plan.services[-1].env["EDITTHINKER_THINKERS"])
    assert {name: entry["api_key"] for name, entry in thinkers.items()} == {"miniature": "k", "rules": "k"}


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("miniture=x", "--thinker miniture=x: .*none of the vLLM profiles"),
        ("miniature=", "no model after"),
        ("miniature=./nowhere", "there is no folder ./nowhere"),
        ("miniature=out/a/mistyped/folder", "there is no folder out/a/mistyped/folder"),
        ("miniature", "'miniature' is neither a folder here nor a hub id; write miniature=FOLDER"),
        ("rules=x", "rules is the stand-in"),
        ("=x", "none of the vLLM profiles"),
        ("", "none of the vLLM profiles"),
    ],
)
def test_a_thinker_that_cannot_be_served_is_refused_before_anything_starts(tmp_path: Path, named: str, told: str) -> None:
    home = Home(tmp_path / "home")
    try:
        with pytest.raises(StackError, match=told):
            embedded_plan(home, 8080, thinker=named)
    finally:
        home.release()

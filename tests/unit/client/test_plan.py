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


def test_the_rules_are_there_in_any_case(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    try:
        plan = embedded_plan(home, 8080, thinker="rules")
    finally:
        home.release()
    assert "vllm" not in [service.name for service in plan.services]


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("miniture=x", "--thinker miniture=x: .*none of the vLLM profiles"),
        ("miniature=", "no model after"),
        ("miniature=./nowhere", "there is no folder ./nowhere"),
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

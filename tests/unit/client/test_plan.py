"""The plan of the embedded stack."""

from __future__ import annotations

import json
from pathlib import Path

from editthinker.local import embedded_plan
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

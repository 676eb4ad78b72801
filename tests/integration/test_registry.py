"""Editors and thinkers in a file that changes while the server runs; an editor that stands in for another."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from orchestrator.settings import Settings
from tests.doubles.processes import Process, free_port
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until

THINKER = '[thinkers.double]\nurl = "{upstreams}/thinker/v1"\nmodel = "double"\n'


def editor(name: str, url: str, *lines: str) -> str:
    return "\n".join([f"[editors.{name}]", f'url = "{url}"', *lines, ""])


def start_with(start: Start, registry: Path) -> Process:
    return start(EDITTHINKER_REGISTRY=str(registry), EDITTHINKER_EDITORS="{}", EDITTHINKER_THINKERS="{}")


def models(api: httpx.Client) -> dict[str, bool]:
    listed = api.get("/v1/models").json()
    return {f"{model['owned_by']}:{model['id']}": model["ready"] for model in (*listed["data"], *listed["thinkers"])}


def test_the_file_is_read_again_when_it_changes(
    start_orchestrator: Start, upstreams: str, script: Script, tmp_path: Path
) -> None:
    """A new editor can be named at once, one that is gone cannot, and a broken file changes nothing."""
    registry = tmp_path / "registry.toml"
    thinker = THINKER.format(upstreams=upstreams)
    registry.write_text(editor("one", f"{upstreams}/editor/v1") + thinker)
    orchestrator = start_with(start_orchestrator, registry)
    with httpx.Client(base_url=orchestrator.url, timeout=20, trust_env=False) as api:
        assert models(api) == {"editor:one": True, "thinker:double": True}
        registry.write_text("default_editor = 'two'\n" + editor("two", f"{upstreams}/editor/v1") + thinker)
        until(lambda: "editor:two" in models(api))
        session = create(api, wait=20).json()
        gone = create(api, model="one")
        registry.write_text("[editors.three]\nurl = 5\n")
        until(lambda: "the registry stays as it was" in orchestrator.log.read_text())
        still = models(api)

    assert session["editor"] == "two" and session["status"] == "succeeded"
    assert gone.json()["error"]["code"] == "model_not_found"
    assert still == {"editor:two": True, "thinker:double": True}


def test_an_editor_that_is_away_is_stood_in_for(
    start_orchestrator: Start, upstreams: str, script: Script, tmp_path: Path
) -> None:
    """Its fallback makes the edits, which say so; a replica with one editor left is ready."""
    registry = tmp_path / "registry.toml"
    away = editor("away", f"http://127.0.0.1:{free_port()}/v1", "attempts = 1", 'fallback = "near"')
    near = editor("near", f"{upstreams}/editor/v1")
    registry.write_text(f'default_editor = "away"\n{away}{near}{THINKER.format(upstreams=upstreams)}')
    orchestrator = start_with(start_orchestrator, registry)
    with httpx.Client(base_url=orchestrator.url, timeout=20, trust_env=False) as api:
        session = create(api, wait=20).json()
        events = api.get(f"/v1/sessions/{session['id']}/events").text
        ready = api.get("/readyz")
    edited = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ") and '"edited"' in line]

    assert session["finish_reason"] == "satisfied"
    assert {event["editor"] for event in edited} == {"near"}
    assert ready.status_code == 200


def test_a_key_that_changes_is_used(start_orchestrator: Start, upstreams: str, script: Script, tmp_path: Path) -> None:
    """Only its file is rewritten, as when a mounted secret is rotated; a missing file changes nothing."""
    secret, registry = tmp_path / "key", tmp_path / "registry.toml"
    secret.write_text("first")
    one = editor("one", f"{upstreams}/editor/v1", f'api_key_file = "{secret}"')
    registry.write_text(one + THINKER.format(upstreams=upstreams))
    orchestrator = start_with(start_orchestrator, registry)
    with httpx.Client(base_url=orchestrator.url, timeout=20, trust_env=False) as api:
        create(api, wait=20)
        secret.unlink()
        until(lambda: "api_key_file cannot be read" in orchestrator.log.read_text())
        secret.write_text("second")
        until(lambda: "the registry was read again" in orchestrator.log.read_text())
        create(api, wait=20)

    keys = [edit["authorization"] for edit in script.edits]
    assert (keys[0], keys[-1]) == ("Bearer first", "Bearer second")


def test_a_key_is_read_from_a_file(tmp_path: Path) -> None:
    """As secrets are mounted; what cannot be read is refused at the start."""
    secret = tmp_path / "key"
    secret.write_text("sesame\n")
    thinkers = {"t": {"url": "http://t/v1", "model": "m"}}
    given = {"url": "http://e/v1", "api_key_file": str(secret)}
    settings = Settings.model_validate({"editors": {"e": given}, "thinkers": thinkers})
    assert settings.collaborators().editors["e"].key() == "sesame"
    assert settings.secrets() == ["sesame"]

    for wrong, complaint in ((tmp_path / "none", "cannot be read"), (secret, "not both")):
        both = {**given, "api_key_file": str(wrong), **({"api_key": "x"} if wrong is secret else {})}
        with pytest.raises(ValidationError, match=complaint):
            Settings.model_validate({"editors": {"e": both}, "thinkers": thinkers})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("editors = 1 =", "cannot be read"),
        ("[editor.x]\nurl = 'http://x/v1'", "has 'editor'; it may have editors"),
        ("[[editors]]\nname = 'x'\nurl = 'http://x/v1'", r"editors is not a table; write \[editors.<name>\]"),
        ("thinkers = ['t']\n[editors.x]\nurl = 'http://x/v1'", r"thinkers is not a table; write \[thinkers.<name>\]"),
        ("[editors.x]\nurl = 'http://x/v1'", "there are no thinkers"),
        ("default_editor = 'z'\n[editors.x]\nurl = 'http://x/v1'\n[thinkers.t]\nurl='http://t/v1'\nmodel='t'", "none of"),
        ("[editors.x]\nurl = 'http://x/v1'\nfallback = 'x'\n[thinkers.t]\nurl='http://t/v1'\nmodel='t'", "name another"),
        (
            (
                "[editors.x]\nurl='http://x/v1'\nparameters=['strength']\nfallback='y'\n[editors.y]\nurl='http://y/v1'\n"
                "[thinkers.t]\nurl='http://t/v1'\nmodel='t'"
            ),
            "y does not take strength",
        ),
    ],
)
def test_a_wrong_registry_is_explained(tmp_path: Path, text: str, complaint: str) -> None:
    """At the start, by what is wrong in it."""
    registry = tmp_path / "registry.toml"
    registry.write_text(text)
    with pytest.raises(ValidationError, match=complaint):
        Settings.model_validate({"registry": str(registry)})


def test_a_thinker_that_one_replica_knows_is_not_asked_of_another(
    start_orchestrator: Start, upstreams: str, script: Script
) -> None:
    """While a name is rolled out replica by replica, every session that uses it is critiqued."""
    script.scores = [(9, 9)]
    thinker = {"url": f"{upstreams}/thinker/v1", "model": "double"}
    start_orchestrator()
    new = start_orchestrator(EDITTHINKER_THINKERS=json.dumps({"double": thinker, "fresh": thinker}))
    with httpx.Client(base_url=new.url, timeout=60, trust_env=False) as api:
        ids = [create(api, thinker="fresh").json()["id"] for _ in range(12)]
        until(lambda: all(api.get(f"/v1/sessions/{name}").json()["finished_at"] for name in ids))
        sessions = [api.get(f"/v1/sessions/{name}").json() for name in ids]

    assert [session["finish_reason"] for session in sessions] == ["satisfied"] * 12

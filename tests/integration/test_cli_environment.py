"""`up` and `keys` in a user's environment: editors and thinkers of their own, and the Redis of the running stack. All processes
are real; the user's own models are `cli_upstream.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from editthinker import AuthenticationError, EditThinker, SessionFailedError
from editthinker.local import StackError, embedded_plan
from editthinker.local.home import Home
from editthinker.local.redis_server import running_url
from tests.doubles.processes import Process, ended, free_port, start, wait_ready
from tests.integration.test_cli_commands import UPSTREAM, command, png

FOREIGN = ("EDITTHINKER_SERVER", "EDITTHINKER_BASE_URL", "EDITTHINKER_API_KEY", "EDITTHINKER_REDIS_URL", "REDIS_URL")


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, "EDITTHINKER_HOME": str(home), **more}


@contextmanager
def up(home: Path, notes: list[str] | None = None, /, **env: str) -> Iterator[str]:
    """`editthinker up` on a free port; its base URL.

    Args:
        notes: gets the three lines of the hint on standard error, and one more.
    """
    words = command("up", "--port", free_port())
    with ended(
        subprocess.Popen(words, env=environment(home, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        try:
            url = running.stdout.readline().strip()
            assert url, running.stderr.read()
            if notes is not None:
                notes += [running.stderr.readline() for _ in range(4)]
            yield url
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(120)


def run(home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*words), env=environment(home, **env), capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Process]:
    """A user's own editor and thinker."""
    port = free_port()
    process = start([sys.executable, UPSTREAM, str(port)], port, tmp_path / "own.log")
    wait_ready(process, "/v1/models")
    yield process
    process.stop()


def named(own: Process) -> Mapping[str, str]:
    return {
        "EDITTHINKER_EDITORS": json.dumps({"mine": {"url": f"{own.url}/v1"}}),
        "EDITTHINKER_THINKERS": json.dumps({"seer": {"url": f"{own.url}/v1", "model": "rules"}}),
    }


def test_up_has_the_editors_of_the_environment_and_its_own(tmp_path: Path, own: Process) -> None:
    """What the user names is the default; the embedded ones can be asked for."""
    registry = tmp_path / "registry.toml"
    registry.write_text(f'[editors.filed]\nurl = "{own.url}/v1"\n')
    with up(tmp_path / "home", EDITTHINKER_REGISTRY=str(registry), **named(own)) as url, EditThinker(url) as client:
        models = {card.id: card.owned_by for card in client.models.list()}
        assert list(models) == ["filed", "mine", "classical", "seer", "rules"]
        photo = png(48, 32)
        assert client.edit(photo, "golden hour", max_turns=1).session.editor == "filed"
        for editor, thinker in (("mine", "rules"), ("classical", "seer")):
            session = client.edit(photo, "make it brighter", max_turns=1, editor=editor, thinker=thinker).session
            assert (session.editor, session.thinker, session.status) == (editor, thinker, "succeeded")


def test_an_editor_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """At the start, and to callers: the default is what the user named, and cannot be seen in the request."""
    editors = {"mine": {"url": "http://127.0.0.1:9/v1", "attempts": 1}}
    notes: list[str] = []
    with up(tmp_path / "home", notes, EDITTHINKER_EDITORS=json.dumps(editors)) as url, EditThinker(url) as client:
        assert notes[-1] == "editor 'mine' is not ready; sessions that ask for it wait or fail until it answers\n"
        with pytest.raises(SessionFailedError, match="the editor 'mine' cannot be reached"):
            client.edit(png(48, 32), "make it brighter", strategy="single")


def test_a_stack_that_needs_a_key_says_so(tmp_path: Path) -> None:
    notes: list[str] = []
    with up(tmp_path / "home", notes, EDITTHINKER_KEYS="required"):
        assert notes[-1].startswith("it needs a key: editthinker keys create --tenant me; ")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"EDITTHINKER_EDITORS": "kontext"}, "EDITTHINKER_EDITORS is not a JSON object (Expecting value: line 1"),
        ({"EDITTHINKER_THINKERS": "[]"}, "EDITTHINKER_THINKERS is not a JSON object; write it as"),
        ({"EDITTHINKER_EDITORS": '{"mine": {"ur": "x"}}'}, "EDITTHINKER_EDITORS.mine.url: it is required"),
        ({"EDITTHINKER_REGISTRY": "missing.toml"}, "the registry missing.toml cannot be read"),
        (
            {"EDITTHINKER_EDITORS": '{"mine": {"url": "http://127.0.0.1:9/v1"}}', "EDITTHINKER_DEFAULT_EDITOR": "other"},
            "EDITTHINKER_DEFAULT_EDITOR is 'other', which is none of ['classical', 'mine']",
        ),
    ],
)
def test_up_refuses_an_environment_that_it_cannot_use(tmp_path: Path, variables: Mapping[str, str], says: str) -> None:
    done = run(tmp_path / "home", "up", "--port", "0", **variables)
    assert done.returncode == 1
    assert says in done.stderr


def plan_of(tmp_path: Path) -> tuple[list[str], Mapping[str, str]]:
    home = Home(tmp_path / "home")
    try:
        plan = embedded_plan(home, 1234)
    finally:
        home.release()
    return [service.name for service in plan.services], plan.services[-1].env


def test_a_default_counts_only_where_its_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDITTHINKER_REGISTRY", raising=False)
    monkeypatch.setenv("EDITTHINKER_DEFAULT_EDITOR", "kontext")
    monkeypatch.setenv("EDITTHINKER_DEFAULT_THINKER", "seer")
    monkeypatch.setenv("EDITTHINKER_THINKERS", '{"seer": {"url": "http://127.0.0.1:9/v1", "model": "m"}}')
    _, env = plan_of(tmp_path)
    assert env["EDITTHINKER_DEFAULT_EDITOR"] == "classical"
    assert "EDITTHINKER_DEFAULT_THINKER" not in env


def test_an_entry_of_the_environment_replaces_the_embedded_one_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"classical": {"url": "http://127.0.0.1:9/v1"}}
    monkeypatch.setenv("EDITTHINKER_EDITORS", json.dumps(mine))
    _, env = plan_of(tmp_path)
    assert json.loads(env["EDITTHINKER_EDITORS"]) == mine


def test_entries_in_a_file_of_secrets_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "editthinker_editors").write_text('{"mine": {"url": "http://127.0.0.1:9/v1"}}\n')
    monkeypatch.delenv("EDITTHINKER_EDITORS", raising=False)
    monkeypatch.setenv("EDITTHINKER_SECRETS_DIR", str(secrets))
    _, env = plan_of(tmp_path)
    assert list(json.loads(env["EDITTHINKER_EDITORS"])) == ["mine", "classical"]
    (secrets / "editthinker_editors").write_text("{")
    with pytest.raises(StackError, match="EDITTHINKER_EDITORS is not a JSON object"):
        plan_of(tmp_path)


def test_keys_and_quotas_are_those_of_the_running_stack(tmp_path: Path) -> None:
    """Without EDITTHINKER_REDIS_URL, on whichever port its Redis listens."""
    home = tmp_path / "home"
    with up(home, EDITTHINKER_KEYS="required") as url:
        made = run(home, "keys", "create", "--tenant", "me")
        assert made.returncode == 0, made.stderr
        key = made.stdout.strip()
        assert "me" in run(home, "keys", "list").stdout
        assert run(home, "quota", "set", "--tenant", "me", "--unfinished", "7").returncode == 0
        assert "7" in run(home, "quota", "list").stdout
        with EditThinker(url, key) as client:
            assert list(client.sessions.list()) == []
        with EditThinker(url, "") as client, pytest.raises(AuthenticationError):
            client.sessions.list()
        # A Redis that is named is used, and another stack's is not.
        away = run(home, "keys", "list", EDITTHINKER_REDIS_URL="redis://127.0.0.1:1/0")
        assert (away.returncode, away.stderr.count("\n")) == (1, 1)
        assert "127.0.0.1:1" in run(tmp_path / "none", "keys", "list", REDIS_URL="redis://127.0.0.1:1/0").stderr
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        (secrets / "EDITTHINKER_REDIS_URL").write_text("redis://127.0.0.1:2/0")
        assert "127.0.0.1:2" in run(home, "keys", "list", EDITTHINKER_SECRETS_DIR=str(secrets)).stderr
    assert running_url(home / "redis") is None

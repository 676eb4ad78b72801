"""The command line with the whole embedded stack: nothing is stood in for."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from editthinker import EditThinker
from editthinker.local import Stack
from tests.doubles.leftovers import no_children_left
from tests.integration.test_cli_stack import until

skimage_data = pytest.importorskip("skimage.data")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(f"services.{name}.__main__") is None for name in ("editor", "thinker")),
    reason="the embedded editor and thinker are not there",
)
PHOTO = Path(skimage_data.__file__).with_name("coffee.png")


def edit(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """``editthinker edit`` without a server."""
    command = [sys.executable, "-m", "editthinker", "edit", str(PHOTO), "make it feel like golden hour", *map(str, arguments)]
    env = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "EDITTHINKER_SERVER"}}
    env["EDITTHINKER_HOME"] = str(home)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


def test_edit_starts_and_stops_the_stack_and_keeps_the_session(tmp_path: Path) -> None:
    out, report = tmp_path / "out.png", tmp_path / "report.html"
    done = edit(tmp_path / "home", "-o", out, "--report", report, "--json")
    assert done.returncode == 0, done.stderr
    session = json.loads(done.stdout)
    assert session["turns"][-1]["turn"] >= 2
    first = session["turns"][0]["candidates"][0]["scores"]["overall"]
    assert session["scores"]["overall"] > first
    assert out.stat().st_size > 10_000
    assert report.stat().st_size > 10_000
    with Stack(tmp_path / "home") as stack, EditThinker(stack.base_url) as client:
        assert client.sessions.get(session["id"]).status == "succeeded"
        assert client.sessions.image(session["id"]) == out.read_bytes()


def test_edit_uses_a_temporary_directory_while_another_stack_uses_the_default(tmp_path: Path) -> None:
    with Stack(tmp_path / "home"):
        done = edit(tmp_path / "home", "-o", tmp_path / "out.jpg", "--max-turns", 2)
    assert done.returncode == 0, done.stderr
    assert "this session will not be stored" in done.stderr
    assert (tmp_path / "out.jpg").read_bytes().startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("name", ["redis", "editor", "thinker", "orchestrator"])
def test_a_session_survives_the_death_of_any_process(tmp_path: Path, name: str) -> None:
    with Stack(tmp_path) as stack, EditThinker(stack.base_url) as client:
        session = client.sessions.create(PHOTO, "make it feel like golden hour", max_turns=3)
        psutil.Process(stack.pids()[name]).kill()
        assert client.sessions.wait(session.id, timeout=60).best is not None
        assert until(lambda: set(stack.pids()) == {"redis", "editor", "thinker", "orchestrator"})
    assert no_children_left()

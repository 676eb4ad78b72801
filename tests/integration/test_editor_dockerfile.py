"""What the editor's Dockerfile names is run as a process, since no container engine is at hand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.doubles.diffusion import PIXELS
from tests.doubles.processes import free_port, start, wait_ready
from tests.tiny import save

DOCKERFILE = (Path(__file__).parents[2] / "services" / "editor" / "Dockerfile").read_text("utf-8")


def _exec_form(instruction: str) -> list[str]:
    found = re.search(rf"^\s*{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found, instruction
    command: list[str] = json.loads(found[1])
    return [sys.executable if word == "python" else word for word in command]


def _environment() -> dict[str, str]:
    block = re.search(r"^ENV (HF_HOME(?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    assert block
    return dict(word.split("=", 1) for word in shlex.split(block[1].replace("\\\n", " ")))


def test_the_command_serves_and_the_health_check_tells(tmp_path: Path) -> None:
    """The check fails while nothing answers and passes once the worker is ready."""
    port = free_port()
    env = _environment()
    assert env["EDITTHINKER_EDITOR_HOST"] == "0.0.0.0"
    env |= {
        "EDITTHINKER_EDITOR_HOST": "127.0.0.1",
        "EDITTHINKER_EDITOR_PORT": str(port),
        "EDITTHINKER_EDITOR_MODEL": str(save("kontext", tmp_path / "model")),
        "EDITTHINKER_EDITOR_PIXELS": str(PIXELS),
        "HF_HOME": str(tmp_path),
    }
    check = [word.replace(":8100", f":{port}") for word in _exec_form("CMD")]
    assert subprocess.run(check, capture_output=True, check=False, timeout=30).returncode != 0
    process = start(_exec_form("ENTRYPOINT"), port, tmp_path / "log", env)
    try:
        wait_ready(process, seconds=120)
        assert subprocess.run(check, capture_output=True, check=False, timeout=30).returncode == 0
    finally:
        process.stop()


def test_the_files_that_it_copies_exist() -> None:
    """And the extras that it installs."""
    root = Path(__file__).parents[2]
    for sources in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((root / source).exists() for source in sources.split())
    extras = re.search(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    assert extras and all(f"\n{extra} = [" in (root / "pyproject.toml").read_text("utf-8") for extra in extras[1].split(","))

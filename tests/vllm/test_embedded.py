"""``editthinker up --thinker``: the embedded stack, with a thinker that vLLM serves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.doubles.processes import Process, free_port, start, wait_ready
from tests.vllm import stack
from tests.vllm.serving import MINIATURE, READY_S, environment
from training.miniature import model

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "photos" / "coffee.jpg"


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature's model: what the environment names, or random weights."""
    if trained := os.environ.get(MINIATURE):
        return Path(trained).absolute()
    folder = tmp_path_factory.mktemp("miniature") / "random"
    model.build(folder, 0)
    return folder


@pytest.fixture(scope="module")
def up(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The command."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    command = ["editthinker", "up", "--port", str(port), "--thinker", f"miniature={miniature}"]
    env = {**environment(), "EDITTHINKER_HOME": str(home), "EDITTHINKER_JUDGE_CHECK": "off"}
    process = start([sys.executable, "-m", *command], port, home / "up.log", env)
    try:
        wait_ready(process, seconds=READY_S)
        yield process
    finally:
        process.stop()


@pytest.fixture
def http(up: Process) -> Iterator[httpx.Client]:
    """A client of the stack."""
    with httpx.Client(base_url=up.url, timeout=stack.PATIENCE_S + 30, trust_env=False) as client:
        yield client


def test_it_is_the_default_thinker_next_to_the_rules(http: httpx.Client) -> None:
    assert [thinker["id"] for thinker in http.get("/v1/models").json()["thinkers"]] == ["miniature", "rules"]


def test_a_whole_session_is_thought_by_it_and_judged_by_the_rules(http: httpx.Client) -> None:
    told = stack.edit(http, PHOTO.read_bytes(), prompt="make it warmer", judge="rules", strategy="think")
    assert told.session["status"] == "succeeded", told.session["error"]
    assert told.session["thinker"] == "miniature"
    assert not told.of("critique_failed")
    assert len(told.of("critiqued")) == len(told.of("edited"))


def test_a_whole_session_is_thought_and_judged_by_it(http: httpx.Client) -> None:
    told = stack.edit(http, PHOTO.read_bytes(), prompt="make it warmer", strategy="think")
    assert told.session["status"] == "succeeded", told.session["error"]
    assert not told.of("critique_failed")
    assert told.of("critiqued")[0]["prompt_tokens"] > 0


def test_after_kill_nine_nothing_of_it_is_left(up: Process) -> None:
    """vLLM's engine is a process that its server started, and holds the GPU."""
    started = psutil.Process(up.popen.pid).children(recursive=True)
    assert any("EngineCore" in process.name() for process in started)
    up.kill()
    assert psutil.wait_procs(started, timeout=READY_S)[1] == []

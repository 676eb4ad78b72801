"""One edit over two processes, as ``torchrun`` starts them: the same picture, and no process outlives the others."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")

from tests import tiny
from tests.doubles.diffusion import source
from tests.doubles.processes import free_port
from tests.doubles.waiting import wait

pytestmark = pytest.mark.xdist_group("parallel")


@dataclass
class Ranks:
    """Rank 0, which serves, and rank 1."""

    processes: list[subprocess.Popen[bytes]]
    logs: list[Path]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        running = [process.poll() for process in self.processes] == [None, None]
        assert running, "\n".join(log.read_text() for log in self.logs)
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def ended(self) -> list[int]:
        return [process.wait(120) for process in self.processes]


def launch(command: list[str], folder: Path, port: int = 0) -> Ranks:
    """Start a command as two ranks, with the environment that torchrun gives them."""
    given = {
        "EDITTHINKER_EDITOR_PARALLEL": "ulysses",
        "EDITTHINKER_EDITOR_DEVICE": "cpu",
        "EDITTHINKER_EDITOR_PIXELS": str(64 * 64),
        "EDITTHINKER_EDITOR_MAX_ACTIVE": "1",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    ranks = Ranks([], [folder / f"rank{rank}.log" for rank in (0, 1)], port)
    for rank, log in enumerate(ranks.logs):
        environment = {**os.environ, **given, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with log.open("wb") as out:
            ranks.processes.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
    return ranks


def patiently(condition: Callable[[], object]) -> None:
    """Wait longer than usual: two processes import torch on a machine that may have two cores."""
    ends = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < ends, "the condition never held"
        threading.Event().wait(0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("kontext", tmp_path_factory.mktemp("kontext"))


@pytest.fixture
def ranks(model: Path, tmp_path: Path) -> Iterator[Ranks]:
    port = free_port()
    started = launch(
        [sys.executable, "-m", "services.editor", "--model", str(model), "--pipeline", "auto", "--port", str(port)],
        tmp_path,
        port,
    )
    try:
        patiently(started.ready)
        yield started
    finally:
        started.kill()


def edit(url: str, steps: int = 4) -> httpx.Response:
    data = io.BytesIO()
    source(1).save(data, "PNG")
    form = {"prompt": "make it blue", "seed": "3", "num_inference_steps": str(steps)}
    return httpx.post(f"{url}/v1/images/edits", data=form, files={"image": data.getvalue()}, timeout=120)


def test_two_processes_make_the_picture_of_one_and_end_together(ranks: Ranks, model: Path) -> None:
    """SIGTERM reaches both, as from torchrun: rank 0 finishes, and then ends the other."""
    from services.editor.pipelines import load  # noqa: PLC0415 - with torch
    from services.editor.pipelines.base import EditJob  # noqa: PLC0415
    from services.editor.pipelines.tuning import Tuning  # noqa: PLC0415

    reply = edit(ranks.url)
    assert reply.status_code == 200, reply.text
    made = Image.open(io.BytesIO(base64.b64decode(reply.json()["data"][0]["b64_json"])))
    pipeline = load("auto", str(model), Tuning(device="cpu", pixels=64 * 64))
    job = EditJob(source(1), "make it blue", seed=3, parameters={"num_inference_steps": 4})
    single = pipeline.open(pipeline.prepare(job))
    while single.result is None:
        pipeline.advance([single])
        assert single.error is None
    expected = pipeline.finish(job, single.result).image
    assert np.abs(np.asarray(made.convert("RGB")).astype(int) - np.asarray(expected).astype(int)).max() <= 1
    for process in reversed(ranks.processes):
        process.send_signal(signal.SIGTERM)
    first, second = ranks.ended()
    assert first in {0, -signal.SIGTERM} and second == 0
    assert "rank" not in ranks.logs[1].read_text()


def test_a_lost_follower_ends_rank_0_in_an_edit_and_its_caller_is_answered(ranks: Ranks) -> None:
    with ThreadPoolExecutor() as pool:
        reply = pool.submit(edit, ranks.url, 100)
        wait(lambda: re.search(r"running 1\b|editor_running 1", httpx.get(f"{ranks.url}/metrics", timeout=120).text))
        ranks.processes[1].kill()
        assert reply.result().status_code in {500, 503}
    assert ranks.ended() == [1, -signal.SIGKILL]


_JOINED = """
import threading
from services.editor.pipelines.diffusion import parallel
from services.editor.pipelines.diffusion.device import Device
parallel.join(Device("cpu"))
print("joined", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize(("lost", "statuses"), [(1, [1, -signal.SIGKILL]), (0, [-signal.SIGKILL, 1])])
def test_a_lost_rank_ends_the_other_which_does_nothing(lost: int, statuses: list[int], tmp_path: Path) -> None:
    """With a status that says so, without a pass in which to notice it."""
    ranks = launch([sys.executable, "-c", _JOINED], tmp_path)
    try:
        patiently(lambda: all("joined" in log.read_text() for log in ranks.logs))
        ranks.processes[lost].kill()
        assert ranks.ended() == statuses
    finally:
        ranks.kill()
    assert "ended; this" in ranks.logs[1 - lost].read_text()

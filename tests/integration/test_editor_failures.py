"""A worker in a process of its own whose device is lost, or whose model cannot be had: everybody is answered, and it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.doubles.processes import free_port, start, wait_ready
from tests.tiny import save
from tests.unit.editor.workers import png

LOSING = """
import threading
import torch
from services.editor import __main__
from services.editor.engine.executor import Executor
from services.editor.pipelines.diffusion.interleaved import InterleavedPipeline

compute, submit = InterleavedPipeline._compute, Executor.submit
submitted, everybody = [], threading.Event()

def counting(self, jobs, *arguments):
    submitted.extend(jobs)
    handles = submit(self, jobs, *arguments)
    if len(submitted) == 5:
        everybody.set()
    return handles

def losing(self, edits, arguments):
    if edits[0].job.prompt != "warm up":
        assert everybody.wait(60)
        if edits[0].step == 3:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
    return compute(self, edits, arguments)

Executor.submit, InterleavedPipeline._compute = counting, losing
__main__.main()
"""
"""What torch raises for a lost device, in the middle of the first of five edits."""


def test_a_lost_device_answers_everybody_and_ends_the_worker(tmp_path: Path) -> None:
    """Running and queued edits, with errors that are repeated elsewhere; then the process ends with a status and a reason."""
    save("kontext", tmp_path / "model")
    port = free_port()
    command = [sys.executable, "-c", LOSING, "--pipeline", "kontext", "--model", str(tmp_path / "model"), "--port", str(port)]
    env = {"HF_HUB_OFFLINE": "1", "EDITTHINKER_EDITOR_PIXELS": "4096", "EDITTHINKER_EDITOR_MAX_ACTIVE": "3"}
    worker = start(command, port, tmp_path / "log", env)
    try:
        wait_ready(worker, seconds=120)

        def ask(prompt: str) -> httpx.Response:
            files = {"image": ("a.png", png((64, 64)), "image/png")}
            fields = {"prompt": prompt, "num_inference_steps": "6"}
            return httpx.post(f"{worker.url}/v1/images/edits", data=fields, files=files, timeout=60, trust_env=False)

        prompts = ["one", "two", "three", "four", "five"]
        with ThreadPoolExecutor(len(prompts)) as pool:
            replies = list(pool.map(ask, prompts))
        status = worker.popen.wait(60)
    finally:
        worker.stop()
    assert {reply.json()["error"]["code"] for reply in replies} == {"internal_error", "not_ready"}
    assert status == 1
    last = worker.log.read_text().strip().splitlines()[-1]
    assert last == "the editor failed: PipelineBrokenError: CUDA error: unspecified launch failure"


def test_a_hub_id_that_cannot_be_had_fails_at_once_with_the_reason(tmp_path: Path) -> None:
    """Not after six tries in half a minute, saying that a file is missing."""
    silent = f"http://127.0.0.1:{free_port()}"  # where nobody listens
    for environment, model, told in (
        ({"HF_HUB_OFFLINE": "1"}, "some/model", "not in the hub's cache, and HF_HUB_OFFLINE is set: name a folder, or unset it"),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": silent}, "some/model", "and the hub cannot be reached ("),
        ({"HF_HUB_OFFLINE": "0"}, "/no/such/folder", "there is no folder /no/such/folder, and it is no hub id"),
    ):
        env = {"PATH": os.environ["PATH"], "HF_HOME": str(tmp_path), **environment}
        command = [sys.executable, "-m", "services.editor", "--port", "0", "--pipeline", "auto", "--model", model]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)
        last = ended.stderr.strip().splitlines()[-1]
        assert ended.returncode == 1 and last.startswith("the editor cannot start: ValueError: ") and told in last
        assert "Retrying" not in ended.stderr

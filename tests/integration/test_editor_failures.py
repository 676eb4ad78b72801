"""A worker in a process of its own whose device is lost, or whose model cannot be had: everybody is answered, and it ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import torch

from services.editor.engine.executor import Executor
from services.editor.pipelines import EditJob
from services.editor.pipelines.diffusion.interleaved import InterleavedEdit, InterleavedPipeline
from tests.doubles.forked import forked
from tests.doubles.processes import Process, free_port, wait_ready
from tests.tiny import save
from tests.unit.editor.workers import png


def lose_the_device_in_the_first_of_five_edits() -> None:
    """In the worker's process: raise what torch raises then."""
    compute, submit = InterleavedPipeline._compute, Executor.submit
    submitted: list[EditJob] = []
    everybody = threading.Event()

    def counting(self: Executor, jobs: Sequence[EditJob], *arguments: Any) -> Any:
        submitted.extend(jobs)
        handles = submit(self, jobs, *arguments)
        if len(submitted) == 5:
            everybody.set()
        return handles

    def losing(self: InterleavedPipeline, edits: list[InterleavedEdit], arguments: Any) -> Any:
        if edits[0].job.prompt != "warm up":
            assert everybody.wait(60)
            if edits[0].step == 3:
                raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        return compute(self, edits, arguments)

    Executor.submit, InterleavedPipeline._compute = counting, losing  # type: ignore[method-assign,assignment]


def test_a_lost_device_answers_everybody_and_ends_the_worker(tmp_path: Path) -> None:
    """Running and queued edits, with errors that are repeated elsewhere; then the process ends with a status and a reason."""
    save("kontext", tmp_path / "model")
    port, log = free_port(), tmp_path / "log"
    arguments = ["--pipeline", "kontext", "--model", str(tmp_path / "model"), "--port", str(port)]
    env = {"EDITTHINKER_EDITOR_PIXELS": "4096", "EDITTHINKER_EDITOR_MAX_ACTIVE": "3"}
    popen = forked("services.editor", arguments, log, env, before=lose_the_device_in_the_first_of_five_edits)
    worker = Process(popen, port, log)
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
    log = tmp_path / "log"
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    assert forked("services.editor", ["--port", "0", "--pipeline", "auto", "--model", "some/model"], log, env).wait(120) == 1
    output = log.read_text()
    last = output.strip().splitlines()[-1]
    assert last.startswith("the editor cannot start: ValueError: some/model is no folder here and not in the hub's cache, and ")
    assert "Retrying" not in output

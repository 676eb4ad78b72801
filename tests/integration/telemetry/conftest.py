"""Every hop of a session as a real process: orchestrator, HAProxy, editor worker, rules thinker, Redis, Prometheus."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.doubles.debian import NoProgramError, program
from tests.doubles.haproxy import HAProxy, haproxy, haproxy_binary
from tests.doubles.otlp import Collector, collector
from tests.doubles.processes import Process, free_port, module, redis_server, wait_ready
from tests.doubles.prometheus import Prometheus, prometheus

RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "alerts.yml"
KEY = "sk-for-the-thinker-which-does-not-ask"


@dataclass
class Stack:
    """Every hop of a session."""

    orchestrator: Process
    editor: Process
    thinker: Process
    pool: HAProxy
    collected: Collector


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of them with an endpoint for traces."""
    folder = tmp_path_factory.mktemp("telemetry")
    try:
        haproxy_binary()
    except NoProgramError as exc:
        pytest.skip(str(exc))
    with contextlib.ExitStack() as running:
        collected = running.enter_context(collector())
        redis = running.enter_context(redis_server(folder))
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

        def started(name: str, **settings: str) -> Process:
            process = module(name, free_port(), folder / f"{name}.log", env={**env, **settings})
            running.callback(process.stop)
            return process

        editor, thinker = started("services.editor"), started("services.thinker")
        pool = running.enter_context(haproxy(folder, [f"127.0.0.1:{editor.port}"]))
        thinkers = {"rules": {"url": f"{thinker.url}/v1", "model": "rules", "api_key": KEY}}
        orchestrator = started(
            "orchestrator",
            EDITTHINKER_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0",
            EDITTHINKER_BLOBS=str(folder / "blobs"),
            EDITTHINKER_EDITORS=json.dumps({"classical": {"url": f"{pool.url}/v1", "mask": True}}),
            EDITTHINKER_CONFIRMATIONS="0",
            EDITTHINKER_JUDGE_CHECK="off",
            EDITTHINKER_THINKERS=json.dumps(thinkers),
        )
        for process in (editor, thinker, orchestrator):
            wait_ready(process)
        yield Stack(orchestrator, editor, thinker, pool, collected)


@pytest.fixture(scope="package")
def tools() -> None:
    """promtool and Prometheus; where they cannot be had, these tests say what to install."""
    try:
        program("promtool", "prometheus", ".prometheus")
    except NoProgramError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="package")
def watching(stack: Stack, tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus that scrapes the stack, with our alerts."""
    jobs = {"orchestrator": stack.orchestrator, "editor": stack.editor, "thinker": stack.thinker}
    addresses = {job: f"127.0.0.1:{process.port}" for job, process in jobs.items()}
    addresses["pool"] = f"127.0.0.1:{stack.pool.metrics_port}"
    with prometheus(tmp_path_factory.mktemp("prometheus"), addresses, RULES) as running:
        yield running


def edited(stack: Stack, instruction: str, **headers: str) -> dict[str, Any]:
    """A whole session through the images API."""
    picture = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((96, 64)).save(picture, "png")
    files = {"image": ("a.png", picture.getvalue(), "image/png")}
    url = f"{stack.orchestrator.url}/v1/images/edits"
    reply = httpx.post(url, data={"prompt": instruction, "seed": "1"}, files=files, headers=headers, timeout=60, trust_env=False)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for it; what comes after says what is wrong if it does not come about."""
    ends = time.monotonic() + seconds
    while not true() and time.monotonic() < ends:
        time.sleep(0.05)


def whole_lines(process: Process) -> list[str]:
    """The lines of its log, without one that it is writing."""
    whole, _, _ = process.log.read_text("utf-8").rpartition("\n")
    return whole.splitlines()

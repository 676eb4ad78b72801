"""The compose file's `cpu` profile in real containers: edits, more editors, a killed one, a killed Redis, Prometheus."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.containers.conftest import ready
from tests.containers.engine import ROOT, Stack, report, until, until_equal
from tests.doubles.processes import free_port

PHOTO = ROOT / "examples" / "photos" / "coffee.jpg"


def client(stack: Stack) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{stack.port}", timeout=120, trust_env=False)


def edit(stack: Stack, prompt: str, seed: int = 1) -> httpx.Response:
    with client(stack) as server:
        data = {"prompt": prompt, "seed": str(seed), "response_format": "b64_json"}
        return server.post("/v1/images/edits", files={"image": PHOTO.read_bytes()}, data=data)


def active_editors(stack: Stack) -> int:
    """The number of ready editors, as HAProxy reports it."""
    metrics = f"http://{stack.engine.address(stack.container('pool'))}:8404/metrics"
    text = httpx.get(metrics, timeout=5, trust_env=False).text
    found = re.search(r'^haproxy_backend_active_servers\{proxy="editors"\} (\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def session(stack: Stack, prompt: str) -> Any:
    with client(stack) as server:
        files = {"image": PHOTO.read_bytes()}
        reply = server.post("/v1/sessions", files=files, data={"prompt": prompt}, headers={"Prefer": "wait=60"})
        assert reply.is_success, reply.text
        return reply.json()


def test_an_edit_goes_through_every_container(stack: Stack) -> None:
    """Orchestrator, Redis, HAProxy, editor and thinker: a picture of the source's size comes back."""
    began = time.monotonic()
    with client(stack) as server:
        files = {"image": PHOTO.read_bytes()}
        reply = server.post("/v1/images/edits", files=files, data={"prompt": "make it look like a faded 1970s print"})
    assert reply.status_code == 200, reply.text
    report(f"\nan edit through five containers: {time.monotonic() - began:.1f} s")
    with Image.open(io.BytesIO(_decoded(reply))) as picture, Image.open(PHOTO) as source:
        assert picture.size == source.size


def test_every_health_check_passes(stack: Stack) -> None:
    for container in stack.containers():
        until(partial(stack.engine.healthy, container), 20, f"{container} is not healthy")


def test_nothing_runs_as_root_or_can_write_outside_its_volumes(stack: Stack) -> None:
    """According to the kernel, for every process of every container."""
    containers = stack.containers()
    assert len(containers) == 5
    for container in containers:
        status = Path(f"/proc/{stack.engine.pid(container)}/status").read_text()
        assert not re.search(r"^Uid:.*\t0\b", status, re.MULTILINE), container
        assert set(re.findall(r"^Cap\w+:\t(\w+)$", status, re.MULTILINE)) == {"0" * 16}, container
        assert "NoNewPrivs:\t1" in status, container
        assert stack.engine.inspect(container, "{{.HostConfig.ReadonlyRootfs}}") == "true"


def test_editors_are_added_and_one_is_killed_under_load(stack: Stack) -> None:
    """Scaled to 3, the pool finds them by itself. One killed with -9 loses no caller's edit and returns to the pool."""
    stack.up("--scale", "editor=3")
    began = time.monotonic()
    until_equal(lambda: active_editors(stack), 3, 30, "editors of the pool")
    report(f"\nthe pool had all three editors {time.monotonic() - began:.1f} s after they were started")
    with ThreadPoolExecutor(8) as callers:
        looks = ["a golden hour", "an old postcard", "an overcast morning", "a faded 1970s print"]
        replies = [callers.submit(edit, stack, f"make it look like {looks[n % 4]}", n) for n in range(24)]
        until(lambda: sum(reply.done() for reply in replies) >= 4, 60, "no edit ends")
        os.kill(stack.engine.pid(stack.container("editor", 2)), signal.SIGKILL)
        answers = [reply.result() for reply in replies]
    assert [answer.status_code for answer in answers] == [200] * 24, [a.text[:300] for a in answers if a.status_code != 200]
    until_equal(lambda: active_editors(stack), 3, 30, "editors of the pool after one was killed")
    served = stack.engine.podman("logs", stack.container("pool"))
    assert {"editor1", "editor2", "editor3"} <= set(re.findall(r'"method":"POST".*?"server":"(\w+)"', served))


def test_a_killed_redis_loses_nothing(stack: Stack) -> None:
    """Its container restarts and loads the append-only file of its volume."""
    created = session(stack, "make it look like an overcast morning")
    with client(stack) as server:
        before = server.get(f"/v1/sessions/{created['id']}").json()
        assert before["status"] == "succeeded"
        os.kill(stack.engine.pid(stack.container("redis")), signal.SIGKILL)
        until(lambda: ready(stack), 30, "the stack does not become ready again")
        assert server.get(f"/v1/sessions/{created['id']}").json() == before


def test_prometheus_finds_every_process(stack: Stack) -> None:
    """The compose file's own command and configuration make each process a target, once, and all are up."""
    stack.up("--scale", "editor=3")
    watched = Stack(stack.engine, stack.project, stack.port, stack.folder, ("cpu", "observability"))
    port = free_port()
    watched.settings["PROMETHEUS_PUBLISHED_PORT"] = str(port)
    watched.up("--scale", "editor=3", "prometheus")

    def targets() -> Counter[tuple[str, str]] | str:
        try:
            reply = httpx.get(f"http://127.0.0.1:{port}/api/v1/targets", timeout=5, trust_env=False)
            found = reply.raise_for_status().json()["data"]["activeTargets"]  # 503 while it loads its files
        except httpx.HTTPError as exc:
            return repr(exc)
        # The collector is not among these containers.
        return Counter((a["labels"]["job"], a["health"]) for a in found if a["labels"]["job"] != "otel-collector")

    wanted = Counter({("orchestrator", "up"): 1, ("editor", "up"): 3, ("thinker", "up"): 1, ("pool", "up"): 1})
    until_equal(targets, wanted, 60, "targets of Prometheus")
    until(lambda: stack.engine.healthy(stack.container("prometheus")), 20, "prometheus is not healthy")


def _decoded(reply: httpx.Response) -> bytes:
    return base64.b64decode(reply.json()["data"][0]["b64_json"])

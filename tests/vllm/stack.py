"""The rest of the stack around a thinker, as processes: Valkey and the orchestrator; and whole sessions through it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.doubles.diffusion import worker
from tests.doubles.processes import Process, free_port, module, redis_server, wait_ready
from tests.vllm.serving import BIAS

PATIENCE_S = 240


def thinker(vllm: Process, ending: str, name: str = "editthinker", **more: Any) -> dict[str, Any]:
    """An orchestrator's settings of the tiny thinker in a format; it discovers the constraint."""
    # A fixed seed, so that sessions are reproducible up to rounding.
    sampling = {"temperature": 1, "seed": 7, "max_tokens": 5000, "logit_bias": {ending: BIAS}}
    return {"url": f"{vllm.url}/v1", "model": "tiny", "format": name, "sampling": sampling, **more}


@contextlib.contextmanager
def orchestrator(folder: Path, editors: Mapping[str, Any], thinkers: Mapping[str, Any], **more: str) -> Iterator[httpx.Client]:
    """A client of an orchestrator with these upstreams, more settings, and its own Valkey."""
    with redis_server(folder) as redis:
        env = {
            "EDITTHINKER_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "EDITTHINKER_BLOBS": str(folder / "blobs"),
            "EDITTHINKER_EDITORS": json.dumps(editors),
            "EDITTHINKER_CONFIRMATIONS": "0",  # one critique of each candidate
            "EDITTHINKER_JUDGE_CHECK": "off",
            "EDITTHINKER_THINKERS": json.dumps(thinkers),
            **more,
        }
        process = module("orchestrator", free_port(), folder / "orchestrator.log", env=env)
        try:
            wait_ready(process)
            with httpx.Client(base_url=process.url, timeout=PATIENCE_S + 30, trust_env=False) as http:
                yield http
        finally:
            process.stop()


@dataclass(frozen=True)
class Told:
    """A finished session as the API shows it, and its events."""

    session: dict[str, Any]
    events: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        return [event for event in self.events if event["type"] == kind]


def edit(http: httpx.Client, image: bytes, **fields: object) -> Told:
    """Run a session to its end, with a target of ten of ten, so that it takes several turns."""
    wanted = {"semantic_threshold": 10, "quality_threshold": 10, "max_turns": 3, "patience": 3, "seed": 1, **fields}
    data = {key: str(value) for key, value in wanted.items()}
    reply = http.post("/v1/sessions", data=data, files={"image": image}, headers={"prefer": f"wait={PATIENCE_S}"})
    assert reply.status_code == httpx.codes.OK, reply.text
    session = reply.json()
    assert session["finished_at"], session
    with http.stream("GET", f"/v1/sessions/{session['id']}/events") as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    return Told(session, events)


@contextlib.contextmanager
def kontext(folder: Path) -> Iterator[dict[str, Any]]:
    """A toy Kontext as the only editor. It takes any words: the embedded editor refuses most of what random weights write."""
    home = folder / "editor"
    home.mkdir()
    with worker("kontext", home, max_batch=4) as editor:
        yield {"kontext": {"url": f"{editor.url}/v1", "parameters": ["size", "num_inference_steps"]}}

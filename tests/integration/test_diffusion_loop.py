"""The whole loop with a diffusion editor in place of the embedded one: by configuration alone, with real processes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from services.editor.pipelines import EditJob
from tests.doubles.diffusion import Plain, drawn_alike, png, source, worker
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.integration.conftest import Start
from tests.tiny.loras import saved


def _upstreams(editor: Process, thinker: Process) -> dict[str, str]:
    parameters = ["size", "negative_prompt", "num_inference_steps", "guidance_scale", "true_cfg_scale", "lora", "lora_scale"]
    return {
        "EDITTHINKER_EDITORS": json.dumps({"kontext": {"url": f"{editor.url}/v1", "parameters": parameters}}),
        "EDITTHINKER_THINKERS": json.dumps({"rules": {"url": f"{thinker.url}/v1", "model": "rules"}}),
    }


def test_a_session_thinks_over_a_diffusion_editors_pictures(tmp_path: Path, start_orchestrator: Start) -> None:
    """Every candidate is what Kontext draws for that turn's instruction and seed; the events tell its steps."""
    image = source(3)
    fields = {
        "prompt": "make it feel like golden hour",
        "max_turns": 3,
        "patience": 3,
        "num_inference_steps": 3,
        "true_cfg_scale": 2.5,
        "negative_prompt": "dull",
    }
    thinker = module("services.thinker", free_port(), tmp_path / "thinker.log", "--profile", "rules")
    try:
        wait_ready(thinker)
        with worker("kontext", tmp_path, max_batch=4) as editor:
            orchestrator = start_orchestrator(**_upstreams(editor, thinker))
            with httpx.Client(base_url=orchestrator.url, timeout=120, trust_env=False) as http:
                headers = {"prefer": "wait=100"}
                session = http.post("/v1/sessions", data=fields, files={"image": png(image)}, headers=headers).json()
                events = [json.loads(line[6:]) for line in _events(http, session["id"]) if line.startswith("data: ")]
                pictures = {event["turn"]: _picture(http, session["id"], event) for event in _of(events, "edited")}
    finally:
        thinker.stop()

    assert session["status"] == "succeeded" and session["finish_reason"] in {"max_turns", "satisfied"}
    assert len(pictures) == session["totals"]["turns"] >= 2
    plain = Plain("kontext", tmp_path)
    parameters = {"num_inference_steps": 3, "true_cfg_scale": 2.5}
    for turn, seed in zip(_of(events, "turn_started"), _of(events, "edit_started"), strict=True):
        job = EditJob(image, turn["instruction"], seed["seed"], negative_prompt="dull", parameters=parameters)
        assert drawn_alike(pictures[turn["turn"]], plain.picture(job))
    timings = _of(events, "edited")[0]["timings"]
    assert timings["steps"] == 3 and timings["denoise_ms"] > 0
    assert len({turn["instruction"] for turn in _of(events, "turn_started")}) > 1


def test_a_session_is_edited_with_the_lora_that_it_names(tmp_path: Path, start_orchestrator: Start) -> None:
    """As an option, and as an editor of its own by the worker's name of the model; the log says which."""
    image = source(3)
    lora = saved("kontext", tmp_path / "lora")
    fields = {"prompt": "make it snow", "strategy": "single", "num_inference_steps": 2, "seed": 7, "lora_scale": 0.5}
    thinker = module("services.thinker", free_port(), tmp_path / "thinker.log", "--profile", "rules")
    try:
        wait_ready(thinker)
        with worker("kontext", tmp_path, loras=f"anime={lora}") as editor:
            settings = _upstreams(editor, thinker)
            editors = json.loads(settings["EDITTHINKER_EDITORS"])
            editors["drawn"] = {**editors["kontext"], "model": "anime"}
            orchestrator = start_orchestrator(**{**settings, "EDITTHINKER_EDITORS": json.dumps(editors)})
            with httpx.Client(base_url=orchestrator.url, timeout=120, trust_env=False) as http:
                pictures, created = [], []
                for chosen in ({"lora": "anime"}, {"model": "drawn"}, {"lora_scale": None}):
                    sent = {name: value for name, value in {**fields, **chosen}.items() if value is not None}
                    reply = http.post("/v1/sessions", data=sent, files={"image": png(image)}, headers={"prefer": "wait=100"})
                    session = reply.json()
                    assert session["status"] == "succeeded", session
                    events = [json.loads(line[6:]) for line in _events(http, session["id"]) if line.startswith("data: ")]
                    pictures.append(_picture(http, session["id"], _of(events, "edited")[0]))
                    created.append(_of(events, "session_created")[0])
                refused = http.post("/v1/sessions", data={**fields, "lora": "other"}, files={"image": png(image)})
                models = {model["id"]: model.get("loras") for model in http.get("/v1/models").json()["data"]}
    finally:
        thinker.stop()

    assert refused.status_code == 400 and "(it has: anime)" in refused.json()["error"]["message"]
    assert models == {"kontext": ["anime"], "drawn": ["anime"]}
    assert [(event["editor"], event["editor_options"].get("lora")) for event in created] == [
        ("kontext", "anime"),
        ("drawn", None),
        ("kontext", None),
    ]
    plain = Plain("kontext", tmp_path)
    job = EditJob(image, "make it snow", 7, parameters={"num_inference_steps": 2})
    assert drawn_alike(pictures[2], plain.picture(job))
    plain.load_lora(lora, 0.5)
    wanted = plain.picture(job)
    assert drawn_alike(pictures[0], wanted) and drawn_alike(pictures[1], wanted)
    assert not drawn_alike(pictures[2], wanted)


def _of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def _events(http: httpx.Client, session: str) -> list[str]:
    with http.stream("GET", f"/v1/sessions/{session}/events") as reply:
        return list(reply.iter_lines())


def _picture(http: httpx.Client, session: str, event: dict[str, Any]) -> np.ndarray:
    reply = http.get(f"/v1/sessions/{session}/turns/{event['turn']}/candidates/{event['candidate']}/image")
    return np.asarray(Image.open(io.BytesIO(reply.content)).convert("RGB"))

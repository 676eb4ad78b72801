"""Sessions over a real diffusion worker that spend less of it: with drafts, small pictures of which the winner is edited in full,
and with early rejection, which stops hopeless edits.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from services.protocol.critique.messages import CritiqueRequest
from tests.doubles.diffusion import png, source, worker
from tests.doubles.forked import forked
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_choosing import events_of

PIXELS = 128 * 128
SIZE = (160, 128)
FIELDS = {"prompt": "make it feel like golden hour", "seed": "7", "draft": "true", "patience": "5"}
STEPS = 100
"""Of an edit that is to be stopped: two thirds of them are left when its unfinished picture is judged."""
# One worker for all of them.
pytestmark = pytest.mark.xdist_group("draft_sessions")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    """The editor's worker, and a thinker."""
    folder = tmp_path_factory.mktemp("upstream")
    thinker = module("services.thinker", free_port(), folder / "thinker.log", "--profile", "rules")
    try:
        wait_ready(thinker)
        # Edits that a caller left are dropped at once, and so counted.
        with worker("kontext", folder, pixels=PIXELS, detached_edit_s=0) as editor:
            yield editor, thinker
    finally:
        thinker.stop()


@pytest.fixture
def stack(upstream: tuple[Process, Process], upstreams: str, start_orchestrator: Start) -> Iterator[tuple[httpx.Client, Process]]:
    """An orchestrator that knows what its editors take, and the diffusion worker."""
    editor, thinker = upstream
    editors = {
        "kontext": {"url": f"{editor.url}/v1", "parameters": ["size", "num_inference_steps"]},
        "plain": {"url": f"{thinker.url}/v1", "mask": False, "images": 1},
    }
    orchestrator = start_orchestrator(
        EDITTHINKER_EDITORS=json.dumps(editors),
        EDITTHINKER_THINKERS=json.dumps(
            {
                "rules": {"url": f"{thinker.url}/v1", "model": "rules"},
                "scripted": {"url": f"{upstreams}/thinker/v1", "model": "scripted"},
            }
        ),
    )
    with httpx.Client(base_url=orchestrator.url, timeout=150, trust_env=False) as http:
        ends = time.monotonic() + 60
        while http.get("/v1/models/kontext").json().get("draft") is None:
            assert time.monotonic() < ends
        yield http, editor


def test_drafts_are_small_and_the_winner_is_the_workers_own_picture_in_full(stack: tuple[httpx.Client, Process]) -> None:
    """Its instruction and seed make the same picture without the loop, bit by bit."""
    http, editor = stack
    image = png(source(3, SIZE))
    given = {**FIELDS, "max_turns": "2", "semantic_threshold": "10", "quality_threshold": "10", "num_inference_steps": "2"}
    session = http.post("/v1/sessions", data=given, files={"image": image}, headers={"prefer": "wait=140"}).json()

    assert (session["status"], session["finish_reason"], session["draft"]) == ("succeeded", "max_turns", True)
    *drafts, last = session["turns"]
    assert [turn["draft"] for turn in drafts] == [True, True]
    for turn in drafts:
        (candidate,) = turn["candidates"]
        assert candidate["image"]["width"] * candidate["image"]["height"] <= PIXELS / 4
        assert candidate["scores"]
    assert "draft" not in last
    winner = session["turns"][last["renders"]["turn"] - 1]
    (made,) = last["candidates"]
    assert (last["instruction"], made["seed"]) == (winner["instruction"], winner["candidates"][0]["seed"])
    assert session["best"] == {"turn": 3, "candidate": 1}
    assert session["totals"]["edits"] == 3

    answer = Image.open(io.BytesIO(http.get(session["urls"]["image"]).content))
    alone = {"prompt": last["instruction"], "seed": str(made["seed"]), "num_inference_steps": "2"}
    reply = httpx.post(f"{editor.url}/v1/images/edits", data=alone, files={"image": image}, timeout=100, trust_env=False).json()
    expected = Image.open(io.BytesIO(base64.b64decode(reply["data"][0]["b64_json"])))
    assert answer.size == expected.size == SIZE
    assert answer.convert("RGB").tobytes() == expected.convert("RGB").tobytes()


def test_an_editor_that_makes_no_drafts_refuses_them(stack: tuple[httpx.Client, Process]) -> None:
    http, _ = stack
    given: dict[str, Any] = {**FIELDS, "model": "plain"}
    ends = time.monotonic() + 60
    # The thinker's list of models tells nothing of drafts.
    while http.get("/v1/models/plain").json().get("draft") is None:
        assert time.monotonic() < ends
    refused = http.post("/v1/sessions", data=given, files={"image": png(source(3, SIZE))})

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "draft")


def wasted_steps(editor: Process) -> float:
    """The denoise steps of edits that the worker dropped, by its own count."""
    text = httpx.get(f"{editor.url}/metrics", trust_env=False).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return next(sample.value for sample in samples if sample.name == "editthinker_editor_wasted_steps_total")


def test_a_hopeless_edit_is_stopped_at_the_worker(stack: tuple[httpx.Client, Process], script: Script) -> None:
    """The caller's own instruction scores 7, finished or not, and every refined one 0."""
    http, editor = stack

    def scored(asked: CritiqueRequest) -> tuple[float, float]:
        return (7.0, 7.0) if asked.turn_instruction == FIELDS["prompt"] else (0.0, 0.0)

    script.scored = scored
    before = wasted_steps(editor)
    given = {"prompt": FIELDS["prompt"], "seed": "7", "reject_early": "true", "thinker": "scripted", "max_turns": "4"}
    given |= {"patience": "4", "num_inference_steps": str(STEPS)}
    files = {"image": png(source(3, SIZE))}
    session = http.post("/v1/sessions", data=given, files=files, headers={"prefer": "wait=140"}).json()

    assert (session["status"], session["reject_early"]) == ("succeeded", True)
    assert session["best"] == {"turn": 1, "candidate": 1}
    candidates = [candidate for turn in session["turns"] for candidate in turn["candidates"]]
    first, *_ = candidates
    assert (first["status"], first["preview"]["scores"]["overall"], first["scores"]["overall"]) == ("critiqued", 7.0, 7.0)
    unfinished, finished = (http.get(url) for url in (first["preview"]["url"], first["image"]["url"]))
    assert unfinished.status_code == finished.status_code == 200
    assert unfinished.headers["content-type"] == first["preview"]["media_type"]
    size = first["preview"]["width"], first["preview"]["height"]
    assert Image.open(io.BytesIO(unfinished.content)).size == size
    assert unfinished.content != finished.content

    rejected = [candidate for candidate in candidates if candidate["status"] == "rejected"]
    assert rejected
    assert all(candidate["image"] is None and candidate["preview"]["scores"]["overall"] == 0.0 for candidate in rejected)
    kinds = [event["type"] for event in events_of(http, session)]
    assert kinds.count("edit_rejected") == len(rejected)
    # The worker notices that its caller left between two steps.
    ends = time.monotonic() + 60
    while (wasted := wasted_steps(editor) - before) == 0:
        assert time.monotonic() < ends
    assert 0 < wasted < STEPS * len(rejected)


def test_early_rejection_is_refused_for_an_editor_without_unfinished_pictures(
    upstreams: str, start_orchestrator: Start, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "editor.log"
    classical = Process(forked("services.editor", ["--port", str(port), "--pipeline", "classical"], log, {}), port, log)
    try:
        wait_ready(classical)
        orchestrator = start_orchestrator(EDITTHINKER_EDITORS=json.dumps({"classical": {"url": f"{classical.url}/v1"}}))
        with httpx.Client(base_url=orchestrator.url, timeout=30, trust_env=False) as http:
            ends = time.monotonic() + 60
            while (previews := http.get("/v1/models/classical").json().get("previews")) is None:
                assert time.monotonic() < ends
            given = {"prompt": FIELDS["prompt"], "reject_early": "true"}
            refused = http.post("/v1/sessions", data=given, files={"image": png(source(3, SIZE))})
    finally:
        classical.stop()

    assert previews is False
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "reject_early")
    assert refused.json()["error"]["code"] == "unsupported_parameter"

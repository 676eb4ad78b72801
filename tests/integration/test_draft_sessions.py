"""A session with drafts over a real diffusion worker: small pictures that cost less, and the winner edited in full."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.doubles.diffusion import png, source, worker
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.integration.conftest import Start

PIXELS = 128 * 128
SIZE = (160, 128)
FIELDS = {"prompt": "make it feel like golden hour", "seed": "7", "draft": "true", "patience": "5"}
# One worker for all of them.
pytestmark = pytest.mark.xdist_group("draft_sessions")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    """The editor's worker, and a thinker."""
    folder = tmp_path_factory.mktemp("upstream")
    thinker = module("services.thinker", free_port(), folder / "thinker.log", "--profile", "rules")
    try:
        wait_ready(thinker)
        with worker("kontext", folder, pixels=PIXELS) as editor:
            yield editor, thinker
    finally:
        thinker.stop()


@pytest.fixture
def stack(upstream: tuple[Process, Process], start_orchestrator: Start) -> Iterator[tuple[httpx.Client, Process]]:
    """An orchestrator that knows what its editors take, and the diffusion worker."""
    editor, thinker = upstream
    editors = {
        "kontext": {"url": f"{editor.url}/v1", "parameters": ["size", "num_inference_steps"]},
        "plain": {"url": f"{thinker.url}/v1", "mask": False, "images": 1},
    }
    orchestrator = start_orchestrator(
        EDITTHINKER_EDITORS=json.dumps(editors),
        EDITTHINKER_THINKERS=json.dumps({"rules": {"url": f"{thinker.url}/v1", "model": "rules"}}),
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
        # Rounded to the model's grid.
        assert candidate["image"]["width"] * candidate["image"]["height"] <= PIXELS / 4 * 1.05
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

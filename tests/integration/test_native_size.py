"""A loop over large sources with a real diffusion worker: small pictures between turns, the source's size in the end."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from editthinker import EditThinker
from tests.doubles.diffusion import png, source, worker
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.integration.conftest import Start
from tests.integration.test_takeover import until

PIXELS = 256 * 256
TWELVE_MEGAPIXELS = (4000, 3000)
FIELDS = {"prompt": "make it feel like golden hour", "max_turns": "2", "patience": "2", "num_inference_steps": "2", "seed": "7"}


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
    """An orchestrator that knows what its editor takes, and the editor's worker."""
    editor, thinker = upstream
    parameters = ["size", "num_inference_steps"]
    orchestrator = start_orchestrator(
        EDITTHINKER_EDITORS=json.dumps({"kontext": {"url": f"{editor.url}/v1", "parameters": parameters}}),
        EDITTHINKER_THINKERS=json.dumps({"rules": {"url": f"{thinker.url}/v1", "model": "rules"}}),
    )
    with httpx.Client(base_url=orchestrator.url, timeout=150, trust_env=False) as http:
        ends = time.monotonic() + 60
        while http.get("/v1/models/kontext").json()["mask"] is None:
            assert time.monotonic() < ends
        yield http, editor


def test_turns_have_the_native_size_and_the_result_the_sources(stack: tuple[httpx.Client, Process]) -> None:
    """The result is the very picture that the worker would have answered at the source's size."""
    http, editor = stack
    image = png(source(3, TWELVE_MEGAPIXELS))
    begun = http.post("/v1/sessions", data=FIELDS, files={"image": image}).json()
    # A picture of this size is decoded in the time that nobody else wants, which on a busy machine is minutes.
    until(lambda: http.get(begun["urls"]["self"]).json()["finished_at"], 400)
    session = http.get(begun["urls"]["self"]).json()

    candidates = [candidate for turn in session["turns"] for candidate in turn["candidates"]]
    assert len(candidates) == 2
    for candidate in candidates:
        native = _picture(http.get(candidate["image"]["url"]))
        assert native.size == (288, 224) == (candidate["image"]["width"], candidate["image"]["height"])
        assert candidate["image"]["bytes"] < 4 * PIXELS
        assert "size" not in (candidate["reasoning"] or "")
    best = session["best"]
    chosen = session["turns"][best["turn"] - 1]["candidates"][0]
    other = candidates[2 - best["turn"]]
    answer = http.get(session["urls"]["image"])
    assert _picture(answer).size == TWELVE_MEGAPIXELS
    assert (chosen["answer"]["width"], chosen["answer"]["height"]) == TWELVE_MEGAPIXELS
    assert http.get(chosen["answer"]["url"]).content == answer.content
    assert "answer" not in other
    with EditThinker(str(http.base_url), "") as client:
        assert client.sessions.answer(session["id"], session["best"]["turn"], session["best"]["candidate"]) == answer.content
    # Stored, so that it is not scaled again.
    assert answer.headers["etag"].startswith(f'"{chosen["answer"]["sha256"]}-')
    own = {"prompt": session["revised_prompt"], "seed": chosen["seed"], "num_inference_steps": 2}
    whole = httpx.post(
        f"{editor.url}/v1/images/edits",
        data=own,
        files={"image": image},
        headers={"accept": "application/vnd.editthinker.image"},
        timeout=150,
    )
    assert np.array_equal(np.asarray(_picture(whole)), np.asarray(_picture(answer)))


def test_links_lead_to_pictures_of_the_size_asked_for(stack: tuple[httpx.Client, Process]) -> None:
    http, _ = stack
    fields = {**FIELDS, "n": "2", "response_format": "url", "size": "600x480", "output_format": "webp"}
    reply = http.post("/v1/images/edits", data=fields, files={"image": png(source(4, (800, 600)))}).json()

    assert reply["size"] == "600x480" and len(reply["data"]) == 2
    for item in reply["data"]:
        assert _picture(http.get(item["url"])).size == (600, 480)
    streamed = http.post(
        "/v1/images/edits",
        data={**FIELDS, "stream": "true", "size": "600x480"},
        files={"image": png(source(4, (800, 600)))},
    )
    sizes = [(event["type"], event["size"]) for event in _events(streamed)]
    assert sizes[-1] == ("image_edit.completed", "600x480")
    assert {size for kind, size in sizes if kind == "image_edit.partial_image"} == {"288x224"}


def test_with_a_mask_the_sources_own_pixels_stay(stack: tuple[httpx.Client, Process]) -> None:
    http, _ = stack
    image = source(5, (1200, 900))
    mask = Image.new("RGBA", image.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 600, 900))
    files = {"image": png(image), "mask": png(mask)}
    session = http.post("/v1/sessions", data=FIELDS, files=files, headers={"prefer": "wait=140"}).json()

    result = _picture(http.get(session["urls"]["image"]))
    assert result.size == image.size
    assert np.array_equal(np.asarray(result)[:, 600:], np.asarray(image)[:, 600:])
    assert not np.array_equal(np.asarray(result)[:, :600], np.asarray(image)[:, :600])
    for turn in session["turns"]:
        [candidate] = turn["candidates"]
        assert (candidate["image"]["width"], candidate["image"]["height"]) == image.size
        assert candidate["outside_mask"]["changed"] == 0


def _picture(reply: httpx.Response) -> Image.Image:
    assert reply.status_code == 200, reply.text
    return Image.open(io.BytesIO(reply.content))


def _events(reply: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]

"""Whole sessions with references and a mask: every editor and every critique gets the pictures, also after a kill -9."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image, ImageDraw
from starlette.responses import JSONResponse

from editthinker import EditThinker
from services.editor.pipelines import EditJob
from services.protocol.critique.messages import read
from services.protocol.critique.prompts import Template
from tests.doubles.diffusion import Plain, drawn_alike, png, source, worker
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_takeover import until

PICTURES = [png(source(number, (64, 48))) for number in range(6)]
PROMPT = "put the hat of picture 2 on the cat"
_PARAMETERS = ["size", "num_inference_steps"]


def mask(size: tuple[int, int] = (64, 48)) -> bytes:
    """The upper left part may change."""
    image = Image.new("RGBA", size, (0, 0, 0, 255))
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2 - 1, size[1] // 2 - 1), fill=(0, 0, 0, 0))
    return png(image)


def editors(upstreams: str, **more: dict[str, Any]) -> str:
    """One that takes one picture, and one that takes sixteen; both tell so themselves."""
    doubles = {name: {"url": f"{upstreams}/{path}/v1", "attempts": 3} for name, path in (("one", "editor"), ("many", "several"))}
    return json.dumps({**doubles, **more})


def parts(pictures: list[bytes], masked: bytes | None = None, name: str = "image[]") -> list[tuple[str, tuple[str, bytes, str]]]:
    files = [(name, ("a.png", data, "image/png")) for data in pictures]
    return [*files, ("mask", ("m.png", masked, "image/png"))] if masked else files


def create(api: httpx.Client, pictures: list[bytes], masked: bytes | None = None, **fields: object) -> httpx.Response:
    """A session with these pictures, once what the editors take is known."""
    headers = {"idempotency-key": str(fields.pop("key"))} if "key" in fields else {}
    data = {"prompt": PROMPT, "model": "many", **{name: str(value) for name, value in fields.items()}}

    replies: list[httpx.Response] = []

    def known() -> bool:
        replies.append(api.post("/v1/sessions", files=parts(pictures, masked), data=data, headers=headers))
        return replies[-1].status_code != 503

    until(known)
    return replies[-1]


def finished(api: httpx.Client, session_id: str, seconds: float = 60) -> dict[str, Any]:
    until(lambda: api.get(f"/v1/sessions/{session_id}").json()["finished_at"], seconds)
    session: dict[str, Any] = api.get(f"/v1/sessions/{session_id}").json()
    return session


def client(process: Process) -> httpx.Client:
    return httpx.Client(base_url=process.url, timeout=30, trust_env=False)


def shown(body: dict[str, Any]) -> list[bytes]:
    """The pictures of a chat completion, in their order."""
    urls = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    return [base64.b64decode(url.partition(",")[2]) for url in urls]


@pytest.mark.parametrize("count", [2, 5])
def test_references_and_mask_go_to_every_edit_and_critique_also_after_a_kill(
    count: int, start_orchestrator: Start, script: Script, upstreams: str
) -> None:
    """Byte for byte and in the caller's order; the fixed part of the prompt is the same before and after."""
    pictures, script.hold_edit = PICTURES[:count], 2
    first = start_orchestrator(EDITTHINKER_EDITORS=editors(upstreams))
    with client(first) as api:
        reply = create(api, pictures, mask(), seed=3)
        assert reply.status_code == 202, reply.text
        session_id = reply.json()["id"]
    until(lambda: len(script.edits) == 2)
    first.kill()
    script.hold_edit = None
    again = start_orchestrator(port=first.port, EDITTHINKER_EDITORS=editors(upstreams))
    with client(again) as api:
        session = finished(api, session_id)
        assert session["finish_reason"] == "satisfied" and len(session["turns"]) == 3
        served = [api.get(link["url"]).content for link in (session["source"], *session["references"], session["mask"])]
        export = json.loads(api.get("/v1/export").text.splitlines()[0])
    expected = [("image[]", data) for data in pictures] + [("mask", mask())]
    assert [sent for sent in script.sent if sent != expected] == [] and len(script.sent) == 4
    assert served == [*pictures, mask()]
    created = export["events"][0]
    assert created["version"] == 2 and len(created["references"]) == count - 1

    bodies, template = script.critiques, Template.named("editthinker")
    prompts = [read(body["messages"], [template]) for body in bodies]
    assert len(prompts) == 3
    for body, prompt in zip(bodies, prompts, strict=True):
        images = shown(body)
        assert images[:count] == pictures and len(images) == count + 2
        assert [reference.data for reference in prompt.references] == pictures[1:]
        assert prompt.instruction == PROMPT and prompt.area is not None
        # The double paints one pixel, within the mask.
        assert prompt.strayed is not None and prompt.strayed.changed == 0
    fixed = [json.dumps(body["messages"][0]["content"][: 2 * (count + 1)]) for body in bodies]
    assert len(set(fixed)) == 1
    candidates = [candidate for turn in session["turns"] for candidate in turn["candidates"]]
    assert [candidate["outside_mask"] for candidate in candidates] == [{"changed": 0.0, "difference": 0.0}] * 3


@pytest.mark.parametrize("count", [2, 5])
def test_a_diffusion_worker_draws_with_all_pictures_over_a_kill(
    count: int, start_orchestrator: Start, script: Script, upstreams: str, tmp_path: Path
) -> None:
    """A tiny FLUX.2 of random weights, in a process of its own; the orchestrator asked it how many pictures it takes."""
    killed = threading.Event()

    def until_killed(number: int) -> None:
        assert number != 2 or killed.wait(120)

    script.critique_fault, script.scores = until_killed, [(3, 9), (6, 9), (6, 9), (9, 9)]
    with worker("flux2", tmp_path) as editor:
        more = {"flux2": {"url": f"{editor.url}/v1", "parameters": _PARAMETERS}}
        settings = {"EDITTHINKER_EDITORS": editors(upstreams, **more)}
        first = start_orchestrator(**settings)
        with client(first) as api:
            reply = create(api, PICTURES[:count], model="flux2", num_inference_steps=2, seed=3, deadline_s=300)
            assert reply.status_code == 202, reply.text
            session_id = reply.json()["id"]
        until(lambda: len(script.critiques) == 2, seconds=90)
        first.kill()
        killed.set()
        again = start_orchestrator(port=first.port, **settings)
        with client(again) as api:
            session = finished(api, session_id, seconds=90)
            links = [turn["candidates"][0]["image"]["url"] for turn in session["turns"]]
            made = [np.asarray(Image.open(io.BytesIO(api.get(link).content)).convert("RGB")) for link in links]
    assert session["status"] == "succeeded" and len(made) == 3
    plain = Plain("flux2", tmp_path)
    images = [Image.open(io.BytesIO(data)) for data in PICTURES[:count]]
    for turn, found in zip(session["turns"], made, strict=True):
        job = EditJob(images[0], turn["instruction"], 3, parameters={"num_inference_steps": 2}, references=tuple(images[1:]))
        assert drawn_alike(found, plain.picture(job))
    for body, found in zip([*script.critiques[:1], *script.critiques[2:]], made, strict=True):
        pictures = shown(body)
        assert pictures[:count] == PICTURES[:count]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(pictures[-1])).convert("RGB")), found)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[str]:
    """The embedded editor's base URL."""
    process = module("services.editor", free_port(), tmp_path / "editor.log", "--pipeline", "classical")
    try:
        wait_ready(process)
        yield f"{process.url}/v1"
    finally:
        process.stop()


def test_the_embedded_editor_changes_what_the_mask_opens_and_nothing_else(
    embedded: str, start_orchestrator: Start, script: Script, upstreams: str
) -> None:
    """Nothing says that it takes a mask but its own list of models; the session is killed between its edits and resumed."""
    script.scores, script.critique_fault = [(3, 9), (9, 9)], lambda _: None
    settings = {"EDITTHINKER_EDITORS": editors(upstreams, classical={"url": embedded})}
    first = start_orchestrator(**settings)
    with client(first) as api:
        reply = create(api, PICTURES[:1], mask(), model="classical", prompt="much brighter and warmer", review="each_turn")
        assert reply.status_code == 202, reply.text
        session_id = reply.json()["id"]
        until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "awaiting_review")
    first.kill()
    again = start_orchestrator(port=first.port, **settings)
    with client(again) as api:
        api.post(f"/v1/sessions/{session_id}/feedback", json={"action": "instruct", "instruction": "much darker"})
        until(lambda: len(api.get(f"/v1/sessions/{session_id}").json()["turns"]) == 2)
        until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "awaiting_review")
        api.post(f"/v1/sessions/{session_id}/feedback", json={"action": "accept"})
        session = finished(api, session_id)
        results = [api.get(turn["candidates"][0]["image"]["url"]).content for turn in session["turns"]]
    before = np.asarray(Image.open(io.BytesIO(PICTURES[0]))).astype(int)
    for data, turn in zip(results, session["turns"], strict=True):
        after = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        change = np.abs(after - before).max(axis=2)
        assert change[:20, :28].mean() > 5
        assert change[24:].max() == change[:, 32:].max() == 0
        assert turn["candidates"][0]["outside_mask"] == {"changed": 0.0, "difference": 0.0}


def test_what_an_edit_changes_outside_the_mask_is_told(
    start_orchestrator: Start, script: Script, upstreams: str, tmp_path: Path
) -> None:
    """In the event, the session, the report's session and the thinker's prompt; JPEG noise is not a change."""

    def answer(number: int) -> Any:
        image = Image.open(io.BytesIO(PICTURES[0])).convert("RGB")
        if number > 1:
            image.paste("white", (32, 0, 64, 48))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        body = {"created": 0, "data": [{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]}
        return JSONResponse(body)

    script.edit_fault = answer
    orchestrator = start_orchestrator(EDITTHINKER_EDITORS=editors(upstreams))
    with client(orchestrator) as api:
        session = finished(api, create(api, PICTURES[:1], mask(), max_turns=2).json()["id"])
        log = api.get(session["urls"]["events"]).text
    told = [turn["candidates"][0]["outside_mask"] for turn in session["turns"]]
    assert told[0]["changed"] == 0 and 0 < told[0]["difference"] < 2
    assert told[1]["changed"] > 0.5 and told[1]["difference"] > 30
    assert json.dumps({"outside_mask": told[1]}, separators=(",", ":"))[1:-1] in log
    prompts = [read(body["messages"], [Template.named("editthinker")]) for body in script.critiques]
    strayed = [prompt.strayed.changed for prompt in prompts if prompt.strayed]
    assert strayed == [0, pytest.approx(told[1]["changed"], abs=0.001)]
    with EditThinker(orchestrator.url) as server:
        assert server.sessions.get(session["id"]).turns[1].candidates[0].outside_mask.changed == told[1]["changed"]  # type: ignore[union-attr]


def test_more_pictures_than_an_editor_takes_are_refused_before_the_session(
    start_orchestrator: Start, script: Script, upstreams: str
) -> None:
    orchestrator = start_orchestrator(EDITTHINKER_EDITORS=editors(upstreams))
    with client(orchestrator) as api:
        create(api, PICTURES[:2], max_turns=1)
        known = len(api.get("/v1/sessions").json()["data"])
        several, masked = create(api, PICTURES[:2], model="one"), create(api, PICTURES[:1], mask(), model="one")
        too_many = create(api, PICTURES[:1] * 17)
        other_size = create(api, PICTURES[:1], mask((64, 64)))
        assert len(api.get("/v1/sessions").json()["data"]) == known
        models = api.get("/v1/models").json()
        cards = {card["id"]: card for card in models["data"]}
    errors = [reply.json()["error"] for reply in (several, masked, too_many, other_size)]
    assert [reply.status_code for reply in (several, masked, too_many, other_size)] == [400] * 4
    assert [error["param"] for error in errors] == ["image", "mask", "image", "mask"]
    assert errors[0]["message"] == (
        "image: 2 pictures were sent, and the editor 'one' takes 1 picture; send no more, or choose an editor that takes that: "
        "model=many"
    )
    assert "at most 16" in errors[2]["message"] and "mask is 64x64, the image 64x48" in errors[3]["message"]
    assert (cards["one"]["images"], cards["one"]["mask"]) == (1, False)
    assert (cards["many"]["images"], cards["many"]["mask"]) == (16, True)
    assert {card["images"] for card in models["thinkers"]} == {None}


def test_the_official_client_and_ours_send_lists(start_orchestrator: Start, script: Script, upstreams: str) -> None:
    """And a repeat under a key is the same request only with the same references in the same order."""
    orchestrator = start_orchestrator(EDITTHINKER_EDITORS=editors(upstreams))
    expected = [("image[]", data) for data in PICTURES[:3]]
    with client(orchestrator) as api:
        create(api, PICTURES[:2], max_turns=1)
    with openai.OpenAI(base_url=f"{orchestrator.url}/v1", api_key="none", max_retries=0) as official:
        reply = official.images.edit(model="many", image=PICTURES[:3], mask=mask(), prompt=PROMPT, extra_body={"max_turns": 1})
    assert reply.data and reply.data[0].b64_json
    assert script.sent[-1] == [*expected, ("mask", mask())]
    with EditThinker(orchestrator.url) as server:
        options: dict[str, Any] = {"editor": "many", "max_turns": 1, "idempotency_key": "k"}
        outcome = server.edit(PICTURES[:3], PROMPT, **options)
        assert len(outcome.session.references) == 2 and outcome.session.mask is None
        assert server.sessions.reference(outcome.session.id, 2) == PICTURES[2]
        again = server.sessions.create(PICTURES[:3], PROMPT, **options)
        assert again.id == outcome.session.id
        with pytest.raises(Exception, match="used for another request"):
            server.sessions.create([PICTURES[0], *PICTURES[2:0:-1]], PROMPT, **options)
    assert script.sent[-1] == expected


def test_a_deleted_session_takes_its_references_and_mask_along(
    start_orchestrator: Start, script: Script, upstreams: str, tmp_path: Path
) -> None:
    orchestrator = start_orchestrator(EDITTHINKER_EDITORS=editors(upstreams))
    with client(orchestrator) as api:
        session = finished(api, create(api, PICTURES[:3], mask(), max_turns=1).json()["id"])
        paths = [link["url"] for link in (*session["references"], session["mask"])]
        assert [api.get(path).status_code for path in paths] == [200, 200, 200]
        assert api.get(f"{paths[0]}?format=jpeg").headers["content-type"] == "image/jpeg"
        assert api.get(f"/v1/sessions/{session['id']}/references/3").json()["error"]["code"] == "image_not_found"
        assert api.delete(session["urls"]["self"]).status_code == 204
        assert [api.get(path).status_code for path in paths] == [404, 404, 404]
        folder = tmp_path / "blobs" / session["id"]
        until(lambda: not folder.exists() or not list(folder.iterdir()))

"""The worker over HTTP with a pipeline that has steps: progress, previews, cancelling, resuming, priority."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import io
import json
import weakref
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from services.editor.api import images, stream
from services.errors import ApiError
from tests.doubles.waiting import until
from tests.unit.editor.interleaved import Stepping, Steps
from tests.unit.editor.workers import client, context, png, post, running


@contextlib.asynccontextmanager
async def stepping(**settings: Any) -> AsyncIterator[tuple[Steps, FastAPI, httpx.AsyncClient]]:
    pipeline = Steps()
    async with running(lambda: pipeline, max_batch=4, **settings) as app, client(app) as http:
        yield pipeline, app, http
        pipeline.free = True
        for _ in range(500):
            pipeline.gate.release()


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


async def test_a_stream_shows_steps_and_previews_and_then_the_picture() -> None:
    """Partial images are OpenAI's, smaller than the picture, with the step they show."""
    async with stepping() as (_, _, http):
        received = events((await post(http, stream="true", partial_images=2, num_inference_steps=6)).text)
    kinds = [event["type"] for event in received]
    partials = [event for event in received if event["type"] == "image_edit.partial_image"]
    assert kinds[-1] == "image_edit.completed" and kinds.count("image_edit.completed") == 1
    assert "image_edit.progress" in kinds
    assert len(partials) <= 2
    for number, event in enumerate(partials):
        assert event["partial_image_index"] == number and event["steps"] == 6 and event["size"] == "4x4"
        assert Image.open(io.BytesIO(base64.b64decode(event["b64_json"]))).size == (4, 4)


async def test_every_preview_reaches_a_reader_who_keeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step waits until its previews are encoded."""
    read: list[bytes] = []

    async def recorded(*arguments: Any) -> AsyncIterator[bytes]:
        async for chunk in stream.events(*arguments):
            read.append(chunk)
            yield chunk

    monkeypatch.setattr(images, "events", recorded)
    async with stepping() as (pipeline, app, http):
        pipeline.free = False
        fields = {"stream": "true", "partial_images": 3, "num_inference_steps": 4, "n": 2, "seed": 1}
        asking = asyncio.create_task(post(http, {"idempotency-key": "k"}, **fields))
        await until(lambda: context(app).engine.find("k") is not None)
        task = context(app).engine.find("k")
        assert task is not None
        await until(lambda: pipeline.entered == 1)
        while not all(image.done() for image in task.images):
            passes = pipeline.entered
            pipeline.gate.release()
            # A pass is told of before the next one is entered.
            await until(lambda: pipeline.entered > passes or task.done)  # noqa: B023 - called at once
            await asyncio.sleep(0)
            # Wait until the reader has the previews of the steps so far: a later one takes the place of one that it has not.
            shown = {place: min(step, 3) for place, (step, _) in task.steps.items()}
            await until(lambda: b"".join(read).count(b"event: image_edit.partial_image") >= sum(shown.values()) or task.done)  # noqa: B023
        received = events((await asking).text)
    partials = [
        (event["index"], event["partial_image_index"]) for event in received if event["type"] == "image_edit.partial_image"
    ]
    assert sorted(partials) == [(place, number) for place in (0, 1) for number in (0, 1, 2)]
    assert [event["index"] for event in received if event["type"] == "image_edit.completed"] == [0, 1]


async def test_timings_have_the_stages_the_steps_and_the_batch_size() -> None:
    """In JSON and as Server-Timing; those of several pictures are added up."""
    async with stepping() as (_, _, http):
        reply = await post(http, n=3, num_inference_steps=5)
    timings = reply.json()["timings"]
    stages = {"queue_ms", "read_ms", "encode_ms", "denoise_ms", "decode_ms", "edit_ms", "write_ms", "total_ms"}
    assert set(timings) == stages | {"steps", "batch_size"}
    assert timings["steps"] == 15 and timings["batch_size"] > 1 and timings["encode_ms"] == 300
    assert "denoise;dur=" in reply.headers["server-timing"]


async def test_deleting_an_edit_stops_it_at_its_next_step() -> None:
    """Its caller gets 409, its capacity is released, and keys may contain slashes."""
    key = "ses_1/2/1"
    async with stepping() as (pipeline, app, http):
        pipeline.free = False
        asking = asyncio.create_task(post(http, {"idempotency-key": key}, num_inference_steps=50))
        for _ in range(4):
            pipeline.gate.release()
        await until(lambda: len(pipeline.log) >= 4)
        stopped = await http.delete(f"/v1/edits/{key}")
        reply = await asking
        pipeline.gate.release()
        await until(lambda: context(app).executor.running == 0)
        assert context(app).executor.in_flight == 0
        steps = len(pipeline.log)
        pipeline.free = True
        again = await post(http, {"idempotency-key": key}, num_inference_steps=2)
        forgotten = await http.delete(f"/v1/edits/{key}")
        unknown = await http.delete(f"/v1/edits/{key}")
        metrics = (await http.get("/metrics")).text
    assert stopped.json() == {"id": key, "object": "edit", "status": "cancelled"}
    assert reply.status_code == 409 and reply.json()["error"]["code"] == "edit_cancelled"
    assert steps <= 5 and again.status_code == 200
    assert forgotten.status_code == 200
    assert unknown.status_code == 404 and unknown.json()["error"]["param"] == "key"
    assert "editthinker_editor_wasted_steps_total 3" in metrics or "editthinker_editor_wasted_steps_total 4" in metrics


async def test_a_repeat_resumes_the_edit_where_it_stopped() -> None:
    """Its capacity was released in between, and no step is done twice."""
    key = {"idempotency-key": "ses_1/1/1"}
    async with stepping() as (pipeline, app, http):
        pipeline.free = False
        leaving = asyncio.create_task(post(http, key, num_inference_steps=6, seed=1))
        for _ in range(3):
            pipeline.gate.release()
        await until(lambda: len(pipeline.log) >= 3)
        await _leave(leaving)
        assert context(app).executor.in_flight == 0
        pipeline.free = True
        pipeline.gate.release()
        other = await post(http, num_inference_steps=3, seed=2)
        before = sum(1 in seeds for seeds in pipeline.log)
        back = await post(http, key, num_inference_steps=6, seed=1)
    assert other.status_code == 200 and back.status_code == 200
    assert before < 7
    assert sum(1 in seeds for seeds in pipeline.log) == 7  # one start, six steps


async def test_a_repeat_after_the_expiry_starts_from_the_beginning() -> None:
    """The preempted edit was dropped."""
    key = {"idempotency-key": "ses_1/1/1"}
    async with stepping(detached_edit_s=0.01) as (pipeline, app, http):
        pipeline.free = False
        leaving = asyncio.create_task(post(http, key, num_inference_steps=6, seed=1))
        pipeline.gate.release()
        await until(lambda: len(pipeline.log) >= 1)
        await _leave(leaving)
        assert context(app).executor.running == 0  # preempted edits do not count
        pipeline.gate.release()
        await until(lambda: context(app).engine.find(key["idempotency-key"]) is None)
        pipeline.free = True
        assert (await post(http, key, num_inference_steps=2, seed=1)).status_code == 200


@pytest.mark.parametrize("code", ["content_refused", "left"])
async def test_an_unfinished_edit_is_released_without_garbage_collection(code: str) -> None:
    """Its pictures are large, and a reference cycle would keep them for minutes."""
    pictures: list[weakref.ref[Image.Image]] = []

    def breaks(edit: Stepping) -> Exception | None:
        if edit.step == 1:
            pictures.append(weakref.ref(edit.job.image))
        return None if edit.step < 1 or code == "left" else ApiError(code, "no")

    async with stepping() as (pipeline, _, http):
        gc.collect()
        gc.disable()
        try:
            pipeline.breaks, pipeline.free = breaks, code != "left"
            asking = asyncio.create_task(post(http))
            if code == "left":
                for _ in range(3):
                    pipeline.gate.release()
                await until(lambda: len(pictures) > 0)
                await _leave(asking)
                pipeline.free = True
                pipeline.gate.release()
            else:
                assert (await asking).status_code == 400
            del asking
            await until(lambda: len(pictures) > 0 and pictures[0]() is None)
        finally:
            gc.enable()


async def _leave(asking: asyncio.Task[Any]) -> None:
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


async def test_a_priority_header_reorders_the_queue() -> None:
    """RFC 9218: u=2 before u=3, the default; an invalid header is ignored."""
    async with stepping(max_active=1) as (pipeline, app, http):
        pipeline.free = False
        asking = [asyncio.create_task(post(http, seed=1))]
        await until(lambda: context(app).executor.running == 1)
        for seed, header in ((2, {"priority": "??"}), (3, {"priority": "u=5"}), (4, {}), (5, {"priority": "u=2, i"})):
            asking.append(asyncio.create_task(post(http, header, seed=seed)))
            await until(lambda: context(app).executor.waiting == len(asking) - 1)
        pipeline.free = True
        pipeline.gate.release()
        assert {reply.status_code for reply in await asyncio.gather(*asking)} == {200}
    assert list(dict.fromkeys(seeds[0] for seeds in pipeline.log)) == [1, 5, 2, 4, 3]


async def test_a_negative_prompt_without_effect_is_refused() -> None:
    """The message names the parameter it needs."""
    async with stepping() as (_, _, http):
        refused = (await post(http, negative_prompt="rain")).json()["error"]
        taken = await post(http, negative_prompt="rain", true_cfg_scale=4)
        unknown = (await post(http, strength=0.5)).json()["error"]
        misspelt = (await post(http, num_inference_step=5)).json()["error"]
    assert refused["param"] == "negative_prompt" and "true_cfg_scale" in refused["message"]
    assert taken.status_code == 200
    assert unknown["param"] == "strength"
    assert "it takes seed, negative_prompt, num_inference_steps, size, true_cfg_scale" in unknown["message"]
    assert "did you mean num_inference_steps?" in misspelt["message"]


async def test_a_full_worker_refuses_before_it_stores_the_picture() -> None:
    """The body is read, so that the refusal arrives; a repeat of a known key is accepted."""
    async with stepping(queue=0, max_active=1) as (pipeline, app, http):
        pipeline.free = False
        asking = asyncio.create_task(post(http, {"idempotency-key": "k"}, num_inference_steps=3))
        await until(lambda: context(app).executor.in_flight == 1)
        refused = await post(http, image=png((4, 4)) + bytes(200_000))
        compat = await http.post("/edit", json={"image": "x", "prompt": "y"})
        joining = asyncio.create_task(post(http, {"idempotency-key": "k"}, num_inference_steps=3))
        pipeline.free = True
        pipeline.gate.release()
        assert (await asking).json()["data"] == (await joining).json()["data"]
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert compat.status_code == 429


async def test_the_reference_s_guidance_scale_is_true_cfg_if_the_family_has_only_that() -> None:
    """As in the reference's server for Qwen-Image-Edit; a negative prompt without effect is listed as ignored."""
    source = base64.b64encode(png()).decode()
    async with stepping() as (_, _, http):
        strong = (
            await http.post("/edit", json={"image": source, "prompt": "x", "guidance_scale": 4.0, "negative_prompt": " "})
        ).json()
        weak = (
            await http.post("/edit", json={"image": source, "prompt": "x", "guidance_scale": 1.0, "negative_prompt": " "})
        ).json()
    assert strong["ignored"] == [] and weak["ignored"] == ["negative_prompt"]

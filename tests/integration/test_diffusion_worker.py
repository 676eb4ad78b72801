"""A real worker with a tiny Kontext: the official client, streams, stopping, and a storm of leavers among good callers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from services.editor.pipelines import EditJob
from tests.doubles.diffusion import Plain, drawn_alike, pixels, png, source, worker
from tests.doubles.processes import Process
from tests.integration.test_takeover import until

GOOD, BAD = 120, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny model and the worker's log are."""
    return tmp_path_factory.mktemp("kontext")


@pytest.fixture(scope="module")
def kontext(folder: Path) -> Iterator[Process]:
    """The worker; edits of different sizes, steps and guidance may share its device."""
    with worker("kontext", folder, max_batch=4, queue=600) as process:
        yield process


@pytest.fixture
def http(kontext: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=kontext.url, timeout=60, trust_env=False) as client:
        yield client


def metric(http: httpx.Client, name: str) -> float:
    lines = http.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"editthinker_editor_{name} ")).split()[1])


def test_the_official_client_edits_and_streams(kontext: Process) -> None:
    """OpenAI's own event classes for what OpenAI has; progress events of ours pass through it."""
    options = {"seed": 3, "num_inference_steps": 6, "guidance_scale": 2.5}
    with openai.OpenAI(base_url=f"{kontext.url}/v1", api_key="none") as client:
        reply = client.images.edit(image=png(source(1)), prompt="snow", extra_body=options)
        events = list(
            client.images.edit(
                image=png(source(1)), prompt="snow", stream=True, partial_images=2, extra_body={**options, "seed": 4}
            )
        )
    assert reply.data and pixels(reply.data[0].b64_json or "").shape == (64, 64, 3)
    kinds = Counter(event.type for event in events)
    assert kinds["image_edit.completed"] == 1
    assert kinds["image_edit.partial_image"] <= 2
    last = events[-1]
    assert last.type == "image_edit.completed" and pixels(last.b64_json).shape == (64, 64, 3)


def test_a_deleted_edit_stops_at_its_next_step(http: httpx.Client) -> None:
    """The stream ends with the error; once the DELETE is answered, the device does at most the step it was at."""
    steps = 'advance_seconds_count{kind="step"}'
    fields = {"prompt": "x", "num_inference_steps": 100, "stream": "true"}
    wasted, done = metric(http, "wasted_steps_total"), -1.0
    event: dict[str, Any] = {}
    with http.stream(
        "POST",
        "/v1/images/edits",
        data=fields,
        files={"image": png(source(2, (160, 160)))},
        headers={"idempotency-key": "long/1"},
    ) as reply:
        for line in reply.iter_lines():
            event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else event
            if event.get("step", 0) >= 3 and done < 0:
                assert http.delete("/v1/edits/long/1").status_code == 200
                done = metric(http, steps)
    assert event["error"]["code"] == "edit_cancelled"
    until(lambda: not metric(http, "running"), seconds=60)
    assert metric(http, steps) - done <= 1
    assert 3 <= metric(http, "wasted_steps_total") - wasted < 100
    until(lambda: metric(http, "in_flight") == 0, seconds=60)


def _job(number: int) -> EditJob:
    """One of twenty different edits: sizes, steps, guidance, with and without classifier-free guidance."""
    dice = random.Random(number)
    parameters: dict[str, float] = {
        "num_inference_steps": dice.randint(2, 7),
        "guidance_scale": dice.choice([1.5, 2.5, 4.0]),
    }
    negative = None
    if dice.random() < 0.3:
        negative, parameters["true_cfg_scale"] = "ugly", 3.0
    size = dice.choice([(64, 64), (64, 64), (96, 48), (48, 48)])
    image = source(number % 5, size)
    return EditJob(image, f"text number {number}", number, negative_prompt=negative, parameters=parameters)


def _request(job: EditJob) -> dict[str, Any]:
    fields = {"prompt": job.prompt, "seed": job.seed, **job.parameters}
    if job.negative_prompt is not None:
        fields["negative_prompt"] = job.negative_prompt
    return {"data": fields, "files": {"image": png(job.image)}}


async def _bad(http: httpx.AsyncClient, number: int, dice: random.Random) -> None:
    """Leaves at a random moment, or at the first step; is stopped by DELETE; or asks for what cannot be had."""
    request = _request(_job(number % 20))
    kind = number % 4
    key = {"idempotency-key": f"bad/{number}"}
    if kind == 0:
        reply = await http.post("/v1/images/edits", data={"prompt": "x", "steps": 3}, files={"image": b"no picture"})
        assert reply.status_code == 400
        return
    request["data"]["num_inference_steps"] = 40
    if kind == 2:
        # At its first step, so that there is always work that was for nothing.
        request["data"]["stream"] = "true"
        async with http.stream("POST", "/v1/images/edits", headers=key, **request) as stream:
            async for line in stream.aiter_lines():
                if '"step"' in line:
                    break
        return
    asking = asyncio.create_task(http.post("/v1/images/edits", headers=key if kind != 1 else {}, **request))
    await asyncio.wait({asking}, timeout=dice.random() * 2)
    if kind == 3:
        await http.delete(f"/v1/edits/bad/{number}")
    else:
        asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        reply = await asking
        assert reply.status_code in {200, 409}


async def _storm(url: str) -> list[tuple[int, str]]:
    """(job, picture) of every good request."""
    dice = random.Random(7)
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False, limits=limits) as http:
        gate = asyncio.Semaphore(24)

        async def good(number: int) -> tuple[int, str]:
            async with gate:
                reply = await http.post("/v1/images/edits", **_request(_job(number % 20)))
                assert reply.status_code == 200, reply.text
                return number % 20, reply.json()["data"][0]["b64_json"]

        async def bad(number: int) -> None:
            async with gate:
                await _bad(http, number, dice)

        work = [good(number) for number in range(GOOD)] + [bad(number) for number in range(BAD)]
        dice.shuffle(work)
        answers = await asyncio.gather(*work)
    return [answer for answer in answers if answer is not None]


def test_leavers_and_bad_requests_do_not_change_the_others_pictures(kontext: Process, folder: Path) -> None:
    """They are a third of all, in batches with the others; every good picture is what plain diffusers draws."""
    pictures = asyncio.run(_storm(kontext.url))
    plain = Plain("kontext", folder)
    wanted = {number: plain.picture(_job(number)) for number in range(20)}
    assert len(pictures) == GOOD
    wrong = [number for number, picture in pictures if not drawn_alike(pixels(picture), wanted[number])]
    assert wrong == []
    with httpx.Client(base_url=kontext.url, timeout=60, trust_env=False) as http:
        assert metric(http, "wasted_steps_total") > 0
        assert metric(http, "batch_size_sum") > metric(http, "batch_size_count")
        # Those who left with a key are set aside for a while, and the others are dropped between two steps.
        until(lambda: metric(http, "in_flight") == 0, seconds=60)

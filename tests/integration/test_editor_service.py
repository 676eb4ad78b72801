"""The editor worker as a process of its own: the official client and its own OpenAPI document."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from PIL import Image

from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.integration.test_openapi import CHECKS

COFFEE = (Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg").read_bytes()


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The embedded editor."""
    process = module("services.editor", free_port(), tmp_path_factory.mktemp("editor") / "log", "--pipeline", "classical")
    wait_ready(process)
    yield process
    process.stop()


@pytest.fixture
def client(editor: Process) -> Iterator[openai.OpenAI]:
    """The official client, unmodified."""
    with openai.OpenAI(base_url=f"{editor.url}/v1", api_key="none") as made:
        yield made


def size(text: str | None) -> tuple[int, int]:
    assert text
    return Image.open(io.BytesIO(base64.b64decode(text))).size


def test_a_plain_edit(client: openai.OpenAI) -> None:
    """The picture at the source's size, and an honest account of what was done."""
    reply = client.images.edit(image=COFFEE, prompt="convert to black and white, foggy morning", extra_body={"seed": 3})

    assert reply.data
    assert size(reply.data[0].b64_json) == (600, 400)
    image = Image.open(io.BytesIO(base64.b64decode(reply.data[0].b64_json or ""))).convert("RGB")
    red, green, blue = image.getpixel((100, 100))  # type: ignore[misc]
    assert red == green == blue
    assert any("foggy morning" in phrase for phrase in (reply.model_extra or {})["not_understood"])


def test_two_images_differ_by_their_seed(client: openai.OpenAI) -> None:
    """`n=2`."""
    reply = client.images.edit(image=[COFFEE], prompt="increase the warmth by 40%", n=2, extra_body={"seed": 3})

    assert reply.data
    assert len(reply.data) == 2
    assert reply.data[0].b64_json != reply.data[1].b64_json


def test_streaming(client: openai.OpenAI) -> None:
    """One completed event for the image."""
    events = list(client.images.edit(image=COFFEE, prompt="add a vignette of 30%", stream=True))

    assert events[-1].type == "image_edit.completed"
    assert size(events[-1].b64_json) == (600, 400)


def test_a_failing_edit(client: openai.OpenAI) -> None:
    """A parameter the family does not take is refused, and named."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=COFFEE, prompt="x", extra_body={"num_inference_steps": 20})
    assert caught.value.param == "num_inference_steps"
    assert caught.value.request_id


def test_every_answer_is_documented(editor: Process) -> None:
    """schemathesis over every operation: no 5xx, no undocumented status or shape."""
    document = schemathesis.openapi.from_url(f"{editor.url}/openapi.json")
    paths = httpx.get(f"{editor.url}/openapi.json", trust_env=False).json()["paths"]
    for path, methods in paths.items():
        for method in methods:

            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(case=document[path][method].as_strategy())
            def check(case: Any) -> None:
                case.call_and_validate(checks=CHECKS, timeout=20)

            check()


def test_the_references_scripts_run_unchanged(editor: Process) -> None:
    """`/edit` in the JSON shape of the EditThinker repository, its misspelt step count and all."""
    body = {
        "image": base64.b64encode(COFFEE).decode(),
        "prompt": "decrease the saturation by 50%",
        "seed": 0,
        "guidance_scale": 2.5,
        "num_inference_step": 28,
    }
    reply = httpx.post(f"{editor.url}/edit", json=body, trust_env=False, timeout=30).json()

    assert reply["success"] is True
    assert size(reply["edited_image"]) == (600, 400)
    assert httpx.get(f"{editor.url}/health", trust_env=False).status_code == 200
    assert httpx.get(f"{editor.url}/status", trust_env=False).status_code == 200

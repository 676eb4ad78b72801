"""The embedded thinker as a process of its own: the official client and its own OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import Critique, CritiqueRequest, Picture, build
from services.protocol.critique.replies import Reply
from tests.doubles.processes import Process, free_port, module, wait_ready
from tests.integration.test_openapi import CHECKS

COFFEE = (Path(__file__).parents[2] / "examples" / "photos" / "coffee.jpg").read_bytes()
PICTURE = Picture(COFFEE, "image/jpeg")
FORM = FORMATS["editthinker"]


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The embedded thinker."""
    process = module("services.thinker", free_port(), tmp_path_factory.mktemp("thinker") / "log", "--profile", "rules")
    wait_ready(process)
    yield process
    process.stop()


@pytest.fixture
def client(thinker: Process) -> Iterator[openai.OpenAI]:
    """The official client, unmodified."""
    with openai.OpenAI(base_url=f"{thinker.url}/v1", api_key="none") as made:
        yield made


def messages() -> list[Any]:
    return build(CritiqueRequest(PICTURE, PICTURE, "make it golden hour", "make it golden hour"), FORM.template())


def test_a_critique_through_the_official_client(client: openai.OpenAI) -> None:
    """Two pictures and an instruction go in; a critique that our own reader understands comes out."""
    reply = client.chat.completions.create(model="rules", messages=messages())

    critique = FORM.bind().parse(Reply(reply.choices[0].message.content or "", finish_reason=reply.choices[0].finish_reason))
    assert isinstance(critique, Critique)
    assert critique.semantic < 5, "nothing was edited"
    assert critique.refined_instruction
    assert reply.usage is not None and reply.usage.total_tokens > 0


def test_the_same_critique_streamed(client: openai.OpenAI) -> None:
    """`stream=True` gives the same text."""
    whole = client.chat.completions.create(model="rules", messages=messages()).choices[0].message.content
    parts = client.chat.completions.create(model="rules", messages=messages(), stream=True)

    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole


def test_a_refusal_through_the_official_client(client: openai.OpenAI) -> None:
    """A constraint that no critique meets names its parameter."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="rules", messages=messages(), extra_body={"structured_outputs": {"choice": ["a"]}})
    assert caught.value.param == "structured_outputs"
    assert caught.value.request_id


def test_every_answer_is_documented(thinker: Process) -> None:
    """schemathesis over every operation: no 5xx, no undocumented status or shape."""
    document = schemathesis.openapi.from_url(f"{thinker.url}/openapi.json")
    paths = httpx.get(f"{thinker.url}/openapi.json", trust_env=False).json()["paths"]
    assert "requestBody" in paths["/v1/chat/completions"]["post"]
    for path, methods in paths.items():
        for method in methods:

            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(case=document[path][method].as_strategy())
            def check(case: Any) -> None:
                case.call_and_validate(checks=CHECKS, timeout=20)

            check()

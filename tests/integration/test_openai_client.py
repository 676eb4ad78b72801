"""The official `openai` client, unmodified, against the orchestrator."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Literal

import httpx
import openai
import pytest
from PIL import Image
from starlette.responses import JSONResponse

from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture


@pytest.fixture
def client(orchestrator: Process, api: httpx.Client) -> Iterator[openai.OpenAI]:
    """The client as a product backend makes it."""
    with openai.OpenAI(base_url=f"{orchestrator.url}/v1", api_key="none") as made:
        yield made


def image_of(text: str | None) -> Image.Image:
    """Decode a b64_json."""
    assert text
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_plain_edit(client: openai.OpenAI) -> None:
    """The best image, its instruction, and our extension fields."""
    reply = client.images.edit(image=picture(), prompt="make it golden")

    assert reply.data
    assert image_of(reply.data[0].b64_json).size == (32, 24)
    assert reply.data[0].revised_prompt == "make it golden + +"
    extra = reply.model_extra or {}
    assert extra["session_id"].startswith("ses_")
    assert extra["scores"]["overall"] == 9
    assert (extra["turns"], extra["finish_reason"]) == (3, "satisfied")


def test_a_list_with_one_image_and_extension_fields(client: openai.OpenAI, script: Script) -> None:
    """A list goes out as `image[]`; extra_body carries our flat fields."""
    extra = {"max_turns": 1, "seed": 11, "strategy": "think", "deadline_s": 30}
    reply = client.images.edit(image=[("a.png", picture())], prompt="x", extra_body=extra, output_format="jpeg")

    assert reply.data
    assert image_of(reply.data[0].b64_json).format == "JPEG"
    assert (reply.model_extra or {})["finish_reason"] == "max_turns"
    assert script.edits[0]["seed"] == "11"


def test_n_images_best_first(client: openai.OpenAI) -> None:
    """`n=2` answers the two best candidates."""
    reply = client.images.edit(image=picture(), prompt="x", n=2)

    assert reply.data
    scores = [(item.model_extra or {})["scores"]["overall"] for item in reply.data]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)


def test_urls(client: openai.OpenAI) -> None:
    """`response_format=url` answers a URL that serves the image."""
    reply = client.images.edit(image=picture(), prompt="x", response_format="url", output_format="webp")

    assert reply.data
    assert reply.data[0].url
    image = httpx.get(reply.data[0].url, trust_env=False)
    assert image.headers["content-type"] == "image/webp"


@pytest.mark.parametrize(("output_format", "compression"), [("png", 100), ("png", None), ("jpeg", 100), ("webp", 40)])
def test_every_url_serves_its_image(
    client: openai.OpenAI, output_format: Literal["png", "jpeg", "webp"], compression: int | None
) -> None:
    """Every format and compression that was accepted works, png at its neutral compression included."""
    given = {"max_turns": 1, **({} if compression is None else {"output_compression": compression})}
    reply = client.images.edit(image=picture(), prompt="x", response_format="url", output_format=output_format, extra_body=given)

    assert reply.data and reply.data[0].url
    image = httpx.get(reply.data[0].url, trust_env=False)
    assert (image.status_code, image.headers["content-type"]) == (200, f"image/{output_format}"), image.text


def test_streaming(client: openai.OpenAI) -> None:
    """Each turn's candidate, then the completed image; the events parse as the client's own types."""
    events = list(client.images.edit(image=picture(), prompt="x", stream=True))

    assert [event.type for event in events] == ["image_edit.partial_image"] * 3 + ["image_edit.completed"]
    assert [event.partial_image_index for event in events[:3]] == [0, 1, 2]  # type: ignore[union-attr]
    assert all(image_of(event.b64_json).size == (32, 24) for event in events)
    assert events[-1].b64_json == events[2].b64_json


@pytest.mark.parametrize("partial_images", [0, 1])
def test_streaming_with_fewer_partial_images(client: openai.OpenAI, partial_images: int) -> None:
    """`partial_images` bounds the previews, not the result."""
    stream = client.images.edit(image=picture(), prompt="x", stream=True, partial_images=partial_images)

    assert len(list(stream)) == partial_images + 1


def test_a_failing_edit(client: openai.OpenAI, script: Script) -> None:
    """The editor's refusal is the caller's 400, with its message, and the client does not retry it."""
    body = {"error": {"message": "no such thing", "type": "x", "param": None, "code": "content_refused"}}
    script.edit_fault = lambda _: JSONResponse(body, 400)

    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=picture(), prompt="x")

    assert caught.value.code == "content_refused"
    assert "no such thing" in caught.value.message
    assert caught.value.request_id
    assert len(script.edits) == 1


def test_a_failing_stream(client: openai.OpenAI, script: Script) -> None:
    """An error in a stream arrives as the client's APIError."""
    script.edit_fault = lambda _: JSONResponse({"detail": "broken"}, 400)

    with pytest.raises(openai.APIError, match="broken"):
        list(client.images.edit(image=picture(), prompt="x", stream=True))


def test_models(client: openai.OpenAI) -> None:
    """The configured editors are listed, the thinkers apart from them, since clients offer what is listed for making images."""
    listed = client.models.list()

    assert [model.id for model in listed] == ["double"]
    thinkers = (listed.model_extra or {})["thinkers"]
    assert [thinker["id"] for thinker in thinkers] == ["double", "double-json", "double-checklist"]
    one = client.models.retrieve("double")
    assert (one.id, one.object, one.owned_by) == ("double", "model", "editor")
    assert one.created > 1_700_000_000
    assert client.models.retrieve("double-json").owned_by == "thinker"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-image-9")
    assert caught.value.code == "model_not_found" and "double" in caught.value.message


def test_a_repeat_under_the_same_key_is_the_same_session(client: openai.OpenAI, script: Script) -> None:
    """`Idempotency-Key`: no second edit; another request under the key is refused."""
    headers = {"Idempotency-Key": "order-7"}
    first = client.images.edit(image=picture(), prompt="x", extra_headers=headers)
    made = len(script.edits)
    second = client.images.edit(image=picture(), prompt="x", extra_headers=headers)

    assert len(script.edits) == made
    assert (first.model_extra or {})["session_id"] == (second.model_extra or {})["session_id"]
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.images.edit(image=picture(), prompt="y", extra_headers=headers)
    assert caught.value.code == "idempotency_key_reused"

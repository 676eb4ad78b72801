"""Clients of this environment: openai-python in three ways, httpx, and requests as Dify's tools use it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import httpx
import openai
import pytest
import requests
from PIL import Image

from tests.clients.server import PROMPT, Check, Client, Server

SYNC = Client("openai-python", lambda _: version("openai"), "`OpenAI()`")
ASYNC = Client("openai-python, async", lambda _: version("openai"), "`AsyncOpenAI()`")
AIOHTTP = Client(
    "openai-python, aiohttp", lambda _: f"{version('openai')}, aiohttp {version('aiohttp')}", "`DefaultAioHttpClient()`"
)
HTTPX = Client("httpx", lambda _: version("httpx"))
REQUESTS = Client("requests", lambda _: version("requests"))


def _client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key=server.key)


def _edit(server: Server) -> None:
    with _client(server) as client, server.photo.open("rb") as file, server.one_session():
        reply = client.images.edit(image=file, prompt=PROMPT)
    assert reply.data
    server.check(reply.data[0].b64_json)


def _list_of_two(server: Server) -> None:
    with _client(server) as client:
        reply = client.images.edit(image=[server.photo, server.second], prompt=PROMPT, model="gpt-image-1")
    assert reply.data
    server.check(reply.data[0].b64_json)


def _contract(server: Server) -> None:
    with _client(server) as client:
        reply = client.images.edit(
            image=server.photo, prompt=PROMPT, model="gpt-image-1", quality="low", background="opaque", user="u-1"
        )
    assert reply.data
    server.check(reply.data[0].b64_json)
    assert reply.usage and reply.usage.total_tokens > 0, "there is no usage"
    assert (reply.quality, reply.output_format, reply.size) == ("low", "png", "240x160")


def _webp(server: Server) -> None:
    with _client(server) as client:
        reply = client.images.edit(image=server.photo, prompt=PROMPT, output_format="webp", output_compression=60)
    assert reply.data
    server.check(reply.data[0].b64_json, "WEBP")


def _url(server: Server) -> None:
    with _client(server) as client:
        reply = client.images.edit(image=server.photo, prompt=PROMPT, response_format="url")
    assert reply.data and reply.data[0].url
    server.check(httpx.get(reply.data[0].url, trust_env=False).content)


def _stream(server: Server) -> None:
    with _client(server) as client:
        events = list(client.images.edit(image=server.photo, prompt=PROMPT, stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    server.check(events[-1].b64_json)


def _mask(server: Server) -> None:
    mask = Image.new("RGBA", (240, 160), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 120, 160))
    data = io.BytesIO()
    mask.save(data, "PNG")
    with _client(server) as client:
        reply = client.images.edit(image=server.photo, mask=("mask.png", data.getvalue()), prompt=PROMPT)
    assert reply.data
    server.check(reply.data[0].b64_json)


def _error(server: Server) -> None:
    with _client(server) as client, pytest.raises(openai.NotFoundError, match="classical") as caught:
        client.images.edit(image=server.photo, prompt=PROMPT, model="dall-e-2")
    assert caught.value.code == "model_not_found"


def _models(server: Server) -> None:
    with _client(server) as client:
        listed = [model.id for model in client.models.list()]
        assert "gpt-image-1" in listed
        assert client.models.retrieve("classical").created > 0


def _asynchronous(make: Callable[[], Any]) -> Callable[[Server], None]:
    async def edit(server: Server) -> None:
        http = make()
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key, http_client=http) as client:
            reply = await client.images.edit(image=server.photo, prompt=PROMPT)
            assert reply.data
            server.check(reply.data[0].b64_json)
            stream = await client.images.edit(image=server.photo, prompt=PROMPT, stream=True)
            events = [event async for event in stream]
            server.check(events[-1].b64_json)

    return _run(edit)


async def _abort(server: Server) -> None:
    """A task that is cancelled leaves; the session is cancelled with it."""
    endless = {"max_turns": 20, "candidates": 4, "patience": 20, "semantic_threshold": 10, "quality_threshold": 10}
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key) as client:
        stream = await client.images.edit(image=server.photo, prompt=PROMPT, stream=True, extra_body=endless)
        async for _ in stream:
            break
        await stream.close()
    await asyncio.to_thread(server.ends, "cancelled")


def _run(work: Callable[[Server], Awaitable[None]]) -> Callable[[Server], None]:
    async def run(server: Server) -> None:
        await work(server)

    return lambda server: asyncio.run(run(server))


def _httpx(server: Server) -> None:
    with server.api() as client, server.photo.open("rb") as file:
        server.check_reply(client.post("/v1/images/edits", files={"image": file}, data={"prompt": PROMPT}).content)


def _json(server: Server) -> None:
    """As SDK authors write since 2026: no form."""
    body = {"prompt": PROMPT, "images": [{"image_url": server.data_url}], "quality": "low"}
    with server.api() as client:
        server.check_reply(client.post("/v1/images/edits", json=body).content)


def _requests(server: Server) -> None:
    headers = {"authorization": f"Bearer {server.key}"}
    files = {"image": ("image.png", server.photo.read_bytes(), "image/png")}
    session = requests.Session()
    session.trust_env = False
    with session:
        reply = session.post(f"{server.base_url}/images/edits", headers=headers, files=files, data={"prompt": PROMPT}, timeout=60)
    server.check_reply(reply.content)
    assert json.loads(reply.content)["created"]


CLIENTS = (SYNC, ASYNC, AIOHTTP, HTTPX, REQUESTS)
CHECKS = (
    Check(SYNC.name, "a file", _edit, light=True),
    Check(SYNC.name, "a list of two pictures", _list_of_two, light=True),
    Check(SYNC.name, "quality, background, user; usage in the reply", _contract, light=True),
    Check(SYNC.name, "output_format", _webp, light=True),
    Check(SYNC.name, "response_format=url", _url, light=True),
    Check(SYNC.name, "a stream", _stream, light=True),
    Check(SYNC.name, "a mask", _mask, light=True),
    Check(SYNC.name, "an unknown model", _error, light=True),
    Check(SYNC.name, "models", _models, light=True),
    Check(ASYNC.name, "a file and a stream", _asynchronous(lambda: None), light=True),
    Check(ASYNC.name, "a stream that is left", _run(_abort), light=True),
    Check(AIOHTTP.name, "a file and a stream", _asynchronous(openai.DefaultAioHttpClient), light=True),
    Check(HTTPX.name, "a form", _httpx, light=True),
    Check(HTTPX.name, "JSON with a data URL", _json, light=True),
    Check(REQUESTS.name, "a form", _requests, light=True),
)

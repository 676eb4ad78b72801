"""What `middleware.install` does to every route: HEAD as GET without its body, no redirects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from services.errors import ApiError
from services.serving import middleware
from services.serving.origins import OriginPolicy

ENDLESS_S = 5.0


class Thing(BaseModel):
    name: str


def application(closed: list[str]) -> FastAPI:
    app = FastAPI()
    middleware.install(app, max_body=1000, policy=OriginPolicy(keyless=False))

    @app.get("/things/{name}")
    async def thing(name: str) -> Response:
        if name == "none":
            raise ApiError("not_found", "there is no such thing")
        return Response(b"a" * 1234, headers={"x-name": name})

    @app.get("/endless")
    async def endless() -> Response:
        async def body() -> AsyncIterator[bytes]:
            try:
                yield b"data: x\n\n"
                await asyncio.Event().wait()
            finally:
                closed.append("endless")

        return StreamingResponse(body(), media_type="text/event-stream")

    @app.post("/named")
    async def named(thing: Thing) -> Thing:
        return thing

    @app.post("/things")
    async def make() -> Response:
        return Response(status_code=201)

    return app


@pytest.fixture
async def http(closed: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(closed))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.mark.parametrize("path", ["/things/a", "/things/none", "/nowhere"])
async def test_head_has_the_head_of_get(http: httpx.AsyncClient, path: str) -> None:
    """The same status and headers, its length too, and no body; an error as well."""
    whole = await http.get(path, headers={"x-request-id": "one"})
    head = await http.head(path, headers={"x-request-id": "one"})

    assert (head.status_code, head.headers, head.content) == (whole.status_code, whole.headers, b"")
    assert int(head.headers["content-length"]) == len(whole.content) > 0


async def test_head_of_a_stream_ends(http: httpx.AsyncClient, closed: list[str]) -> None:
    """At once, and what would have been streamed is let go."""
    async with asyncio.timeout(ENDLESS_S):
        head = await http.head("/endless")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")


async def test_a_wrong_method_is_told_the_right_ones(http: httpx.AsyncClient) -> None:
    """HEAD is one wherever GET is, and nowhere else."""
    assert (await http.delete("/things/a")).headers["allow"] == "GET, HEAD"
    head = await http.head("/things")
    assert (head.status_code, head.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("body", [[], 7, "x"])
async def test_what_is_no_object_is_refused_without_our_names(http: httpx.AsyncClient, body: object) -> None:
    """A caller does not know what our classes are called."""
    error = (await http.post("/named", json=body)).json()["error"]

    assert (error["code"], error["message"]) == ("invalid_value", "the request body: it must be an object with named fields")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_slash_too_many_is_not_redirected(http: httpx.AsyncClient, method: str) -> None:
    """To wherever the caller says that we are."""
    reply = await http.request(method, "/things/", headers={"host": "evil.example"})

    assert reply.status_code == 404 and "location" not in reply.headers
    assert method == "HEAD" or reply.json()["error"]["code"] == "not_found"

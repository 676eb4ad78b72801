"""Sources that a worker keeps: named by a key, asked for with 412."""

from __future__ import annotations

import secrets

import httpx

from services.protocol.images_api import SOURCE_KEPT, SOURCE_KEY
from tests.unit.editor.workers import client, png, running

KEY, OTHER = secrets.token_hex(32), secrets.token_hex(32)


async def ask(http: httpx.AsyncClient, key: str | None, image: bytes | None = None, repeat: str = "") -> httpx.Response:
    """An edit, with or without its file; always multipart."""
    files = [("prompt", (None, b"warmer")), ("seed", (None, b"3"))]
    named = [*files, ("image", ("a.png", image))] if image is not None else files
    given = {SOURCE_KEY: key} if key else {}
    given |= {"idempotency-key": repeat} if repeat else {}
    return await http.post("/v1/images/edits", files=named, headers=given)


async def test_a_source_with_a_key_is_kept_and_named() -> None:
    async with running() as app, client(app) as http:
        first, again = await ask(http, KEY, png()), await ask(http, KEY)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.headers[SOURCE_KEPT] == again.headers[SOURCE_KEPT] == "true"
    assert first.json()["data"] == again.json()["data"]


async def test_another_key_names_nothing() -> None:
    """Also for a caller who has the picture but not the key; a dropped source and a key that was never used look alike."""
    async with running() as app, client(app) as http:
        await ask(http, KEY, png())
        reply = await ask(http, OTHER)
        never = await ask(http, secrets.token_hex(32))
    assert reply.status_code == 412
    assert reply.json()["error"] == never.json()["error"]
    assert (reply.json()["error"]["code"], reply.json()["error"]["param"]) == ("source_unknown", "image")


async def test_without_a_key_nothing_is_kept_and_the_file_is_required() -> None:
    async with running() as app, client(app) as http:
        with_file, without = await ask(http, None, png()), await ask(http, None)
    assert SOURCE_KEPT not in with_file.headers
    assert (without.status_code, without.json()["error"]["code"]) == (400, "missing_parameter")


async def test_a_malformed_key_is_refused() -> None:
    async with running() as app, client(app) as http:
        reply = await ask(http, "0123", png())
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, SOURCE_KEY)


async def test_the_oldest_sources_are_dropped() -> None:
    async with running(source_cache_bytes=2 * len(png()) - 1) as app, client(app) as http:
        await ask(http, KEY, png())
        await ask(http, OTHER, png())
        assert (await ask(http, KEY)).status_code == 412
        assert (await ask(http, OTHER)).status_code == 200


async def test_a_worker_that_keeps_nothing_does_not_say_that_it_does() -> None:
    async with running(source_cache_bytes=0) as app, client(app) as http:
        first, again = await ask(http, KEY, png()), await ask(http, KEY)
    assert (first.status_code, again.status_code) == (200, 412)
    assert SOURCE_KEPT not in first.headers


async def test_the_repeat_of_an_edit_with_and_without_its_file_is_one_edit() -> None:
    """After a 412 the file goes under the same Idempotency-Key."""
    async with running() as app, client(app) as http:
        missing = await ask(http, KEY, repeat="k")
        first = await ask(http, KEY, png(), repeat="k")
        again = await ask(http, KEY, repeat="k")
    assert [each.status_code for each in (missing, first, again)] == [412, 200, 200]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


async def test_the_capability_is_declared() -> None:
    async with running() as app, client(app) as http:
        models = (await http.get("/v1/models")).json()
    assert models["data"][0]["capabilities"]["source_key"] is True

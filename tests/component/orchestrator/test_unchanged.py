"""Whether an editor's picture is the source: told by our workers, measured for others; and what it says it did not do."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from starlette.responses import JSONResponse, Response

from orchestrator.ports.collaborators import EditOrder, EditorUsage, EditReply
from orchestrator.upstreams.editor import HttpEditor, Told
from services.protocol.images_api import RAW_IMAGE
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, image_reply, stored
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import saved, scene

SIZE = (96, 64)
PICTURE = scene(size=SIZE)
SOURCE = saved(PICTURE, "PNG")
CHANGED = saved(PICTURE.rotate(180), "PNG")


def encoded_again() -> bytes:
    """The source's pixels in another file."""
    out = BytesIO()
    PICTURE.save(out, "WEBP", lossless=True)
    assert out.getvalue() != SOURCE
    return out.getvalue()


async def edit(desk: Desk, *, told: Told | None = None, draft: bool = False) -> EditReply:
    order = EditOrder(stored(SOURCE), None, "warmer", 7, "ses_1/1/1", WAIT_S, {}, draft=draft)
    async with asking("editor", desk.url) as upstream:
        return await HttpEditor(upstream, decoder=InProcessPool(), told=lambda: told or Told()).edit(order, EditorUsage())


@pytest.mark.parametrize(
    ("data", "unchanged"),
    [(SOURCE, True), (encoded_again(), True), (CHANGED, False)],
    ids=["same file", "same pixels", "changed"],
)
async def test_it_is_measured_where_the_editor_does_not_tell(desk: Desk, data: bytes, *, unchanged: bool) -> None:
    desk.answers = [image_reply(data)]
    assert (await edit(desk)).unchanged is unchanged


async def test_our_worker_tells(desk: Desk) -> None:
    """It compares the pixels before it encodes them, as JPEG perhaps."""
    said: list[dict[str, Any]] = [{"b64_json": base64.b64encode(CHANGED).decode(), "unchanged": True}]
    desk.answers = [JSONResponse({"data": said, "not_understood": ["the zeitgeist", 7, " a \n b ", ""]})]
    reply = await edit(desk)
    assert (reply.unchanged, reply.not_understood) == (True, ("the zeitgeist", "a b"))


async def test_a_raw_picture_is_not_the_source(desk: Desk) -> None:
    """A worker that has more to say answers with JSON."""
    desk.answers = [Response(SOURCE, media_type=RAW_IMAGE)]
    assert not (await edit(desk)).unchanged


async def test_a_smaller_picture_cannot_be_compared(desk: Desk) -> None:
    desk.answers = [image_reply(saved(PICTURE.resize((48, 32)), "PNG"))]
    assert not (await edit(desk, told=Told(draft=True), draft=True)).unchanged


async def test_what_was_not_understood_is_bounded(desk: Desk) -> None:
    said = [{"b64_json": base64.b64encode(CHANGED).decode(), "unchanged": False}]
    desk.answers = [JSONResponse({"data": said, "not_understood": ["x" * 10_000] * 1000})]
    phrases = (await edit(desk)).not_understood
    assert len(phrases) == 16 and {len(phrase) for phrase in phrases} == {200}


@pytest.mark.parametrize("phrases", [None, "all", {"a": 1}, [None, 1, []]])
async def test_what_is_no_list_of_phrases_is_passed_over(desk: Desk, phrases: object) -> None:
    said = [{"b64_json": base64.b64encode(CHANGED).decode()}]
    desk.answers = [JSONResponse({"data": said, "not_understood": phrases})]
    assert (await edit(desk)).not_understood == ()


@pytest.mark.parametrize(("told", "expected"), [(True, True), (False, False), ("true", False), (None, False)])
async def test_an_editor_tells_that_seeds_make_no_difference(desk: Desk, told: object, *, expected: bool) -> None:
    desk.answers = [JSONResponse({"data": [{"id": "a", "capabilities": {"deterministic": told}}]})]
    async with asking("editor", desk.url) as upstream:
        assert await HttpEditor(upstream).capabilities() == Told(deterministic=expected)


def test_the_pictures_of_these_tests_differ() -> None:
    assert Image.open(BytesIO(CHANGED)).tobytes() != Image.open(BytesIO(SOURCE)).tobytes()

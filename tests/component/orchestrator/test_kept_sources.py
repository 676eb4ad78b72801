"""The editor's client leaves a source out that the worker keeps, and sends it when it is asked for."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from PIL import Image
from starlette.responses import JSONResponse, Response

from orchestrator.ports.collaborators import EditOrder, EditorUsage
from orchestrator.ports.errors import EditorError
from orchestrator.upstreams.editor import HttpEditor
from orchestrator.upstreams.kept_sources import KeptSources
from services.protocol.images_api import RAW_IMAGE, SOURCE_KEPT, SOURCE_KEY
from tests.component.orchestrator.desk import WAIT_S, Answer, Desk, asking, stored
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import saved

SIZE = (192, 128)
SOURCE = saved(Image.frombytes("RGB", SIZE, random.Random(5).randbytes(3 * SIZE[0] * SIZE[1])), "PNG")
SMALL = saved(Image.new("RGB", SIZE), "PNG")
UNKNOWN = JSONResponse({"error": {"message": "send it", "code": "source_unknown"}}, 412)


def order(number: int, *, source: bytes = SOURCE, session: str = "ses_1", mask: bytes | None = None) -> EditOrder:
    held = stored(mask) if mask is not None else None
    return EditOrder(stored(source), held, "warmer", 7, f"{session}/{number}/1", WAIT_S, session_id=session)


def answer(*, kept: bool) -> Response:
    return Response(SOURCE, media_type=RAW_IMAGE, headers={SOURCE_KEPT: "true"} if kept else {})


def sent(desk: Desk) -> list[bool]:
    """Whether each request had the file."""
    return ["image" in dict(request.form) for request in desk.seen]


async def run(desk: Desk, answers: list[Answer], orders: list[EditOrder]) -> None:
    desk.answers = answers
    async with asking("editor", desk.url) as upstream:
        editor = HttpEditor(upstream, decoder=InProcessPool())
        for each in orders:
            assert (await editor.edit(each, EditorUsage())).image.data == SOURCE


async def test_a_kept_source_is_sent_once(desk: Desk) -> None:
    await run(desk, [answer(kept=True)], [order(1), order(2), order(3)])

    assert sent(desk) == [True, False, False]
    assert len({request.headers[SOURCE_KEY] for request in desk.seen}) == 1


async def test_a_server_that_says_nothing_is_always_sent_the_file(desk: Desk) -> None:
    """Every other editor: the header is all that differs from the official client's request."""
    await run(desk, [answer(kept=False)], [order(1), order(2), order(3)])

    assert sent(desk) == [True, True, True]


async def test_the_file_is_sent_when_it_is_asked_for_under_the_same_key(desk: Desk) -> None:
    await run(desk, [answer(kept=True), UNKNOWN, answer(kept=True)], [order(1), order(2)])

    assert sent(desk) == [True, False, True]
    assert [request.headers["idempotency-key"] for request in desk.seen] == ["ses_1/1/1", "ses_1/2/1", "ses_1/2/1"]
    assert dict(desk.seen[2].form)["image"] == dict(desk.seen[0].form)["image"]


async def test_each_miss_makes_the_next_try_later(desk: Desk) -> None:
    """Behind a balancer, where most workers do not have it."""
    kept = answer(kept=True)
    await run(desk, [kept, UNKNOWN, kept, kept, kept, UNKNOWN, kept, kept], [order(number) for number in range(1, 13)])

    assert sent(desk) == [True, False, True, True, True, False, True, True, True, True, True, False, False, False]


async def test_a_refusal_of_the_whole_request_is_final(desk: Desk) -> None:
    desk.answers = [UNKNOWN]
    async with asking("editor", desk.url) as upstream:
        with pytest.raises(EditorError) as caught:
            await HttpEditor(upstream, decoder=InProcessPool()).edit(order(1), EditorUsage())
    assert (caught.value.code, len(desk.seen)) == ("editor_failed", 1)


async def test_each_session_and_each_source_has_a_key_of_its_own(desk: Desk) -> None:
    """Of another tenant with the same picture too: no session can name what another one sent."""
    other = saved(Image.frombytes("RGB", SIZE, random.Random(6).randbytes(3 * SIZE[0] * SIZE[1])), "PNG")
    orders = [order(1), order(1, session="ses_2"), order(1, source=other)]
    await run(desk, [answer(kept=True)], orders)

    keys = [request.headers[SOURCE_KEY] for request in desk.seen]
    assert sent(desk) == [True, True, True]
    assert len(set(keys)) == 3
    assert not any(each.source.ref.sha256 in keys for each in orders)


async def test_edits_with_a_mask_small_sources_and_edits_without_a_session_have_no_key(desk: Desk) -> None:
    orders = [order(1, mask=SMALL), order(2, source=SMALL), replace(order(3), session_id="")]
    await run(desk, [answer(kept=True)], orders)

    assert [SOURCE_KEY in request.headers for request in desk.seen] == [False, False, False]


def test_another_replica_cannot_name_it() -> None:
    assert KeptSources().key(order(1)) != KeptSources().key(order(1))

"""Early rejection: unfinished pictures come over a stream, are judged while the edit runs, and a hopeless edit is stopped."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from orchestrator.execution.driver import Driver
from orchestrator.execution.performer import Performer
from orchestrator.loop import events as ev
from orchestrator.loop.session import fold
from orchestrator.ports.collaborators import CritiqueOrder, CritiqueReply, EditOrder, EditorUsage, EditReply, image_ref
from orchestrator.ports.errors import EditorError
from orchestrator.ports.stores import Claim, Recorded
from orchestrator.upstreams.editor import HttpEditor, Told
from services.errors import ApiError
from services.imaging.codec import CheckedImage, inspect
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, holding, image_reply, stored
from tests.component.orchestrator.test_driver import NAME, Log, Now, Thinker
from tests.component.orchestrator.test_driver import Told as Observer
from tests.component.orchestrator.test_native_size import Blobs
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import saved, scene

SIZE = (192, 128)
SOURCE = saved(scene(size=SIZE), "PNG")
DONE = saved(scene(size=SIZE).rotate(180), "PNG")
BLURRED = saved(scene(size=(96, 64)), "PNG")
TELLS = Told(partial_images=3)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {orjson.dumps({'type': kind, **fields}).decode()}\n\n".encode()


def unfinished(data: bytes = BLURRED, number: int = 0) -> bytes:
    return event("image_edit.partial_image", partial_image_index=number, b64_json=base64.b64encode(data).decode())


def completed(data: bytes = DONE, **more: Any) -> bytes:
    return event("image_edit.completed", b64_json=base64.b64encode(data).decode(), timings={"edit_ms": 5.0}, **more)


def streamed(*events: bytes) -> Response:
    return Response(b"".join(events), media_type="text/event-stream")


class Seen:
    """Keeps the unfinished pictures that it is handed."""

    def __init__(self) -> None:
        self.pictures: list[CheckedImage] = []

    async def __call__(self, image: CheckedImage) -> None:
        self.pictures.append(image)


async def edit(desk: Desk, seen: Seen | None, told: Told = TELLS, **options: Any) -> EditReply:
    order = EditOrder(stored(SOURCE), None, "warmer", 7, "ses_1/1/1", WAIT_S, {}, on_preview=seen)
    async with asking("editor", desk.url, **options) as upstream:
        return await HttpEditor(upstream, decoder=InProcessPool(), told=lambda: told).edit(order, EditorUsage())


def asked(desk: Desk) -> tuple[object, object]:
    form = dict(desk.seen[-1].form)
    return form.get("stream"), form.get("partial_images")


async def test_the_first_unfinished_picture_is_handed_on_and_the_result_returned(desk: Desk) -> None:
    desk.answers = [lambda: streamed(b": hello\n\n", unfinished(), unfinished(DONE, 1), completed())]
    seen = Seen()
    reply = await edit(desk, seen)

    assert asked(desk) == ("true", "2")
    assert [image.data for image in seen.pictures] == [BLURRED]
    assert (reply.image.data, dict(reply.timings)) == (DONE, {"edit_ms": 5.0})


@pytest.mark.parametrize(("told", "wanted"), [(Told(), True), (TELLS, False)], ids=["none to be had", "not wanted"])
async def test_otherwise_no_stream_is_asked_for(desk: Desk, told: Told, *, wanted: bool) -> None:
    desk.answers = [image_reply(DONE)]
    seen = Seen()
    assert (await edit(desk, seen if wanted else None, told)).image.data == DONE
    assert asked(desk) == (None, None)


async def test_a_server_that_answers_at_once_is_understood(desk: Desk) -> None:
    """Some ignore `stream`."""
    desk.answers = [image_reply(DONE)]
    seen = Seen()
    assert (await edit(desk, seen)).image.data == DONE
    assert not seen.pictures


@pytest.mark.parametrize(
    "broken",
    [
        event("image_edit.partial_image", partial_image_index=0, b64_json="!"),
        event("image_edit.partial_image", partial_image_index=0, b64_json=7),
        event("image_edit.partial_image", b64_json="AAAA"),
        unfinished(b"GIF89a"),
    ],
    ids=["base64", "number", "without index", "no picture"],
)
async def test_an_unfinished_picture_that_is_not_valid_costs_nothing(desk: Desk, broken: bytes) -> None:
    desk.answers = [lambda: streamed(broken, completed())]
    seen = Seen()
    assert (await edit(desk, seen)).image.data == DONE
    assert not seen.pictures


@pytest.mark.parametrize(
    ("events", "code", "requests"),
    [
        ([unfinished()], "editor_bad_reply", 2),
        ([unfinished(), b"data: {\n\n"], "editor_bad_reply", 2),
        ([unfinished(), event("image_edit.completed")], "editor_bad_reply", 1),
        ([event("error") + event("error")], "editor_failed", 2),
    ],
    ids=["no result", "not JSON", "an empty result", "an error of no code"],
)
async def test_a_stream_without_a_result_is_an_error(desk: Desk, events: list[bytes], code: str, requests: int) -> None:
    desk.answers = [lambda: streamed(*events)]
    with pytest.raises(EditorError) as caught:
        await edit(desk, Seen(), attempts=2)
    assert (caught.value.code, len(desk.seen)) == (code, requests)


async def test_an_edit_that_fails_within_its_stream_is_refused_as_before_it(desk: Desk) -> None:
    """Its status is that of its code: what is the edit's own fault is not tried again."""
    body = ApiError("edit_failed", "the prompt cannot be encoded", param="prompt").body()
    desk.answers = [lambda: streamed(unfinished(), b"event: error\ndata: " + orjson.dumps(body) + b"\n\n")]
    with pytest.raises(EditorError) as caught:
        await edit(desk, Seen())
    assert (caught.value.code, caught.value.retryable, len(desk.seen)) == ("editor_refused", False, 1)
    assert "the prompt cannot be encoded" in caught.value.message


async def test_a_stream_that_is_too_long_is_cut_off(desk: Desk) -> None:
    async def long(desk: Desk, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(200):
                yield b":" + b"x" * 65_536 + b"\n"

        return StreamingResponse(body(), media_type="text/event-stream")

    desk.answers = [long]
    with pytest.raises(EditorError) as caught:
        await edit(desk, Seen(), max_reply=1 << 20)
    assert (caught.value.code, caught.value.retryable) == ("editor_bad_reply", False)


@pytest.mark.parametrize(("told", "expected"), [(3, 3), (0, 0), (True, 0), ("3", 0), (None, 0)])
async def test_an_editor_tells_its_unfinished_pictures(desk: Desk, told: object, expected: int) -> None:
    desk.answers = [JSONResponse({"data": [{"id": "a", "capabilities": {"partial_images": told}}]})]
    async with asking("editor", desk.url) as upstream:
        assert await HttpEditor(upstream).capabilities() == Told(partial_images=expected)


async def test_leaving_a_stream_tells_the_editor(desk: Desk) -> None:
    """An edit that is stopped after its unfinished picture is worked on no more."""
    came = asyncio.Event()

    async def half(desk: Desk, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield unfinished()
            await holding(desk, request)

        return StreamingResponse(body(), media_type="text/event-stream")

    class Leaving(Seen):
        async def __call__(self, image: CheckedImage) -> None:
            came.set()

    desk.answers = [half]
    task = asyncio.create_task(edit(desk, Leaving()))
    await asyncio.wait_for(came.wait(), WAIT_S)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.to_thread(desk.left.wait, WAIT_S)


# --- a session ---------------------------------------------------------------------------------------------------------


def image(data: bytes) -> CheckedImage:
    return CheckedImage.hashed(data, inspect(data))


class Unfinished:
    """An editor that shows an unfinished picture, finishes the first edit once that was judged, and the second one never."""

    def __init__(self, judged: asyncio.Event) -> None:
        self.judged = judged
        self.keys: list[str] = []
        self.stopped: list[str] = []

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        self.keys.append(order.key.split("/", 1)[1])
        assert order.on_preview is not None
        await order.on_preview(image(BLURRED if self.keys[-1] == "1/1" else DONE))
        await self.judged.wait()
        if self.keys[-1] == "2/1":
            try:
                await asyncio.Event().wait()
            finally:
                self.stopped.append(self.keys[-1])
        return EditReply(image(SOURCE))

    async def ready(self) -> bool:
        return True


class Seeing(Thinker):
    """Scores the first edit's unfinished picture 5, its finished one 7, and the second edit's unfinished picture 0."""

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        data = await order.candidate.load()
        score = {BLURRED: 5.0, SOURCE: 7.0 if order.turn_instruction == "x" else 9.0, DONE: 0.0}[data]
        refined = {"x": "x 2", "x 2": "x 3"}.get(order.turn_instruction, "x 4")
        return CritiqueReply(score, score, "", refined)


class Watched(Log):
    """A log that tells when the first unfinished picture's scores are in it."""

    def __init__(self) -> None:
        super().__init__()
        self.judged = asyncio.Event()

    def write(self, events: Sequence[ev.Event]) -> None:
        super().write(events)
        if "preview_critiqued" in self.types:
            self.judged.set()


async def test_a_hopeless_edit_is_stopped_and_the_session_goes_on() -> None:
    log, blobs = Watched(), Blobs()
    editor = Unfinished(log.judged)
    created = log.entries[0].event
    assert isinstance(created, ev.SessionCreated)
    source = image_ref(image(SOURCE))
    log.entries = [Recorded(1, created.model_copy(update={"reject_early": True, "version": 4, "source": source}))]
    performer = Performer({"e": editor}, {"t": Seeing()}, blobs, Now(), decoder=InProcessPool())
    driver = Driver(Claim(NAME, 1, "e"), log, performer, Now(), Observer(), list(log.entries))  # type: ignore[arg-type]
    await asyncio.wait_for(driver.run(), WAIT_S)

    session = fold(entry.event for entry in log.entries)
    assert editor.stopped == ["2/1"]
    first, second = session.turns[0].candidates[0], session.turns[1].candidates[0]
    assert first.scores and first.scores.overall == 7.0
    assert (second.rejected, second.image, second.editing) == (True, None, False)
    assert second.edit_error and second.edit_error.code == ev.SUPERSEDED
    assert session.finished and session.finished.best != second.ref
    types = log.types
    assert types.index("edit_rejected") < types.index("edit_failed")
    assert types.count("edit_failed") == 1

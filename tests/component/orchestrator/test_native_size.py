"""Between turns a picture has the size that the editor's model made; the results are scaled once, when the session ends."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.responses import JSONResponse

from orchestrator.execution.driver import Driver
from orchestrator.execution.performer import Performer
from orchestrator.loop import events as ev
from orchestrator.loop.session import fold
from orchestrator.ports.collaborators import CritiqueOrder, EditOrder, EditorUsage, EditReply
from orchestrator.ports.errors import EditorError, StorageFullError
from orchestrator.ports.stores import Blob, Claim, Recorded
from orchestrator.upstreams.editor import HttpEditor, Told
from orchestrator.upstreams.pool import UpstreamPool, http_client
from orchestrator.upstreams.registry import Registry
from orchestrator.upstreams.thinker import HttpThinker
from services.imaging.codec import CheckedImage, inspect
from services.protocol.critique.messages import read
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, image_reply, stored
from tests.component.orchestrator.test_driver import NAME, InstantEditor, Log, Now, Thinker
from tests.component.orchestrator.test_driver import Told as Observer
from tests.component.orchestrator.test_thinker_client import GOOD, dialect
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import opened, saved, scene

SIZE = (192, 128)
SOURCE = saved(scene(size=SIZE), "PNG")
NATIVE = saved(scene(size=(96, 64)).rotate(180), "PNG")
PIXELS = 96 * 64
MASK = saved(Image.new("RGBA", SIZE), "PNG")
REFUSAL = JSONResponse({"error": {"message": "native_size is not a parameter of this request"}}, 400)


async def edit(desk: Desk, *, pixels: int | None = PIXELS, mask: bytes | None = None, **options: Any) -> EditReply:
    held = None if mask is None else stored(mask)
    order = EditOrder(stored(SOURCE), held, "warmer", 7, "ses_1/2/1", WAIT_S, options)
    async with asking("editor", desk.url) as upstream:
        return await HttpEditor(upstream, decoder=InProcessPool(), told=lambda: Told(native_pixels=pixels)).edit(
            order, EditorUsage()
        )


def asked(desk: Desk, number: int = -1) -> object:
    return dict(desk.seen[number].form).get("native_size")


async def test_a_picture_that_would_be_scaled_up_is_asked_for_and_kept_at_its_native_size(desk: Desk) -> None:
    desk.answers = [image_reply(NATIVE)]
    assert (await edit(desk)).image.data == NATIVE
    assert asked(desk) == "true"


@pytest.mark.parametrize("options", [{"pixels": None}, {"pixels": SIZE[0] * SIZE[1]}, {"size": "96x64"}, {"mask": MASK}], ids=str)
async def test_others_are_not(desk: Desk, options: dict[str, Any]) -> None:
    """Of an editor that says nothing; one that is not scaled up; and with a mask, where the source's own pixels stay."""
    desk.answers = [image_reply(NATIVE)]
    made = (await edit(desk, **options)).image
    assert asked(desk) is None
    assert (made.width, made.height) == ((96, 64) if "size" in options else SIZE)


@pytest.mark.parametrize(("made", "kept"), [((384, 256), False), ((95, 64), True), ((64, 64), False)])
async def test_a_reply_of_another_size_comes_to_the_size_asked_for(desk: Desk, made: tuple[int, int], *, kept: bool) -> None:
    """A larger one is scaled down at once; one of another shape is cropped."""
    desk.answers = [image_reply(saved(scene(size=made), "PNG"))]
    image = (await edit(desk, size="192x128")).image
    assert (image.width, image.height) == (made if kept else SIZE)


async def test_a_worker_of_an_earlier_version_is_asked_again_without(desk: Desk) -> None:
    """Another worker of the pool told that it can."""
    desk.answers = [REFUSAL, image_reply(NATIVE)]
    made = (await edit(desk)).image
    assert (asked(desk, 0), asked(desk, 1)) == ("true", None)
    assert len({seen.headers["idempotency-key"] for seen in desk.seen}) == 1
    assert opened(made.data).size == SIZE


async def test_other_refusals_are_not_repeated(desk: Desk) -> None:
    desk.answers = [JSONResponse({"error": {"message": "prompt is too long"}}, 400)]
    with pytest.raises(EditorError):
        await edit(desk)
    assert len(desk.seen) == 1


@pytest.mark.parametrize(("told", "pixels"), [(1048576, 1048576), (0, None), (True, None), ("1", None), (None, None)])
async def test_an_editor_tells_its_area(desk: Desk, told: object, pixels: int | None) -> None:
    desk.answers = [JSONResponse({"data": [{"id": "a", "capabilities": {"native_pixels": told}}]})]
    async with asking("editor", desk.url) as upstream:
        assert await HttpEditor(upstream).capabilities() == Told(native_pixels=pixels)


class _Unobserved:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


async def test_an_editor_whose_settings_say_the_rest_is_asked_for_its_area(desk: Desk) -> None:
    card = JSONResponse({"data": [{"id": "a", "capabilities": {"native_pixels": PIXELS}}]})
    desk.answers = [card, image_reply(NATIVE)]
    url = f"{desk.url}/v1"
    registry = Registry.model_validate(
        {
            "editors": {"e": {"url": url, "images": 1, "mask": False}},
            "thinkers": {"t": {"url": url, "model": "m"}},
        }
    )
    async with http_client() as client:
        pool = UpstreamPool(lambda: registry, client, _Unobserved(), InProcessPool())
        await pool.learn(again=False)
        reply = await pool.editors["e"].edit(EditOrder(stored(SOURCE), None, "warmer", 7, "ses_1/2/1", WAIT_S, {}), EditorUsage())
    assert reply.image.data == NATIVE


# --- what the thinker sees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "shown"), [((96, 64), (96, 64)), ((97, 64), (97, 64)), (SIZE, SIZE), ((64, 64), SIZE), ((384, 256), SIZE)]
)
async def test_the_thinker_compares_pictures_of_one_size(desk: Desk, candidate: tuple[int, int], shown: tuple[int, int]) -> None:
    """A native size is none of the edit's faults; another shape, or a larger picture, is shown as it is."""
    desk.answers = [JSONResponse(GOOD)]
    order = CritiqueOrder(stored(SOURCE), stored(saved(scene(size=candidate), "PNG")), "x", "y", WAIT_S)
    async with asking("thinker", desk.url) as upstream:
        await HttpThinker(upstream, dialect(), decoder=InProcessPool()).critique(order)
    request = read(json.loads(desk.seen[0].body)["messages"], [dialect().template])
    assert opened(request.source.data).size == shown
    assert opened(request.candidate.data).size == candidate
    if shown == SIZE:
        assert request.source.data == SOURCE


# --- the end of a session --------------------------------------------------------------------------------------------


class Blobs:
    """Keeps pictures; `full` refuses new ones."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.full = False

    async def get(self, session_id: str, sha256: str) -> bytes:
        return self.data[sha256]

    async def put(self, session_id: str, image: Blob) -> None:
        if self.full and inspect(image.data).width == SIZE[0]:
            raise StorageFullError("the disk is full")
        self.puts.append(image.sha256)
        self.data[image.sha256] = image.data


class Native(InstantEditor):
    """Makes another picture of its native size for each seed."""

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        data = saved(scene(size=(96, 64)).rotate(90 * (order.seed % 2) * 2), "PNG")
        return EditReply(CheckedImage.hashed(data, inspect(data)))


def logged(**changes: Any) -> Log:
    log = Log()
    created = log.entries[0].event
    assert isinstance(created, ev.SessionCreated)
    log.entries = [Recorded(1, created.model_copy(update={"source": stored(SOURCE).ref, **changes}))]
    return log


def driver(log: Log, blobs: Blobs) -> Driver:
    performer = Performer({"e": Native()}, {"t": Thinker()}, blobs, Now(), decoder=InProcessPool())
    return Driver(Claim(NAME, 1, "e"), log, performer, Now(), Observer(), list(log.entries))  # type: ignore[arg-type]


def ended(log: Log) -> ev.Finished:
    event = log.entries[-1].event
    assert isinstance(event, ev.Finished)
    return event


async def test_the_result_is_the_candidate_scaled_as_a_worker_scales() -> None:
    log, blobs = logged(), Blobs()
    await driver(log, blobs).run()

    session = fold(entry.event for entry in log.entries)
    candidate = session.candidate(ev.CandidateRef(turn=1, candidate=1))
    assert candidate and candidate.image and candidate.scaled and candidate.answer == candidate.scaled
    assert (candidate.image.width, candidate.image.height) == (96, 64)
    assert (candidate.scaled.width, candidate.scaled.height) == SIZE
    native, answer = (Image.open(BytesIO(blobs.data[each.sha256])) for each in (candidate.image, candidate.scaled))
    assert np.array_equal(np.asarray(answer), np.asarray(native.resize(SIZE, Image.Resampling.LANCZOS)))
    assert session.image_bytes == session.created.source.bytes + candidate.image.bytes + candidate.scaled.bytes


async def test_every_result_is_scaled_and_no_other_candidate() -> None:
    limits = ev.Limits(deadline_at=time.time() + 20, candidates=3)
    log, blobs = logged(results=2, limits=limits), Blobs()
    await driver(log, blobs).run()
    assert len(ended(log).results) == 2 and all(ended(log).scaled)
    session = fold(entry.event for entry in log.entries)
    assert sum(candidate.scaled is not None for candidate in session.candidates) == 2


async def test_a_size_that_was_asked_for_is_the_results() -> None:
    log, blobs = logged(editor_options={"size": "288x192"}), Blobs()
    await driver(log, blobs).run()
    [scaled] = ended(log).scaled
    assert scaled and (scaled.width, scaled.height) == (288, 192)


async def test_a_crash_before_the_end_is_recorded_loses_nothing_and_scales_again() -> None:
    """The first driver dies after the picture is stored; the next one stores the same, and finishes."""
    log, blobs = logged(), Blobs()

    class DiesError(Exception):
        pass

    async def dying(session_id: str, expected: int, events: Sequence[ev.Event], fence: int | None) -> Any:
        if isinstance(events[-1], ev.Finished):
            raise DiesError
        return await Log.append(log, session_id, expected, events, fence)

    log.append = dying  # type: ignore[method-assign]
    with pytest.raises(DiesError):
        await driver(log, blobs).run()
    assert log.types[-1] == "critiqued" and len(blobs.puts) == 2
    del log.append
    await driver(log, blobs).run()

    [scaled] = ended(log).scaled
    assert scaled and blobs.puts[1:] == [scaled.sha256, scaled.sha256]
    assert log.types.count("edited") == log.types.count("finished") == 1


async def test_an_end_whose_append_was_refused_is_scaled_again() -> None:
    log, blobs = logged(), Blobs()
    log.fate = lambda number: "refused" if number == 4 else "done"
    await driver(log, blobs).run()
    assert log.types.count("finished") == 1 and all(ended(log).scaled)


async def test_a_result_that_cannot_be_stored_keeps_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Better a small picture than none."""
    monkeypatch.setattr("orchestrator.execution.performer._STORAGE_RETRIES", _once)
    log, blobs = logged(), Blobs()
    blobs.full = True
    await driver(log, blobs).run()
    assert ended(log).best and not any(ended(log).scaled)
    candidate = fold(entry.event for entry in log.entries).candidate(ended(log).results[0])
    assert candidate and candidate.answer == candidate.image


async def _once(_: type[Exception], work: Any, *args: Any) -> Any:
    return await work(*args)


def test_a_log_without_scaled_results_is_as_before() -> None:
    ref = ev.CandidateRef(turn=1, candidate=1)
    finished = ev.Finished(at=1, reason="satisfied", best=ref, results=(ref,), scaled=(None,), totals=ev.Totals())
    assert b"scaled" not in ev.dump(finished)
    assert ev.load(ev.dump(finished)) == finished.model_copy(update={"scaled": ()})

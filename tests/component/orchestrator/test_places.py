"""A critique that points: its boxes are recorded, and the next one is told what changed outside of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError
from starlette.responses import JSONResponse

from orchestrator.api.view import _candidate
from orchestrator.execution.driver import Driver
from orchestrator.execution.performer import Performer
from orchestrator.loop import events as ev
from orchestrator.loop.session import fold
from orchestrator.ports.collaborators import CritiqueOrder, CritiqueReply, EditOrder, EditorUsage, EditReply
from orchestrator.ports.stores import Blob, Claim, Recorded
from orchestrator.upstreams.editor import Asks, HttpEditor
from orchestrator.upstreams.pool import UpstreamPool, http_client
from orchestrator.upstreams.registry import Registry, ThinkerSettings
from services.imaging.codec import CheckedImage, ImageInfo, encode
from services.imaging.masks import of_boxes, opening, outside
from services.protocol.critique.formats import FORMATS
from services.protocol.critique.messages import Critique
from services.protocol.critique.places import Place
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, image_reply, stored
from tests.component.orchestrator.test_driver import NAME, InstantEditor, Log, Now, Thinker, Told
from tests.component.orchestrator.test_native_size import _Unobserved
from tests.component.orchestrator.test_thinker_client import completion, critique, dialect
from tests.doubles.decoding import InProcessPool

SIZE = (320, 240)
HAT = ev.Place(left=0, top=0, right=500, bottom=500, word="hat")
GREY = Image.new("RGB", SIZE, (120, 120, 120))


def changed(box: tuple[int, int, int, int]) -> Image.Image:
    """The grey picture with a red box."""
    image = GREY.copy()
    image.paste((255, 0, 0), box)
    return image


@pytest.mark.parametrize(
    ("box", "share"),
    [((0, 0, 160, 120), 0.0), ((0, 120, 320, 240), 2 / 3), ((0, 0, 320, 240), 1.0)],
    ids=["inside", "the lower half", "everywhere"],
)
def test_only_what_lies_outside_of_the_boxes_counts(box: tuple[int, int, int, int], share: float) -> None:
    """A quarter of the picture is open, on a grid that is not of the picture's shape."""
    found = outside(GREY, of_boxes([(0, 0, 500, 500)]), changed(box))

    assert found is not None
    assert found.changed == pytest.approx(share, abs=0.06)


def test_boxes_open_a_mask_where_they_are() -> None:
    open_ = opening(of_boxes([(0, 0, 500, 250), (900, 900, 1000, 1000)]))

    assert open_.size == (1000, 1000)
    assert [open_.getpixel(at) for at in ((0, 0), (499, 249), (500, 249), (950, 950), (899, 950))] == [255, 255, 0, 255, 0]


class Blobs:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, session_id: str, image: Blob) -> None:
        self.kept[image.sha256] = image.data

    async def get(self, session_id: str, sha256: str) -> bytes:
        return self.kept[sha256]


class Painter(InstantEditor):
    """Grey first, then with the upper half red: half of that is outside of the box."""

    def __init__(self) -> None:
        self.orders: list[EditOrder] = []

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        self.orders.append(order)
        image = GREY if len(self.orders) == 1 else changed((0, 0, 320, 120))
        return EditReply(CheckedImage.hashed(encode(image, "png"), ImageInfo("image/png", *SIZE)))


class Pointer(Thinker):
    """Points at the hat first, and is satisfied then."""

    def __init__(self) -> None:
        self.orders: list[CritiqueOrder] = []

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        self.orders.append(order)
        if len(self.orders) == 1:
            return CritiqueReply(3, 3, "the hat is wrong", "a red hat", places=(HAT,))
        return CritiqueReply(9, 9, "", None)


async def test_the_next_critique_is_told_what_changed_outside_of_the_boxes() -> None:
    """Compared with the candidate that was pointed at; both stand in the log and in the view."""
    log, thinker = Log(), Pointer()
    performer = Performer({"e": Painter()}, {"t": thinker}, Blobs(), Now(), decoder=InProcessPool())
    driving = Driver(Claim(NAME, 1, "e"), log, performer, Now(), Told(), list(log.entries))  # type: ignore[arg-type]
    await asyncio.wait_for(driving.run(), WAIT_S)
    first, second = (recorded.event for recorded in log.entries if isinstance(recorded.event, ev.Critiqued))

    assert (first.places, first.outside_places, second.places) == ((HAT,), None, ())
    assert second.outside_places is not None
    # Of the three quarters outside the box one is red, but for a margin along the box.
    assert second.outside_places.changed == pytest.approx(1 / 3, abs=0.04)
    assert [order.outside_places for order in thinker.orders] == [None, second.outside_places]

    views = [_candidate("/s", each) for each in fold(recorded.event for recorded in log.entries).candidates]
    assert [view.places for view in views] == [[HAT], []]
    assert [view.outside_places and view.outside_places.changed for view in views] == [None, second.outside_places.changed]


async def test_a_render_is_not_measured_against_a_draft() -> None:
    """A draft is blurred, so all of the render would seem changed; drafts are measured against each other."""
    log, thinker = Log(), Pointer()
    log.entries = [Recorded(1, log.entries[0].event.model_copy(update={"draft": True}))]
    performer = Performer({"e": Painter()}, {"t": thinker}, Blobs(), Now(), decoder=InProcessPool())
    driving = Driver(Claim(NAME, 1, "e"), log, performer, Now(), Told(), list(log.entries))  # type: ignore[arg-type]
    await asyncio.wait_for(driving.run(), WAIT_S)
    turns = fold(recorded.event for recorded in log.entries).turns

    assert [(turn.draft, bool(turn.renders), turn.instruction) for turn in turns] == [
        (True, False, "x"),
        (True, False, "a red hat"),
        (False, True, "a red hat"),
    ]
    assert [order.outside_places is not None for order in thinker.orders] == [False, True, False]


async def test_a_thinker_is_asked_for_places_only_if_it_is_configured_to(desk: Desk) -> None:
    """Then its constraint has them, and its reply's are passed on."""
    pointed = Critique(3.0, 7.5, "too cold", "warmer light", places=(Place(0, 0, 500, 500, "hat"),))
    desk.answers = [JSONResponse(completion(FORMATS["json_schema"].bind(places=True).render(pointed)))]
    replies = [await critique(desk, spoken=dialect("json_schema", "json_schema", places=asked)) for asked in (True, False)]
    asked, plain = (json.loads(seen.body) for seen in desk.seen)

    assert [reply.places for reply in replies] == [(HAT,), (HAT,)]
    assert "places" in asked["response_format"]["json_schema"]["schema"]["properties"]
    assert "at most 8 entries" in json.dumps(asked["messages"]) and "places" not in json.dumps(plain)


@pytest.mark.parametrize("name", ["editthinker", "editscore", "digit"])
def test_a_format_that_cannot_point_is_refused_at_start(name: Any) -> None:
    with pytest.raises(ValidationError, match=f"the format {name} cannot point at places; use json_schema or checklist"):
        ThinkerSettings.model_validate({"url": "http://judge.test/v1", "model": "m", "format": name, "places": True})


@pytest.mark.parametrize("boxes", [(), (HAT,)])
@pytest.mark.parametrize("takes", [True, False])
async def test_boxes_are_appended_for_an_editor_that_is_handed_them(
    desk: Desk,
    boxes: tuple[ev.Place, ...],
    takes: bool,  # noqa: FBT001 - a case
) -> None:
    """With the top first, as JSON on a line of its own."""
    desk.answers = [image_reply(encode(GREY, "png"))]
    order = EditOrder(stored(encode(GREY, "png")), None, "a red hat", 1, "k", WAIT_S, boxes=boxes)
    async with asking("editor", desk.url) as upstream:
        await HttpEditor(upstream, decoder=InProcessPool(), asks=Asks(boxes=lambda: takes)).edit(order, EditorUsage())

    added = '\n[{"bbox": [0, 0, 500, 500], "label": "hat"}]' if boxes and takes else ""
    assert dict(desk.seen[0].form)["prompt"] == f"a red hat{added}"


@pytest.mark.parametrize(
    ("told", "configured", "taken"),
    [(True, True, True), (False, True, False), ("yes", True, False), (None, True, False), (True, False, False)],
)
async def test_an_editor_is_handed_boxes_if_it_takes_them_and_is_configured_to(
    desk: Desk, told: Any, configured: Any, taken: Any
) -> None:
    """Off by default. A replica that has just started asks it: an edit that it takes over had boxes from the first."""
    picture = encode(GREY, "png")
    card = JSONResponse({"data": [{"id": "a", "capabilities": {"boxes": told}}]})
    desk.answers = [card, image_reply(picture), image_reply(picture)]
    settings = {"url": f"{desk.url}/v1", "model": "a", **({"boxes": True} if configured else {})}
    thinkers = {"t": {"url": f"{desk.url}/v1", "model": "m"}}
    registry = Registry.model_validate({"editors": {"e": settings}, "thinkers": thinkers})
    order = EditOrder(stored(picture), None, "a red hat", 1, "k", WAIT_S, boxes=(HAT,))
    async with http_client() as client:
        pool = UpstreamPool(lambda: registry, client, _Unobserved(), InProcessPool())
        await pool.editors["e"].edit(order, EditorUsage())
        await pool.editors["e"].edit(order, EditorUsage())

    assert [seen.method for seen in desk.seen] == ["GET", "POST", "POST"]
    assert ["bbox" in dict(seen.form)["prompt"] for seen in desk.seen[1:]] == [taken, taken]


async def test_the_next_edit_is_ordered_with_the_boxes() -> None:
    """Of the critique whose instruction it has; the first edit has none."""
    log, editor = Log(), Painter()
    performer = Performer({"e": editor}, {"t": Pointer()}, Blobs(), Now(), decoder=InProcessPool())
    driving = Driver(Claim(NAME, 1, "e"), log, performer, Now(), Told(), list(log.entries))  # type: ignore[arg-type]
    await asyncio.wait_for(driving.run(), WAIT_S)

    assert [(order.instruction, order.boxes) for order in editor.orders] == [("x", ()), ("a red hat", (HAT,))]

"""Drafts: asked for where the editor makes them, kept small, and edited in full by the driver before the session ends."""

from __future__ import annotations

import pytest
from PIL import Image
from starlette.responses import JSONResponse

from orchestrator.loop import events as ev
from orchestrator.ports.collaborators import CritiqueOrder, CritiqueReply, EditOrder, EditorUsage, EditReply
from orchestrator.ports.errors import EditorError
from orchestrator.ports.stores import Recorded
from orchestrator.upstreams.editor import HttpEditor, Told
from orchestrator.upstreams.pool import UpstreamPool, http_client
from orchestrator.upstreams.registry import Registry
from services.imaging.codec import CheckedImage, inspect
from tests.component.orchestrator.desk import WAIT_S, Desk, asking, image_reply, stored
from tests.component.orchestrator.test_driver import Log, Thinker, driver
from tests.component.orchestrator.test_inputs import _Unobserved
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import opened, saved, scene

SIZE = (192, 128)
SOURCE = saved(scene(size=SIZE), "PNG")
DRAFT = saved(scene(size=(96, 64)).rotate(180), "PNG")
MASK = saved(Image.new("RGBA", SIZE), "PNG")
REFUSAL = JSONResponse({"error": {"message": "draft is not a parameter of this request"}}, 400)


async def edit(desk: Desk, told: Told, *, draft: bool = True, mask: bytes | None = None) -> EditReply:
    held = None if mask is None else stored(mask)
    order = EditOrder(stored(SOURCE), held, "warmer", 7, "ses_1/1/1", WAIT_S, {}, draft=draft)
    async with asking("editor", desk.url) as upstream:
        return await HttpEditor(upstream, decoder=InProcessPool(), told=lambda: told).edit(order, EditorUsage())


def asked(desk: Desk, number: int = -1) -> tuple[object, object]:
    form = dict(desk.seen[number].form)
    return form.get("draft"), form.get("native_size")


@pytest.mark.parametrize("mask", [None, MASK])
async def test_a_draft_is_asked_for_and_kept_as_small_as_it_comes(desk: Desk, mask: bytes | None) -> None:
    desk.answers = [image_reply(DRAFT)]
    reply = await edit(desk, Told(draft=True, native_pixels=96 * 64), mask=mask)
    assert reply.image.data == DRAFT
    assert asked(desk) == ("true", None)
    # Scaled up it would differ from the source everywhere.
    assert reply.outside_mask is None


async def test_a_replica_that_knows_nothing_of_the_editor_asks_it_first(desk: Desk) -> None:
    """A draft that it takes over is no edit in full, for which the editor would refuse the key."""
    desk.answers = [JSONResponse({"data": [{"id": "a", "capabilities": {"draft": True}}]}), image_reply(DRAFT)]
    url = f"{desk.url}/v1"
    registry = Registry.model_validate({"editors": {"e": {"url": url}}, "thinkers": {"t": {"url": url, "model": "m"}}})
    order = EditOrder(stored(SOURCE), None, "warmer", 7, "ses_1/1/1", WAIT_S, {}, draft=True)
    async with http_client() as client:
        pool = UpstreamPool(lambda: registry, client, _Unobserved(), InProcessPool())
        await pool.editors["e"].edit(order, EditorUsage())
    assert asked(desk) == ("true", None)


async def test_an_editor_without_drafts_edits_in_full(desk: Desk) -> None:
    """As a fallback may."""
    desk.answers = [image_reply(DRAFT)]
    assert opened((await edit(desk, Told())).image.data).size == SIZE
    assert asked(desk) == (None, None)


async def test_an_edit_in_full_has_no_field(desk: Desk) -> None:
    desk.answers = [image_reply(SOURCE)]
    await edit(desk, Told(draft=True), draft=False)
    assert asked(desk) == (None, None)


async def test_a_worker_of_an_earlier_version_is_asked_again_without(desk: Desk) -> None:
    desk.answers = [REFUSAL, image_reply(SOURCE)]
    await edit(desk, Told(draft=True))
    assert (asked(desk, 0), asked(desk, 1)) == (("true", None), (None, None))


async def test_other_refusals_are_not_repeated(desk: Desk) -> None:
    desk.answers = [JSONResponse({"error": {"message": "prompt is too long"}}, 400)]
    with pytest.raises(EditorError):
        await edit(desk, Told(draft=True))
    assert len(desk.seen) == 1


@pytest.mark.parametrize(("told", "draft"), [(True, True), (False, False), ("true", False), (None, False)])
async def test_an_editor_tells_that_it_makes_drafts(desk: Desk, told: object, *, draft: bool) -> None:
    desk.answers = [JSONResponse({"data": [{"id": "a", "capabilities": {"draft": told}}]})]
    async with asking("editor", desk.url) as upstream:
        assert await HttpEditor(upstream).capabilities() == Told(draft=draft)


class Drafting:
    """An editor whose drafts are small; it keeps what it was asked."""

    def __init__(self) -> None:
        self.orders: list[EditOrder] = []

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        self.orders.append(order)
        data = DRAFT if order.draft else SOURCE
        return EditReply(CheckedImage.hashed(data, inspect(data)))

    async def ready(self) -> bool:
        return True


class Strict(Thinker):
    """Is content with the second instruction."""

    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        score = 9.0 if order.turn_instruction == "warmer still" else 4.0
        return CritiqueReply(score, score, "", "warmer still")


async def test_a_session_drafts_and_answers_with_the_winner_in_full() -> None:
    log = Log()
    created = log.entries[0].event.model_copy(update={"draft": True, "version": 4, "instruction": "warmer"})
    log.entries = [Recorded(1, ev.load(ev.dump(created)))]
    editor = Drafting()
    await driver(log, editor=editor, thinker=Strict()).run()

    made = [(order.draft, order.instruction, order.key.split("/", 1)[1]) for order in editor.orders]
    assert made == [(True, "warmer", "1/1"), (True, "warmer still", "2/1"), (False, "warmer still", "3/1")]
    assert len({order.seed for order in editor.orders}) == 1
    end = log.entries[-1].event
    assert isinstance(end, ev.Finished)
    assert (end.reason, end.best, end.totals.edits) == ("satisfied", ev.CandidateRef(turn=3, candidate=1), 3)
    turns = [entry.event for entry in log.entries if isinstance(entry.event, ev.TurnStarted)]
    assert [turn.renders for turn in turns] == [None, None, ev.CandidateRef(turn=2, candidate=1)]

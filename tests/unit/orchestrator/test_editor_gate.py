"""The editor's client at its gate: what of an edit the gate is told, and what becomes of its place."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.ports import EditOrder, EditorError, EditReply
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit
from orchestrator.upstreams.editor import HttpEditor
from tests.unit.imaging.pictures import saved, scene
from tests.unit.orchestrator.desk import WAIT_S, Answer, Desk, asking, busy, holding, image_reply, stored

PICTURE = saved(scene(size=(24, 16)), "PNG")


class Watched(AdaptiveLimit):
    """Keeps what it is told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.answers: list[tuple[float, float | None]] = []
        self.refusals = 0

    def _answered(self, elapsed_s: float, waited_s: float | None, beside: float | None) -> None:
        assert self.in_flight > 0
        self.answers.append((elapsed_s, waited_s))
        super()._answered(elapsed_s, waited_s, beside)

    def _refused(self, now: float) -> None:
        assert self.in_flight > 0
        self.refusals += 1
        super()._refused(now)


def order(key: str = "k", *, timeout_s: float = WAIT_S, later: bool = False, start_s: float = math.inf) -> EditOrder:
    return EditOrder(stored(PICTURE), None, "warmer", 7, key, timeout_s, {}, later, start_s=start_s)


async def edit(desk: Desk, gate: AdaptiveLimit, wanted: EditOrder | None = None, **options: Any) -> EditReply:
    async with asking("editor", desk.url, **options) as upstream:
        return await HttpEditor(upstream, gate=gate).edit(wanted or order())


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ({"queue_ms": 0.5, "total_ms": 60_000}, 0.0005),
        ({"queue_ms": -5, "total_ms": 60_000}, 0.0),
        ({"queue_ms": 0, "total_ms": 0}, "all"),
        ({"queue_ms": 60_000, "total_ms": 60_000}, "all"),
        ({"queue_ms": 0.5}, None),
        ({"total_ms": 0.5}, None),
        ({"queue_ms": "long", "total_ms": 1}, None),
        (None, None),
    ],
)
async def test_the_wait_is_the_workers_line_and_what_came_before_the_worker(desk: Desk, timings: Any, expected: Any) -> None:
    """Both must be told; it is never more than the edit took."""
    desk.answers = [image_reply(PICTURE, timings=timings)]
    gate = Watched()
    await edit(desk, gate)
    ((elapsed, waited),) = gate.answers

    assert 0 < elapsed < WAIT_S
    assert waited == (elapsed if expected == "all" else expected)
    assert gate.in_flight == 0


@pytest.mark.parametrize("status", [429, 503])
async def test_every_refusal_reaches_the_gate_and_no_pause_counts(desk: Desk, status: int) -> None:
    """The call is repeated below; what is measured is the try that was answered."""
    desk.answers = [busy("0.3", status), busy("0.3", status), image_reply(PICTURE)]
    gate = Watched()
    await edit(desk, gate)

    assert gate.refusals == 2
    assert len(gate.answers) == 1 and gate.answers[0][0] < 0.3
    assert gate.limit < 8 and gate.in_flight == 0 and gate._resting == 0


@pytest.mark.parametrize(("told", "replayed"), [("true", True), ("TRUE", True), ("false", False), (None, False)])
async def test_a_replay_is_told_as_one_and_says_nothing_of_the_pool(desk: Desk, told: str | None, replayed: Any) -> None:
    answer = image_reply(PICTURE, timings={"queue_ms": 9000, "total_ms": 1})
    if told is not None:
        answer.headers["idempotent-replayed"] = told
    desk.answers = [answer]
    gate = Watched()

    assert (await edit(desk, gate)).replayed is replayed
    assert len(gate.answers) == (0 if replayed else 1)
    assert gate.in_flight == 0


async def test_who_asks_for_a_place_is_expected_no_more(desk: Desk) -> None:
    """Whatever the turn."""
    desk.answers = [image_reply(PICTURE)]
    gate = Watched(fixed=1)
    gate.expect("ses_1")
    await edit(desk, gate, replace(order(later=True), session_id="ses_1"))
    assert gate.room() == 2


async def test_the_time_at_the_gate_is_the_edits_own(desk: Desk) -> None:
    """Nothing is sent after it; the error is that of an editor that takes too long."""
    gate = Watched(fixed=1)
    async with gate.place(later=False):
        with pytest.raises(EditorError) as caught:
            await edit(desk, gate, order(timeout_s=0.05))
        assert (caught.value.code, caught.value.retryable) == ("editor_timeout", True)
        assert gate.waiting == 0 and gate.in_flight == 1
    assert desk.seen == [] and gate.in_flight == 0


@pytest.mark.parametrize("start_s", [0.05, 0.0, -3.0])
async def test_an_edit_that_would_come_too_late_waits_for_no_place(desk: Desk, start_s: float) -> None:
    """Its place is somebody else's; where one is free it is tried, since it may be quicker than most."""
    desk.answers = [image_reply(PICTURE)]
    gate = Watched(fixed=1)
    async with gate.place(later=False):
        with pytest.raises(EditorError) as caught:
            await edit(desk, gate, order(start_s=start_s))
    assert (caught.value.code, caught.value.retryable) == ("deadline_exceeded", False)
    assert desk.seen == []
    await edit(desk, gate, order(start_s=start_s))
    assert len(desk.seen) == 1 and gate.in_flight == 0


async def test_the_wait_at_the_gate_leaves_less_for_the_editor(desk: Desk) -> None:
    """Together they are no longer than the caller allows."""
    desk.answers = [holding]
    gate = Watched(fixed=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with gate.place(later=False):
        asked = asyncio.create_task(edit(desk, gate, order(timeout_s=1.0)))
        await asyncio.sleep(0.6)
    with pytest.raises(EditorError) as caught:
        await asked
    assert caught.value.code == "editor_timeout" and loop.time() - began < 1.5


BAD: list[Answer] = [busy("0", 500), busy("0", 400), image_reply(b"no picture"), image_reply(b"")]


@pytest.mark.parametrize("answer", BAD, ids=["500", "400", "bad", "empty"])
async def test_a_failed_edit_gives_its_place_back(desk: Desk, answer: Answer) -> None:
    desk.answers = [answer]
    gate = Watched(fixed=1)
    with pytest.raises(EditorError):
        await edit(desk, gate, attempts=1)
    assert gate.in_flight == 0


async def test_a_cancelled_edit_gives_its_place_back(desk: Desk) -> None:
    """On the wire, and while it waits to be sent again after a refusal."""
    for answer in (holding, busy("10")):
        desk.reset()
        desk.answers = [answer]
        gate = Watched(fixed=1)
        task = asyncio.create_task(edit(desk, gate))
        assert await asyncio.to_thread(desk.arrived.wait, WAIT_S)
        await asyncio.sleep(0.1)
        assert gate.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.in_flight == 0 and gate._resting == 0


async def test_an_edit_of_a_later_turn_is_sent_first(desk: Desk) -> None:
    desk.answers = [image_reply(PICTURE)]
    gate = Watched(fixed=1)
    async with gate.place(later=False):
        asked = [asyncio.create_task(edit(desk, gate, order(str(later), later=later))) for later in (False, True)]
        while gate.waiting < 2:
            await asyncio.sleep(0.01)
    await asyncio.gather(*asked)
    assert [request.headers["idempotency-key"] for request in desk.seen] == ["True", "False"]

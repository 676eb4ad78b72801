"""The editor's client and its slot: what it reports, and that the slot is freed."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.ports.collaborators import EditOrder, EditorUsage, EditReply
from orchestrator.ports.errors import EditorError
from orchestrator.upstreams import liveness
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit
from orchestrator.upstreams.editor import HttpEditor
from tests.component.orchestrator.desk import WAIT_S, Answer, Desk, Pace, asking, busy, holding, image_reply, stored
from tests.doubles.clock import manual_time
from tests.doubles.decoding import InProcessPool
from tests.doubles.waiting import turns, until
from tests.unit.imaging.pictures import saved, scene

PICTURE = saved(scene(size=(24, 16)), "PNG")


class Watched(AdaptiveLimit):
    """Keeps what is reported to it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.completions: list[tuple[float, float | None]] = []
        self.rejections = 0

    def _completed(self, elapsed_s: float, queue_s: float | None, in_flight_at_start: float | None, *, draft: bool) -> None:
        assert self.in_flight > 0
        self.completions.append((elapsed_s, queue_s))
        super()._completed(elapsed_s, queue_s, in_flight_at_start, draft=draft)

    def _rejected(self, now: float) -> None:
        assert self.in_flight > 0
        self.rejections += 1
        super()._rejected(now)


def order(key: str = "k", *, timeout_s: float = WAIT_S, later: bool = False, start_s: float = math.inf) -> EditOrder:
    return EditOrder(stored(PICTURE), None, "warmer", 7, key, timeout_s, {}, later, start_s=start_s)


async def edit(desk: Desk, limit: AdaptiveLimit, wanted: EditOrder | None = None, **options: Any) -> EditReply:
    async with asking("editor", desk.url, **options) as upstream:
        return await HttpEditor(upstream, limit=limit, decoder=InProcessPool()).edit(wanted or order(), EditorUsage())


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
async def test_the_queue_time_is_that_at_the_worker_and_before_it(desk: Desk, timings: Any, expected: Any) -> None:
    """Both times must be reported; it is never more than the edit took."""
    desk.answers = [image_reply(PICTURE, timings=timings)]
    limit = Watched()
    await edit(desk, limit)
    ((elapsed, waited),) = limit.completions

    assert 0 < elapsed < WAIT_S
    assert waited == (elapsed if expected == "all" else expected)
    assert limit.in_flight == 0


@pytest.mark.parametrize("status", [429, 503])
async def test_every_rejection_reaches_the_limit_and_no_pause_counts(desk: Desk, pace: Pace, status: int) -> None:
    """The call is retried; what is measured is the request that succeeded."""

    async def working(desk: Desk, request: Request) -> Response:
        await pace.work(0.5)
        return image_reply(PICTURE)

    desk.answers = [busy("0", status), busy("0", status), working]
    limit = Watched()
    await edit(desk, limit)

    assert limit.rejections == 2
    assert [elapsed for elapsed, _ in limit.completions] == [0.5]
    assert limit.limit < 8 and limit.in_flight == 0 and limit._backing_off == 0


@pytest.mark.parametrize(("told", "replayed"), [("true", True), ("TRUE", True), ("false", False), (None, False)])
async def test_a_replay_does_not_count_as_a_measurement(desk: Desk, told: str | None, replayed: Any) -> None:
    answer = image_reply(PICTURE, timings={"queue_ms": 9000, "total_ms": 1})
    if told is not None:
        answer.headers["idempotent-replayed"] = told
    desk.answers = [answer]
    limit = Watched()

    assert (await edit(desk, limit)).replayed is replayed
    assert len(limit.completions) == (0 if replayed else 1)
    assert limit.in_flight == 0


async def test_a_session_that_asks_for_a_slot_no_longer_counts_as_claimed(desk: Desk) -> None:
    """In any turn."""
    desk.answers = [image_reply(PICTURE)]
    limit = Watched(fixed=1)
    limit.add_claimed("ses_1")
    await edit(desk, limit, replace(order(later=True), session_id="ses_1"))
    assert limit.spare() == 2


async def test_the_wait_for_a_slot_counts_toward_the_timeout(desk: Desk) -> None:
    """Nothing is sent after it; the error is that of an editor that takes too long."""
    limit = Watched(fixed=1)
    async with limit.slot(later=False):
        with pytest.raises(EditorError) as caught:
            await edit(desk, limit, order(timeout_s=0.05))
        assert (caught.value.code, caught.value.retryable) == ("editor_timeout", True)
        assert limit.queued == 0 and limit.in_flight == 1
    assert desk.seen == [] and limit.in_flight == 0


@pytest.mark.parametrize("start_s", [0.05, 0.0, -3.0])
async def test_an_edit_that_would_miss_its_deadline_does_not_wait_for_a_slot(desk: Desk, start_s: float) -> None:
    """With a free slot it is tried, since it may be faster than most."""
    desk.answers = [image_reply(PICTURE)]
    limit = Watched(fixed=1)
    async with limit.slot(later=False):
        with pytest.raises(EditorError) as caught:
            await edit(desk, limit, order(start_s=start_s))
    assert (caught.value.code, caught.value.retryable) == ("deadline_exceeded", False)
    assert desk.seen == []
    await edit(desk, limit, order(start_s=start_s))
    assert len(desk.seen) == 1 and limit.in_flight == 0


async def test_the_wait_for_a_slot_leaves_less_time_for_the_editor(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they take no longer than the caller allows."""
    desk.answers = [holding]
    limit = Watched(fixed=1)
    clock = manual_time(monkeypatch, liveness)
    async with limit.slot(later=False):
        asked = asyncio.create_task(edit(desk, limit, order(timeout_s=20.0)))
        await until(lambda: limit.queued == 1)
        clock.advance(19.9)
    with pytest.raises(EditorError) as caught:
        await asked
    assert caught.value.code == "editor_timeout" and "within 0.1 s" in caught.value.message


BAD: list[Answer] = [busy("0", 500), busy("0", 400), image_reply(b"no picture"), image_reply(b"")]


@pytest.mark.parametrize("answer", BAD, ids=["500", "400", "bad", "empty"])
async def test_a_failed_edit_frees_its_slot(desk: Desk, answer: Answer) -> None:
    desk.answers = [answer]
    limit = Watched(fixed=1)
    with pytest.raises(EditorError):
        await edit(desk, limit, attempts=1)
    assert limit.in_flight == 0


async def test_a_cancelled_edit_frees_its_slot(desk: Desk) -> None:
    """While the request is in flight, and while it backs off after a rejection."""
    for answer, backing_off in ((holding, 0), (busy("10"), 1)):
        desk.reset()
        desk.answers = [answer]
        limit = Watched(fixed=1)
        task = asyncio.create_task(edit(desk, limit))
        assert await asyncio.to_thread(desk.arrived.wait, WAIT_S)
        while limit._backing_off != backing_off:
            await turns(1)
        assert limit.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert limit.in_flight == 0 and limit._backing_off == 0


async def test_an_edit_of_a_later_turn_is_sent_first(desk: Desk) -> None:
    desk.answers = [image_reply(PICTURE)]
    limit = Watched(fixed=1)
    async with limit.slot(later=False):
        asked = [asyncio.create_task(edit(desk, limit, order(str(later), later=later))) for later in (False, True)]
        await until(lambda: limit.queued == 2)
    await asyncio.gather(*asked)
    assert [request.headers["idempotency-key"] for request in desk.seen] == ["True", "False"]

"""The editor seconds of an edit: the time that editors worked on it, without any queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.execution.performer import Performer
from orchestrator.loop import events as ev
from orchestrator.loop.actions import EditJob
from orchestrator.loop.session import Session, fold
from orchestrator.ports.collaborators import Editor, EditorUsage
from orchestrator.ports.stores import Blob
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit
from orchestrator.upstreams.editor import HttpEditor
from orchestrator.upstreams.fallback import EditorWithFallback
from tests.component.orchestrator.desk import Answer, Desk, asking, busy, holding, image_reply, raw_server, stored
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import saved, scene

PICTURE = saved(scene(size=(24, 16)), "PNG")
JOB = EditJob(1, 1, 1, "1/1", "warmer", 7, started=True, allowance_s=None)
WORK_S = 0.3
AT_WORK = pytest.approx(WORK_S, abs=0.2)
"""By the clock of a client that is late to see its body gone, and the answer here."""


class Store:
    """Keeps nothing, and takes its time."""

    def __init__(self, *, get_s: float = 0.0, put_s: float = 0.0) -> None:
        self.get_s, self.put_s = get_s, put_s

    async def get(self, session_id: str, sha256: str) -> bytes:
        await asyncio.sleep(self.get_s)
        return PICTURE

    async def put(self, session_id: str, image: Blob) -> None:
        await asyncio.sleep(self.put_s)


class Now:
    def now(self) -> float:
        return time.time()


def session(*, age_s: float = 0.0, left_s: float = 20.0) -> Session:
    now = time.time()
    limits = ev.Limits(deadline_at=now + left_s)
    source = stored(PICTURE).ref
    turn = ev.TurnStarted(at=now - age_s, turn=1, instruction="warmer", author="caller", candidates=1, first_seed=7)
    return fold(
        [ev.SessionCreated(at=now - age_s, source=source, instruction="x", editor="e", thinker="t", limits=limits), turn],
    )


async def outcome(editor: Editor, *, store: Store | None = None, of: Session | None = None, resumed: bool = False) -> Any:
    performer = Performer({"e": editor}, {}, store or Store(), Now())
    return await performer.perform("ses_1", of or session(), JOB, EditorUsage(), resumed=resumed)


async def charged(desk: Desk, *, kind: str = "edited", attempts: int = 4, **options: Any) -> float:
    """Of one edit at that desk, whose outcome is of that kind."""
    async with asking("editor", desk.url, attempts=attempts) as upstream:
        event = await outcome(HttpEditor(upstream, limit=AdaptiveLimit(), decoder=InProcessPool()), **options)
    assert event.type == kind
    return float(event.editor_seconds)


def working(answer: Callable[[], Response]) -> Callable[[Desk, Request], Awaitable[Response]]:
    """It answers after some work."""

    async def work(desk: Desk, request: Request) -> Response:
        await asyncio.sleep(WORK_S)
        return answer()

    return work


def made(edit_ms: float | None = None, *, replayed: bool = False) -> Response:
    reply = image_reply(PICTURE, timings={} if edit_ms is None else {"edit_ms": edit_ms})
    if replayed:
        reply.headers["idempotent-replayed"] = "true"
    return reply


@pytest.mark.parametrize("status", [429, 503])
async def test_the_wait_for_a_busy_editor_is_not_charged(desk: Desk, status: int) -> None:
    """Neither the rejections nor the pauses between them, if the editor does not report its time."""
    desk.answers = [busy("0.5", status), busy("0.5", status), working(made)]

    assert await charged(desk) == AT_WORK


@pytest.mark.parametrize("status", [429, 503])
async def test_an_edit_that_is_always_rejected_is_not_charged(desk: Desk, status: int) -> None:
    """However often it is requested; the last response leaves no time for another attempt."""
    desk.answers = [*[working(lambda: busy("0.05", status))] * 2, working(lambda: busy("60", status))]

    assert await charged(desk, kind="edit_failed", attempts=3) == 0


@pytest.mark.parametrize("status", [400, 401, 404, 413])
async def test_a_refused_edit_is_not_charged(desk: Desk, status: int) -> None:
    desk.answers = [working(lambda: busy(None, status))]

    assert await charged(desk, kind="edit_failed") == 0


async def test_a_refusal_in_the_middle_of_the_upload_is_not_charged() -> None:
    """The rest of the body may still be in flight when the response is here."""
    reply = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 20\r\n\r\n" + b'{"error": "too big"}'
    async with raw_server(reply, lingering=True) as url, asking("editor", url) as upstream:
        event = await outcome(HttpEditor(upstream, decoder=InProcessPool()), store=Store(get_s=0.3))

    assert (event.code, event.editor_seconds) == ("editor_refused", 0)


@pytest.mark.parametrize("store", [Store(get_s=0.5), Store(put_s=0.5)], ids=["source", "result"])
async def test_a_slow_store_is_not_charged(desk: Desk, store: Store) -> None:
    """Neither loading the source nor storing the result."""
    desk.answers = [working(made)]

    assert await charged(desk, store=store) == AT_WORK


async def test_attempts_add_up(desk: Desk) -> None:
    """A failed one by our clock, the successful one as the editor reports."""
    desk.answers = [working(lambda: busy("0", 500)), working(lambda: made(0))]

    assert await charged(desk) == AT_WORK


@pytest.mark.parametrize("kind", ["edited", "edit_failed"])
async def test_an_editor_that_failed_is_charged_in_addition_to_its_fallback(desk: Desk, kind: str) -> None:
    """Whether or not the second succeeds."""
    second = working(lambda: made(0)) if kind == "edited" else busy("0", 503)
    desk.answers = [working(lambda: busy("0", 500)), second]
    async with asking("editor", desk.url, attempts=1) as upstream:
        first, other = HttpEditor(upstream, decoder=InProcessPool()), HttpEditor(upstream, decoder=InProcessPool())
        event = await outcome(EditorWithFallback(first, other, "second"))

    assert event.type == kind
    assert event.editor_seconds == AT_WORK


async def test_a_replay_is_charged_what_its_edit_took(desk: Desk) -> None:
    """An edit that a dead replica started is returned at once, with its time, which is bounded by the session's age."""
    desk.answers = [made(20_000, replayed=True)]

    assert await charged(desk, resumed=True, of=session(age_s=60)) == 20
    assert 5 <= await charged(desk, resumed=True, of=session(age_s=5)) < 6


async def test_a_replay_covers_the_attempts_before_it(desk: Desk) -> None:
    """The edit continued after its connection broke: its seconds count once."""
    desk.answers = [working(lambda: busy("0", 502)), made(1000, replayed=True)]

    assert await charged(desk, of=session(age_s=60)) == 1


async def test_a_replay_without_times_is_charged_by_the_clock(desk: Desk) -> None:
    desk.answers = [working(lambda: made(replayed=True))]

    assert await charged(desk, of=session(age_s=60)) == AT_WORK


@pytest.mark.parametrize(("told", "expected"), [(50, 0.05), (0, 0), (-7, 0)])
async def test_the_time_that_an_editor_reports_is_charged(desk: Desk, told: float, expected: float) -> None:
    """Also for an invalid image."""
    desk.answers = [working(lambda: made(told)), working(lambda: image_reply(b"no picture", timings={"edit_ms": told}))]

    assert await charged(desk) == expected
    assert await charged(desk, kind="edit_failed") == expected


async def test_no_more_is_charged_than_has_elapsed(desk: Desk) -> None:
    """An editor may report too much."""
    desk.answers = [working(lambda: made(60_000))]

    assert await charged(desk) == AT_WORK


@pytest.mark.parametrize("answer", [working(lambda: busy("0", 500)), working(lambda: Response(b"<html>"))])
async def test_a_failed_edit_is_charged_by_the_clock(desk: Desk, answer: Answer) -> None:
    desk.answers = [answer]

    assert await charged(desk, kind="edit_failed", attempts=1) == AT_WORK


async def test_an_editor_that_took_too_long_is_charged_by_the_clock(desk: Desk) -> None:
    """Including the attempt without a response."""
    desk.answers = [holding]

    assert 0.7 < await charged(desk, kind="edit_failed", of=session(left_s=-0.2)) < 1.5


async def test_the_wait_for_a_slot_is_not_charged(desk: Desk) -> None:
    """Other edits' time is not this one's."""
    desk.answers = [working(made)]
    limit = AdaptiveLimit(fixed=1)
    async with asking("editor", desk.url) as upstream:
        events = await asyncio.gather(*(outcome(HttpEditor(upstream, limit=limit, decoder=InProcessPool())) for _ in range(3)))

    assert [event.editor_seconds for event in events] == [AT_WORK] * 3


async def test_nobody_there_costs_nothing() -> None:
    """A connection that is refused."""
    async with asking("editor", "http://127.0.0.1:1", attempts=1) as upstream:
        assert (await outcome(HttpEditor(upstream, decoder=InProcessPool()))).editor_seconds == 0

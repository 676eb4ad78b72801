"""The editor seconds of an edit: the time that editors worked on it, without any queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
from orchestrator.upstreams.liveness import UpstreamHealth
from tests.component.orchestrator.desk import Answer, Desk, Pace, asking, busy, holding, image_reply, raw_server, stored
from tests.doubles.decoding import InProcessPool
from tests.unit.imaging.pictures import saved, scene

PICTURE = saved(scene(size=(24, 16)), "PNG")
JOB = EditJob(1, 1, 1, "1/1", "warmer", 7, started=True, allowance_s=None)
WORK_S = 3.0


class Store:
    """Keeps nothing."""

    def __init__(self, *, on_get: Callable[[], object] = bool, on_put: Callable[[], object] = bool) -> None:
        self.on_get, self.on_put = on_get, on_put

    async def get(self, session_id: str, sha256: str) -> bytes:
        self.on_get()
        return PICTURE

    async def put(self, session_id: str, image: Blob) -> None:
        self.on_put()


def session(pace: Pace, *, age_s: float = 0.0, left_s: float = 50.0) -> Session:
    now = pace.now()
    limits = ev.Limits(deadline_at=now + left_s)
    source = stored(PICTURE).ref
    turn = ev.TurnStarted(at=now - age_s, turn=1, instruction="warmer", author="caller", candidates=1, first_seed=7)
    return fold(
        [ev.SessionCreated(at=now - age_s, source=source, instruction="x", editor="e", thinker="t", limits=limits), turn],
    )


async def outcome(
    editor: Editor, pace: Pace, *, store: Store | None = None, of: Session | None = None, resumed: bool = False
) -> Any:
    performer = Performer({"e": editor}, {}, store or Store(), pace)
    return await performer.perform("ses_1", of or session(pace), JOB, EditorUsage(), resumed=resumed)


async def charged(
    desk: Desk, pace: Pace, *, kind: str = "edited", attempts: int = 4, health: UpstreamHealth | None = None, **options: Any
) -> float:
    """Of one edit at that desk, whose outcome is of that kind."""
    async with asking("editor", desk.url, health, attempts=attempts) as upstream:
        event = await outcome(HttpEditor(upstream, limit=AdaptiveLimit(), decoder=InProcessPool()), pace, **options)
    assert event.type == kind
    return float(event.editor_seconds)


Work = Callable[[Callable[[], Response]], Answer]


@pytest.fixture
def working(pace: Pace) -> Work:
    """An answer after some work."""

    def after(answer: Callable[[], Response]) -> Answer:
        async def work(desk: Desk, request: Request) -> Response:
            await pace.work(WORK_S)
            return answer()

        return work

    return after


def made(edit_ms: float | None = None, *, replayed: bool = False) -> Response:
    reply = image_reply(PICTURE, timings={} if edit_ms is None else {"edit_ms": edit_ms})
    if replayed:
        reply.headers["idempotent-replayed"] = "true"
    return reply


@pytest.mark.parametrize("status", [429, 503])
async def test_the_wait_for_a_busy_editor_is_not_charged(desk: Desk, pace: Pace, working: Work, status: int) -> None:
    """Neither the rejections nor the pauses between them, if the editor does not report its time."""
    desk.answers = [busy("0", status), busy("0", status), working(made)]

    assert await charged(desk, pace) == WORK_S


@pytest.mark.parametrize("status", [429, 503])
async def test_an_edit_that_is_always_rejected_is_not_charged(desk: Desk, pace: Pace, working: Work, status: int) -> None:
    """However often it is requested; the last response leaves no time for another attempt."""
    desk.answers = [*[working(lambda: busy("0", status))] * 2, working(lambda: busy("60", status))]

    assert await charged(desk, pace, kind="edit_failed", attempts=3) == 0


@pytest.mark.parametrize("status", [400, 401, 404, 413])
async def test_a_refused_edit_is_not_charged(desk: Desk, pace: Pace, working: Work, status: int) -> None:
    desk.answers = [working(lambda: busy(None, status))]

    assert await charged(desk, pace, kind="edit_failed") == 0


async def test_a_refusal_in_the_middle_of_the_upload_is_not_charged(pace: Pace) -> None:
    """The rest of the body may still be in flight when the response is here."""
    reply = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 20\r\n\r\n" + b'{"error": "too big"}'
    store = Store(on_get=lambda: pace.pass_by(1.0))
    async with raw_server(reply, lingering=True) as url, asking("editor", url) as upstream:
        event = await outcome(HttpEditor(upstream, decoder=InProcessPool()), pace, store=store)

    assert (event.code, event.editor_seconds) == ("editor_refused", 0)


@pytest.mark.parametrize("slow", ["on_get", "on_put"], ids=["source", "result"])
async def test_a_slow_store_is_not_charged(desk: Desk, pace: Pace, working: Work, slow: str) -> None:
    """Neither loading the source nor storing the result."""
    desk.answers = [working(made)]
    store = Store(**{slow: lambda: pace.pass_by(5.0)})

    assert await charged(desk, pace, store=store) == WORK_S


async def test_attempts_add_up(desk: Desk, pace: Pace, working: Work) -> None:
    """A failed one by our clock, the successful one as the editor reports."""
    desk.answers = [working(lambda: busy("0", 500)), working(lambda: made(0))]

    assert await charged(desk, pace) == WORK_S


@pytest.mark.parametrize("kind", ["edited", "edit_failed"])
async def test_an_editor_that_failed_is_charged_in_addition_to_its_fallback(
    desk: Desk, pace: Pace, working: Work, kind: str
) -> None:
    """Whether or not the second succeeds."""
    second = working(lambda: made(0)) if kind == "edited" else busy("0", 503)
    desk.answers = [working(lambda: busy("0", 500)), second]
    async with asking("editor", desk.url, attempts=1) as upstream:
        first, other = HttpEditor(upstream, decoder=InProcessPool()), HttpEditor(upstream, decoder=InProcessPool())
        event = await outcome(EditorWithFallback(first, other, "second"), pace)

    assert event.type == kind
    assert event.editor_seconds == WORK_S


async def test_a_replay_is_charged_what_its_edit_took(desk: Desk, pace: Pace) -> None:
    """An edit that a dead replica started is returned at once, with its time, which is bounded by the session's age."""
    desk.answers = [made(20_000, replayed=True)]

    assert await charged(desk, pace, resumed=True, of=session(pace, age_s=60)) == 20
    assert await charged(desk, pace, resumed=True, of=session(pace, age_s=5)) == 5


async def test_a_replay_covers_the_attempts_before_it(desk: Desk, pace: Pace, working: Work) -> None:
    """The edit continued after its connection broke: its seconds count once."""
    desk.answers = [working(lambda: busy("0", 502)), made(1000, replayed=True)]

    assert await charged(desk, pace, of=session(pace, age_s=60)) == 1


async def test_a_replay_without_times_is_charged_by_the_clock(desk: Desk, pace: Pace, working: Work) -> None:
    desk.answers = [working(lambda: made(replayed=True))]

    assert await charged(desk, pace, of=session(pace, age_s=60)) == WORK_S


@pytest.mark.parametrize(("told", "expected"), [(50, 0.05), (0, 0), (-7, 0)])
async def test_the_time_that_an_editor_reports_is_charged(
    desk: Desk, pace: Pace, working: Work, told: float, expected: float
) -> None:
    """Also for an invalid image."""
    desk.answers = [working(lambda: made(told)), working(lambda: image_reply(b"no picture", timings={"edit_ms": told}))]

    assert await charged(desk, pace) == expected
    assert await charged(desk, pace, kind="edit_failed") == expected


async def test_no_more_is_charged_than_has_elapsed(desk: Desk, pace: Pace, working: Work) -> None:
    """An editor may report too much."""
    desk.answers = [working(lambda: made(60_000))]

    assert await charged(desk, pace) == WORK_S


@pytest.mark.parametrize("answer", [lambda: busy("0", 500), lambda: Response(b"<html>")])
async def test_a_failed_edit_is_charged_by_the_clock(
    desk: Desk, pace: Pace, working: Work, answer: Callable[[], Response]
) -> None:
    desk.answers = [working(answer)]

    assert await charged(desk, pace, kind="edit_failed", attempts=1) == WORK_S


async def test_an_editor_that_took_too_long_is_charged_by_the_clock(desk: Desk, pace: Pace) -> None:
    """Including the attempt without a response."""

    async def silent(desk: Desk, request: Request) -> Response:
        await pace.work(100.0)
        return await holding(desk, request)

    desk.answers = [silent]
    # The end of the call comes before that of the request.
    patient = UpstreamHealth(min_s=600.0)

    assert await charged(desk, pace, kind="edit_failed", health=patient) == 100


async def test_the_wait_for_a_slot_is_not_charged(desk: Desk, pace: Pace, working: Work) -> None:
    """Other edits' time is not this one's."""
    desk.answers = [working(made)]
    limit = AdaptiveLimit(fixed=1)
    async with asking("editor", desk.url) as upstream:
        editor = HttpEditor(upstream, limit=limit, decoder=InProcessPool())
        events = await asyncio.gather(*(outcome(editor, pace) for _ in range(3)))

    assert [event.editor_seconds for event in events] == [WORK_S] * 3


async def test_nobody_there_costs_nothing(pace: Pace) -> None:
    """A connection that is refused."""
    async with asking("editor", "http://127.0.0.1:1", attempts=1) as upstream:
        assert (await outcome(HttpEditor(upstream, decoder=InProcessPool()), pace)).editor_seconds == 0

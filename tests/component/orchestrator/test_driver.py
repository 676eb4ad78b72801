"""A driver and its log: what it does when it cannot write, whom it tells what it wrote, what it charges for what it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.execution import driver as module
from orchestrator.execution import performer as performing
from orchestrator.execution.driver import Driver, DriverOptions
from orchestrator.execution.performer import Performer
from orchestrator.execution.spans import SessionSpans
from orchestrator.loop import events as ev
from orchestrator.loop.session import Session, fold
from orchestrator.ports.collaborators import Clock, CritiqueOrder, CritiqueReply, Editor, EditOrder, EditorUsage, EditReply
from orchestrator.ports.collaborators import Thinker as AnyThinker
from orchestrator.ports.errors import AbandonedError, StorageUnavailableError
from orchestrator.ports.stores import Appended, Claim, Recorded
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit
from orchestrator.upstreams.editor import HttpEditor
from orchestrator.upstreams.liveness import UpstreamHealth
from orchestrator.upstreams.thinker import HttpThinker
from services.imaging.codec import digest
from services.serving import tracing
from tests.component.orchestrator.desk import PAUSE_S, WAIT_S, Desk, Pace, asking, busy, holding, stored
from tests.component.orchestrator.test_editor_seconds import PICTURE, Store
from tests.component.orchestrator.test_thinker_client import dialect
from tests.doubles.decoding import InProcessPool
from tests.doubles.images import checked
from tests.doubles.waiting import until
from tests.unit.imaging.pictures import SIGNATURE, chunk

IMAGE = stored(PICTURE).ref
NAME = "ses_" + "0" * 32


class Log:
    """The log of one session; `fate` is asked before each append (from 1) whether it fails before or after it is done."""

    def __init__(
        self, *, left_s: float = 600.0, fate: Callable[[int], str] = lambda _: "done", clock: Clock | None = None
    ) -> None:
        now = (clock or Now()).now()
        limits = ev.Limits(deadline_at=now + left_s)
        created = ev.SessionCreated(at=now, source=IMAGE, instruction="x", editor="e", thinker="t", limits=limits)
        self.entries = [Recorded(1, created)]
        self.fate = fate
        self.appends = 0
        self.queued_again = 0
        self.failed = asyncio.Event()
        self.reads: list[int] = []

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        self.reads.append(len(self.entries) - after)
        return self.entries[after:]

    async def tail(self, session_id: str) -> Recorded | None:
        return self.entries[-1] if self.entries else None

    async def append(self, session_id: str, expected: int, events: Sequence[ev.Event], fence: int | None) -> Appended | None:
        self.appends += 1
        fate = self.fate(self.appends)
        if fate == "refused":
            self.failed.set()
            raise StorageUnavailableError("OOM command not allowed when used memory > 'maxmemory'")
        if fate == "abandoned" and not isinstance(events[-1], ev.Finished):
            raise AbandonedError(session_id)
        if expected != len(self.entries):
            return None
        self.write(events)
        if fate == "lost":
            raise StorageUnavailableError("the answer was lost")
        return "full" if fate == "full" else "ok"

    def write(self, events: Sequence[ev.Event]) -> None:
        self.entries += [Recorded(len(self.entries) + 1 + number, ev.load(ev.dump(event))) for number, event in enumerate(events)]

    async def suspend(self, claim: Claim, expected: int, until: float | None) -> bool:
        assert (expected, until) == (len(self.entries), None)
        self.queued_again += 1
        return True

    @property
    def types(self) -> list[str]:
        return [recorded.event.type for recorded in self.entries]


class Told:
    """An observer that keeps what it is notified of."""

    def __init__(self) -> None:
        self.recordeds: list[Recorded] = []

    def recorded(self, session_id: str, recorded: Recorded, session: Session) -> None:
        assert session.created.editor == "e"
        assert session.finished or recorded.event.type != "finished"
        self.recordeds.append(recorded)

    def forgotten(self, session_id: str, events: int) -> None:
        raise AssertionError


class Now:
    def now(self) -> float:
        return time.time()


class InstantEditor:
    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        return EditReply(checked())

    async def ready(self) -> bool:
        return True


class Thinker:
    async def critique(self, order: CritiqueOrder) -> CritiqueReply:
        return CritiqueReply(9, 9, "", None)

    async def checklist(self, order: Any) -> Any:
        raise AssertionError

    async def ready(self) -> bool:
        return True


def driver(
    log: Log,
    *,
    editor: Editor | None = None,
    thinker: AnyThinker | None = None,
    told: Told | None = None,
    clock: Clock | None = None,
) -> Driver:
    clock = clock or Now()
    performer = Performer({"e": editor or InstantEditor()}, {"t": thinker or Thinker()}, Store(), clock)
    claim = Claim(NAME, 1, "e")
    return Driver(claim, log, performer, clock, told or Told(), list(log.entries), options=DriverOptions(caller_grace_s=0.0))  # type: ignore[arg-type]


WHOLE = ["session_created", "turn_started", "edit_started", "edited", "critiqued", "finished"]


async def test_failed_appends_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails at once, but can be read; after a success the first pause is short again."""
    failures: list[int] = []

    def backoff_s(count: int, **_: float) -> float:
        failures.append(count)
        return 0.0

    monkeypatch.setattr(module, "backoff_s", backoff_s)
    log = Log(fate=lambda number: "refused" if number in {1, 2, 3, 4, 6} else "done")
    await asyncio.wait_for(driver(log).run(), WAIT_S)

    assert log.types == WHOLE
    assert failures == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("end", ["signal", "cancel"])
async def test_a_signal_ends_the_backoff(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """So does a cancellation."""
    monkeypatch.setattr(module, "_INITIAL_BACKOFF_S", 600.0)
    monkeypatch.setattr(module, "_MAX_BACKOFF_S", 600.0)
    log = Log(fate=lambda number: "refused" if number == 1 else "done")
    driving = driver(log)
    running = asyncio.create_task(driving.run())
    await asyncio.wait_for(log.failed.wait(), WAIT_S)
    if end == "signal":
        log.write([ev.CancelRequested(at=1.0)])
        driving.signal()
        await asyncio.wait_for(running, WAIT_S)
        assert log.types == ["session_created", "cancel_requested", "finished"]
    else:
        running.cancel()
        await asyncio.wait({running}, timeout=WAIT_S)
        assert running.cancelled()


class HeldEditor(InstantEditor):
    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
        self.begun.set()
        await self.go_on.wait()
        return await super().edit(order, usage)


async def test_feedback_is_read_and_folded_once() -> None:
    """A hundred times during one edit: each time what is new, not the whole log."""
    log, editor = Log(), HeldEditor()
    driving = driver(log, editor=editor)
    running = asyncio.create_task(driving.run())
    await asyncio.wait_for(editor.begun.wait(), WAIT_S)
    for number in range(100):
        read = len(log.reads)
        log.write([ev.FeedbackGiven(at=1.0, action="go_on", by=f"person {number}")])
        driving.signal()
        await until(lambda read=read: len(log.reads) > read)  # type: ignore[misc]  # bound at once
    assert driving._session.feedback == 100
    assert log.reads == [1] * 100
    editor.go_on.set()
    await asyncio.wait_for(running, WAIT_S)
    assert driving._session == fold(entry.event for entry in log.entries)


async def test_a_tenant_whose_images_are_at_the_quota_stays_there_after_a_callers_event() -> None:
    """What is read of the log then is folded under the same bound: no further turn is started."""
    log, editor = Log(fate=lambda number: "full" if number == 1 else "done"), HeldEditor()
    driving = driver(log, editor=editor)
    running = asyncio.create_task(driving.run())
    await asyncio.wait_for(editor.begun.wait(), WAIT_S)
    log.write([ev.FeedbackGiven(at=1.0, action="instruct", instruction="y")])
    driving.signal()
    await until(lambda: log.reads)
    editor.go_on.set()
    await asyncio.wait_for(running, WAIT_S)

    assert log.types.count("turn_started") == 1


async def test_a_signal_for_what_was_read_reads_nothing() -> None:
    """The log ends where it was read to; only where notifications were lost all of it is read."""
    log, editor = Log(), HeldEditor()
    driving = driver(log, editor=editor)
    running = asyncio.create_task(driving.run())
    await asyncio.wait_for(editor.begun.wait(), WAIT_S)
    driving.signal()
    await until(lambda: log.reads)
    driving.signal(missed=True)
    await until(lambda: len(log.reads) > 1)
    assert log.reads == [0, len(log.entries)]
    editor.go_on.set()
    await asyncio.wait_for(running, WAIT_S)


async def test_an_append_whose_response_was_lost_is_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the observer and the spans, once, in order."""
    spans: list[str] = []
    monkeypatch.setattr(SessionSpans, "recorded", lambda _, event, session: spans.append(event.type))
    log, told = Log(fate=lambda _: "lost"), Told()
    await asyncio.wait_for(driver(log, told=told).run(), WAIT_S)

    assert log.types == WHOLE
    assert told.recordeds == log.entries[1:]
    assert spans == log.types[1:]


async def test_an_edit_that_another_driver_started_is_resumed() -> None:
    """It is made again and marked as repeated; this replica's own attempts are not."""
    log = Log()
    place: dict[str, Any] = {"turn": 1, "candidate": 1}
    log.write(
        [
            ev.TurnStarted(at=2, turn=1, instruction="x", author="caller", candidates=2, first_seed=1),
            ev.EditStarted(at=3, attempt=1, key="k", seed=1, **place),
        ]
    )
    await asyncio.wait_for(driver(log).run(), WAIT_S)
    edited = [recorded.event for recorded in log.entries if isinstance(recorded.event, ev.Edited)]

    assert {event.candidate: event.repeated for event in edited} == {1: True, 2: False}


async def test_a_turn_recorded_by_a_lost_append_has_its_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last turn's, from its start."""
    kept: list[tuple[str, tuple[float, float]]] = []
    monkeypatch.setattr(tracing, "enabled", lambda: True)
    monkeypatch.setattr(tracing, "record", lambda name, times, facts, **_: kept.append((name, times)))
    log = Log(fate=lambda _: "lost")
    await asyncio.wait_for(driver(log).run(), WAIT_S)
    began, ended = log.entries[1].event.at, log.entries[-1].event.at

    assert kept == [("turn", (began, ended)), ("session", (log.entries[0].event.at, ended))]


async def test_only_own_events_are_observed() -> None:
    """Other writers observe their own."""

    def fate(number: int) -> str:
        if number == 2:
            log.write([ev.FeedbackGiven(at=1.0, action="go_on")])
        return "lost"

    log, told = Log(fate=fate), Told()
    await asyncio.wait_for(driver(log, told=told).run(), WAIT_S)

    assert "feedback_given" in log.types
    assert told.recordeds == [recorded for recorded in log.entries[1:] if recorded.event.type != "feedback_given"]


async def driven_to_the_deadline(desk: Desk, pace: Pace, monkeypatch: pytest.MonkeyPatch, left_s: float) -> tuple[Log, Driver]:
    """A session whose edit is under way at its deadline."""
    # The call outlasts the deadline by far, so that it does not end by itself at about that time.
    monkeypatch.setattr(performing, "_GRACE_S", 1_000.0)
    log = Log(left_s=left_s, clock=pace)
    async with asking("editor", desk.url, UpstreamHealth(min_s=1_000.0), timeout_s=10_000.0) as upstream:
        editor = HttpEditor(upstream, limit=AdaptiveLimit(), decoder=InProcessPool())
        driving = driver(log, editor=editor, clock=pace)
        await asyncio.wait_for(driving.run(), 1_000.0)
    return log, driving


async def test_a_rejected_edit_costs_nothing_at_the_deadline(desk: Desk, pace: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but 429 until then: the deadline comes in the second pause."""
    desk.answers = [busy("0"), busy("60")]
    log, driving = await driven_to_the_deadline(desk, pace, monkeypatch, left_s=2 * PAUSE_S)
    assert driving.finished
    (stopped,) = [recorded.event for recorded in log.entries if isinstance(recorded.event, ev.EditFailed)]

    assert len(desk.seen) == 2
    assert (stopped.code, stopped.editor_seconds, driving.finished.totals.editor_seconds) == (ev.SUPERSEDED, 0, 0)


async def test_a_cancelled_edit_is_charged(desk: Desk, pace: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    """From when it was sent, without the rejections before."""

    async def at_work(desk: Desk, request: Request) -> Response:
        await pace.work(100.0)
        return await holding(desk, request)

    desk.answers = [busy("0"), at_work]
    _, driving = await driven_to_the_deadline(desk, pace, monkeypatch, left_s=100.0)
    assert driving.finished

    assert len(desk.seen) == 2
    assert driving.finished.totals.editor_seconds == 100


async def test_a_caller_who_is_heard_of_again_is_not_gone() -> None:
    """After an outage of Redis its lease is renewed a moment later than the driver writes."""
    log = Log(fate=lambda number: "abandoned" if number % 2 else "done")
    await asyncio.wait_for(driver(log).run(), WAIT_S)

    assert log.types == WHOLE


async def test_a_session_whose_caller_is_gone_is_cancelled_with_what_was_made() -> None:
    """The outcome that could not be recorded before is; no edit is started."""
    log = Log(fate=lambda number: "abandoned" if number > 1 else "done")
    driving = driver(log)
    await asyncio.wait_for(driving.run(), WAIT_S)

    assert log.types == ["session_created", "turn_started", "edit_started", "edited", "cancel_requested", "finished"]
    assert driving.finished and driving.finished.best == ev.CandidateRef(turn=1, candidate=1)
    (cancel,) = [recorded.event for recorded in log.entries if isinstance(recorded.event, ev.CancelRequested)]
    assert cancel.by == "disconnect"


async def test_a_driver_that_leaves_records_the_edit_under_way() -> None:
    """Then the session is queued for another replica, before the critique is requested."""
    log, editor = Log(), HeldEditor()
    driving = driver(log, editor=editor)
    running = asyncio.create_task(driving.run())
    await asyncio.wait_for(editor.begun.wait(), WAIT_S)
    driving.leave()
    editor.go_on.set()
    await asyncio.wait_for(running, WAIT_S)

    assert log.types == ["session_created", "turn_started", "edit_started", "edited"]
    assert (log.queued_again, driving.finished) == (1, None)


async def test_a_driver_that_leaves_records_no_intent() -> None:
    """The next driver would take the edit for a repeat."""
    log = Log()
    driving = driver(log)
    driving.leave()
    await asyncio.wait_for(driving.run(), WAIT_S)

    assert log.types == ["session_created", "turn_started"]
    assert log.queued_again == 1


async def test_a_driver_that_leaves_between_intent_and_record_drops_the_intent() -> None:
    """The append that was to record it failed."""

    def fate(number: int) -> str:
        driving.leave()
        return "refused" if number == 1 else "done"

    log = Log(fate=fate)
    driving = driver(log)
    await asyncio.wait_for(driving.run(), WAIT_S)

    assert log.types == ["session_created", "turn_started"]
    assert log.queued_again == 1


BROKEN = SIGNATURE + b"".join(
    [
        chunk(b"IHDR", (64).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])),
        chunk(b"IDAT", b"garbage!" * 20),
        chunk(b"IEND", b""),
    ]
)


async def test_an_image_that_cannot_be_decoded_stays_unscored(desk: Desk) -> None:
    """Its header and checksums are valid; only the thinker's client decodes its pixels."""

    class Careless(InstantEditor):
        async def edit(self, order: EditOrder, usage: EditorUsage) -> EditReply:
            return EditReply(checked(BROKEN, 64, 64))

    class Broken(Store):
        async def get(self, session_id: str, sha256: str) -> bytes:
            return BROKEN if sha256 == digest(BROKEN) else PICTURE

    log = Log()
    async with asking("thinker", desk.url) as upstream:
        performer = Performer(
            {"e": Careless()}, {"t": HttpThinker(upstream, dialect(max_pixels=1000), decoder=InProcessPool())}, Broken(), Now()
        )
        driving = Driver(Claim(NAME, 1, "e"), log, performer, Now(), Told(), list(log.entries))  # type: ignore[arg-type]
        await asyncio.wait_for(driving.run(), WAIT_S)
    failures = [recorded.event for recorded in log.entries if isinstance(recorded.event, ev.CritiqueFailed)]

    assert desk.seen == []
    assert driving.finished and driving.finished.reason == "plateau"
    assert {(failure.code, failure.retryable) for failure in failures} == {("invalid_image", False)}
    assert all("cannot be decoded" in failure.message for failure in failures)

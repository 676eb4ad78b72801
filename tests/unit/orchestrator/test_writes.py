"""What callers write: decided from the session as it is recorded, of which only what is new is read again."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from orchestrator.api.context import Context
from orchestrator.loop import events as ev
from orchestrator.loop.session import Session, SessionBounds, fold
from orchestrator.ports.stores import Appended, Recorded

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
CREATED = ev.SessionCreated(at=1.0, source=IMAGE, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=600))


def feedback(by: str) -> ev.Event:
    return ev.FeedbackGiven(at=2.0, action="go_on", by=by)


class Log:
    """The log of one session, to which others write before each append but the last."""

    def __init__(self, *others: Sequence[ev.Event]) -> None:
        self.events: list[ev.Event] = [CREATED]
        self.others = [list(other) for other in others]
        self.reads: list[int] = []

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        found = [Recorded(seq, event) for seq, event in enumerate(self.events, 1)][after:]
        self.reads.append(len(found))
        return found

    async def append(self, session_id: str, expected: int, events: Sequence[ev.Event], fence: int | None) -> Appended | None:
        if self.others:
            self.events = self.others.pop(0)
        if expected != len(self.events):
            return None
        self.events += events
        return "ok"


async def write(log: Log) -> list[Session]:
    """The sessions from which a writer decided."""
    seen: list[Session] = []

    def event(session: Session) -> ev.Event:
        seen.append(session)
        return feedback("caller")

    ctx: Any = SimpleNamespace(history=log, sessions=log, bounds=SessionBounds(), tenant="default")
    session, seq = await Context.write(ctx, "s", event)
    assert (session, seq) == (fold(log.events), len(log.events))
    return seen


async def test_a_writer_reads_what_others_wrote_in_between() -> None:
    """And the last event that it knew, not the whole log."""
    some = [CREATED, *(feedback(f"person {number}") for number in range(9))]
    log = Log(some, [*some, feedback("another")])
    seen = await write(log)

    assert log.reads == [1, 10, 2]
    assert [session.feedback for session in seen] == [0, 9, 10]


async def test_a_writer_starts_again_where_another_redis_has_another_log() -> None:
    """Also where that has grown past what was read, or is shorter."""
    known, other = [CREATED, feedback("lost"), feedback("lost too")], [CREATED, *(feedback("another") for _ in range(4))]
    log = Log(known, other, [CREATED])
    seen = await write(log)

    assert [session.feedback for session in seen] == [0, 2, 4, 0]

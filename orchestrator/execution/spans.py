"""A session's trace: spans of this replica's work, and, once recorded, of each turn and of the whole session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final

from opentelemetry.trace import Span

from orchestrator.loop import events as ev
from orchestrator.loop.actions import ChecklistJob, CompareJob, Job, PrepareJob, kind_of
from orchestrator.loop.session import Session
from services.serving import logs, tracing

_FAILURES: Final = (
    *(ev.EditFailed, ev.CritiqueFailed, ev.ChecklistFailed, ev.VerifyFailed, ev.CompareFailed, ev.RefineFailed),
    ev.PrepareFailed,
)


class SessionSpans:
    """The spans of one session that this replica drives. Without a traces endpoint it only binds ids to logs.

    Args:
        session_id: the session.
        events: its log so far.
    """

    def __init__(self, session_id: str, events: Iterable[ev.Event]) -> None:
        self._id = session_id
        self._root = tracing.session_context(session_id)
        self._turns: list[tuple[int, float]] = []
        """Turns and their start times."""
        self.learn(events)

    def learn(self, events: Iterable[ev.Event]) -> None:
        """Take the turns from the log, which other replicas may have written."""
        if tracing.enabled():
            self._turns = [(event.turn, event.at) for event in events if isinstance(event, ev.TurnStarted)]

    def driving(self, session: Session) -> AbstractContextManager[Span]:
        """The span of this replica's share of the session."""
        logs.bind(session_id=self._id, tenant=session.created.tenant)
        return tracing.span("drive", attributes=self._attributes(), parent=self._root)

    def recorded(self, event: ev.Event, session: Session) -> None:
        """This replica recorded an event; `session` includes it."""
        if not tracing.enabled():
            return
        if isinstance(event, ev.TurnStarted | ev.Finished) and self._turns:
            number, began = self._turns[-1]
            attributes = {**self._attributes(), "editthinker.turn": number}
            tracing.record("turn", (began, event.at), attributes, ids=tracing.turn_context(self._id, number), parent=self._root)
        if isinstance(event, ev.TurnStarted):
            self._turns.append((event.turn, event.at))
        if isinstance(event, ev.Finished):
            totals = event.totals
            attributes = {
                **self._attributes(),
                "editthinker.finish_reason": event.reason,
                "editthinker.tenant": session.created.tenant,
            }
            attributes |= {"editthinker.turns": totals.turns, "editthinker.editor_seconds": totals.editor_seconds}
            tracing.record("session", (session.created.at, event.at), attributes, ids=self._root)

    async def job(self, job: Job, work: Callable[[], Awaitable[ev.Event]]) -> ev.Event:
        """Run a job in a span; its parent is the turn's span, or the session's for a job of no turn."""
        if not isinstance(job, ChecklistJob | CompareJob | PrepareJob):
            logs.bind(turn=job.turn, candidate=job.candidate)
        if not tracing.enabled():
            return await work()
        attributes = self._attributes()
        if isinstance(job, ChecklistJob | CompareJob | PrepareJob):
            name, parent = kind_of(job), self._root
        else:
            name, parent = kind_of(job), tracing.turn_context(self._id, job.turn)
            attributes |= {"editthinker.turn": job.turn, "editthinker.candidate": job.candidate}
        with tracing.span(name, attributes=attributes | {"editthinker.attempt": job.attempt}, parent=parent) as span:
            event = await work()
            if isinstance(event, _FAILURES):
                tracing.fail(span, event.code, event.message)
            elif isinstance(event, ev.Critiqued | ev.Verified):
                span.set_attributes({"editthinker.score.semantic": event.semantic, "editthinker.score.quality": event.quality})
            elif isinstance(event, ev.Edited):
                span.set_attributes({"editthinker.editor_seconds": event.editor_seconds, "editthinker.repeated": event.repeated})
            return event

    def _attributes(self) -> dict[str, tracing.Value]:
        return {"editthinker.session_id": self._id}

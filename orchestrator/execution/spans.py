"""A session's spans: what this replica did for it, and, when it is recorded, that a turn or the whole session is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final

from opentelemetry.trace import Span

from orchestrator.execution.performer import Job
from orchestrator.loop import events as ev
from orchestrator.loop.policy import ChecklistJob, EditJob
from orchestrator.loop.session import Session
from services.serving import logs, tracing

_FAILURES: Final = (ev.EditFailed, ev.CritiqueFailed, ev.ChecklistFailed)


class SessionSpans:
    """Those of one session in this replica's hands; without an endpoint for traces it only gives logs their ids.

    Args:
        session_id: whose.
        events: what was recorded so far.
    """

    def __init__(self, session_id: str, events: Iterable[ev.Event]) -> None:
        self._id = session_id
        self._root = tracing.session_context(session_id)
        self._turns: list[tuple[int, float]] = []
        """Turns and when they began."""
        self.learn(events)

    def learn(self, events: Iterable[ev.Event]) -> None:
        """What is recorded, whoever did it."""
        if tracing.enabled():
            self._turns = [(event.turn, event.at) for event in events if isinstance(event, ev.TurnStarted)]

    def driving(self, session: Session) -> AbstractContextManager[Span]:
        """The span of this replica's part."""
        logs.bind(session_id=self._id, tenant=session.created.tenant)
        return tracing.span("drive", attributes=self._facts(), parent=self._root)

    def recorded(self, event: ev.Event, session: Session) -> None:
        """This replica recorded an event; `session` is as it is since."""
        if not tracing.enabled():
            return
        if isinstance(event, ev.TurnStarted | ev.Finished) and self._turns:
            number, began = self._turns[-1]
            facts = {**self._facts(), "editthinker.turn": number}
            tracing.record("turn", (began, event.at), facts, ids=tracing.turn_context(self._id, number), parent=self._root)
        if isinstance(event, ev.TurnStarted):
            self._turns.append((event.turn, event.at))
        if isinstance(event, ev.Finished):
            totals = event.totals
            facts = {**self._facts(), "editthinker.finish_reason": event.reason, "editthinker.tenant": session.created.tenant}
            facts |= {"editthinker.turns": totals.turns, "editthinker.editor_seconds": totals.editor_seconds}
            tracing.record("session", (session.created.at, event.at), facts, ids=self._root)

    async def job(self, job: Job, work: Callable[[], Awaitable[ev.Event]]) -> ev.Event:
        """Do a job within its span: below its turn's, a checklist below the session's."""
        facts = self._facts()
        if isinstance(job, ChecklistJob):
            name, above = "checklist", self._root
        else:
            logs.bind(turn=job.turn, candidate=job.candidate)
            name, above = ("edit" if isinstance(job, EditJob) else "critique"), tracing.turn_context(self._id, job.turn)
            facts |= {"editthinker.turn": job.turn, "editthinker.candidate": job.candidate}
        with tracing.span(name, attributes=facts | {"editthinker.attempt": job.attempt}, parent=above) as span:
            event = await work()
            if isinstance(event, _FAILURES):
                tracing.fail(span, event.code, event.message)
            elif isinstance(event, ev.Critiqued):
                span.set_attributes({"editthinker.score.semantic": event.semantic, "editthinker.score.quality": event.quality})
            elif isinstance(event, ev.Edited):
                span.set_attributes({"editthinker.editor_seconds": event.editor_seconds, "editthinker.repeated": event.repeated})
            return event

    def _facts(self) -> dict[str, tracing.Value]:
        return {"editthinker.session_id": self._id}

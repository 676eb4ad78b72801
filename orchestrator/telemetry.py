"""What the loop does, as logs and Prometheus metrics; the loop itself knows of neither."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter, Histogram

from orchestrator.loop.events import (
    SUPERSEDED,
    ChecklistFailed,
    ChecklistMade,
    Critiqued,
    CritiqueFailed,
    Edited,
    EditFailed,
    Finished,
)
from orchestrator.ports import Recorded

log = logging.getLogger("orchestrator.session")
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)


class Telemetry:
    """`orchestrator.ports.Hooks`: counts what was recorded, and logs it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter("editthinker_events_total", "Events recorded.", ["type"], registry=registry)
        self._finished = Counter("editthinker_sessions_finished_total", "Sessions finished.", ["reason"], registry=registry)
        self._failures = Counter(
            "editthinker_failures_total", "Edits and critiques that failed.", ["role", "code"], registry=registry
        )
        self._edit = Histogram("editthinker_edit_seconds", "Time of an edit.", registry=registry, buckets=_SECONDS)
        self._critique = Histogram("editthinker_critique_seconds", "Time of a critique.", registry=registry, buckets=_SECONDS)
        self._tokens = Counter("editthinker_thinker_tokens_total", "Tokens that thinkers counted.", ["kind"], registry=registry)
        self._replies = Counter(
            "editthinker_thinker_replies_total",
            "Thinkers' replies, by what could be read.",
            ["outcome"],
            registry=registry,
        )
        self._turns = Histogram(
            "editthinker_session_turns", "Turns of a finished session.", registry=registry, buckets=(1, 2, 3, 4, 5, 8, 12, 20)
        )

    def recorded(self, session_id: str, recorded: Recorded) -> None:
        """An event was recorded by this replica."""
        event = recorded.event
        self._events.labels(event.type).inc()
        match event:
            case Edited():
                self._edit.observe(event.editor_seconds)
            case Critiqued():
                self._critique.observe(event.thinker_seconds)
                self._count_tokens(event)
            case ChecklistMade():
                self._count_tokens(event)
            case EditFailed() if event.code != SUPERSEDED:
                self._failures.labels("editor", event.code).inc()
            case CritiqueFailed() | ChecklistFailed():
                self._failures.labels("thinker", event.code).inc()
            case Finished():
                self._finished.labels(event.reason).inc()
                self._turns.observe(event.totals.turns)
        level = logging.WARNING if isinstance(event, EditFailed | CritiqueFailed | ChecklistFailed) else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "%s %d %s", session_id, recorded.seq, event.model_dump_json())

    def replied(self, outcome: str) -> None:
        """A thinker's reply was read as such: ``ok``, ``unconstrained`` (usable, but not what was enforced), or why it is not."""
        self._replies.labels(outcome).inc()

    def _count_tokens(self, event: Critiqued | ChecklistMade) -> None:
        # Those that were computed before are part of the prompt's.
        counts = {"prompt": event.prompt_tokens, "cached": event.cached_tokens, "completion": event.completion_tokens}
        for kind, count in counts.items():
            self._tokens.labels(kind).inc(count)

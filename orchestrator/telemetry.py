"""What the loop does, as logs and Prometheus metrics; the loop itself knows of neither."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orchestrator.drive.gate import Gate
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
        self._registry = registry
        self._waiting = Gauge("editthinker_sessions_waiting", "Sessions in line.", ["editor"], registry=registry)
        self._unfinished = Gauge("editthinker_sessions_unfinished", "Sessions that are not finished.", registry=registry)
        self._replicas = Gauge("editthinker_replicas", "Orchestrators that live.", registry=registry)
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
        self._repeated = Counter(
            "editthinker_editor_seconds_repeated_total", "Editor seconds spent again, after a replica died.", registry=registry
        )
        self._recovered = Counter("editthinker_sessions_recovered_total", "Sessions taken from dead replicas.", registry=registry)
        self._strayed = Counter(
            "editthinker_sessions_strayed_total", "Sessions owned without being driven, put back.", registry=registry
        )
        self._forgotten = Counter(
            "editthinker_events_forgotten_total", "Events that Redis lost, restored from an older file.", registry=registry
        )
        self._turns = Histogram(
            "editthinker_session_turns", "Turns of a finished session.", registry=registry, buckets=(1, 2, 3, 4, 5, 8, 12, 20)
        )

    def watch(self, gates: Mapping[str, Gate], driving: Callable[[], int]) -> None:
        """Show how busy this replica is, whenever somebody looks."""
        gauge = Gauge("editthinker_sessions_driving", "Sessions in this replica's hands.", registry=self._registry)
        gauge.set_function(driving)
        figures: dict[str, tuple[str, Callable[[Gate], int]]] = {
            "limit": ("Edits that may be in flight.", lambda gate: gate.limit),
            "in_flight": ("Edits in flight.", lambda gate: gate.in_flight),
            "waiting": ("Edits of sessions in this replica's hands that wait for a place.", lambda gate: gate.waiting),
        }
        for name, (text, read) in figures.items():
            gauge = Gauge(f"editthinker_edits_{name}", text, ["editor"], registry=self._registry)
            for editor, gate in gates.items():
                gauge.labels(editor).set_function(partial(read, gate))

    def standing(self, waiting: Mapping[str, int], unfinished: int, replicas: int) -> None:
        """What Redis says there is to do, the same on every replica."""
        for editor, count in waiting.items():
            self._waiting.labels(editor).set(count)
        self._unfinished.set(unfinished)
        self._replicas.set(replicas)

    def recorded(self, session_id: str, recorded: Recorded) -> None:
        """An event was recorded by this replica."""
        event = recorded.event
        self._events.labels(event.type).inc()
        match event:
            case Edited():
                self._edit.observe(event.editor_seconds)
                if event.repeated:
                    self._repeated.inc(event.editor_seconds)
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

    def forgotten(self, session_id: str, events: int) -> None:
        """Redis came back without events that it had recorded."""
        self._forgotten.inc(events)
        log.error("Redis forgot %d events of session %s; what they tell of is done again", events, session_id)

    def recovered(self, sessions: int) -> None:
        """Sessions of dead replicas went back into line."""
        self._recovered.inc(sessions)

    def strayed(self, sessions: int) -> None:
        """Sessions that this replica owned without driving them went back into line."""
        self._strayed.inc(sessions)

    def replied(self, outcome: str) -> None:
        """A thinker's reply was read as such: ``ok``, ``unconstrained`` (usable, but not what was enforced), or why it is not."""
        self._replies.labels(outcome).inc()

    def _count_tokens(self, event: Critiqued | ChecklistMade) -> None:
        # Those that were computed before are part of the prompt's.
        counts = {"prompt": event.prompt_tokens, "cached": event.cached_tokens, "completion": event.completion_tokens}
        for kind, count in counts.items():
            self._tokens.labels(kind).inc(count)

"""What the loop does, as logs and Prometheus metrics; the loop itself knows of neither."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from orchestrator.loop.events import (
    SUPERSEDED,
    ChecklistFailed,
    ChecklistMade,
    Critiqued,
    CritiqueFailed,
    Edited,
    EditFailed,
    Event,
    Finished,
    FinishReason,
    TurnStarted,
)
from orchestrator.loop.session import Session
from orchestrator.ports import Recorded
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit

log = logging.getLogger("orchestrator.session")
_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
_LONG: Final = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1800, 3600, 14_400, 86_400)
_STAGES: Final = ("read", "queue", "encode", "denoise", "decode", "edit", "write", "total")
"""Of an edit, as workers of ours tell them; what else an editor may tell is its own, and not a label for anybody to choose."""
_OUTCOMES: Final = ("useful", "repeated", "failed", "superseded")
_FACTS: Final = ("turn", "candidate", "attempt", "code", "semantic", "quality", "editor_seconds", "thinker_seconds", "reason")


_GATES: Final = {
    "limit": "Edits that may be in flight.",
    "in_flight": "Edits in flight.",
    "waiting": "Edits of sessions in this replica's hands that wait for a place.",
}
_FIGURES: Final[Mapping[str, Callable[[AdaptiveLimit], int]]] = {
    "limit": lambda gate: gate.limit,
    "in_flight": lambda gate: gate.in_flight,
    "waiting": lambda gate: gate.waiting,
}


class Metrics:
    """`orchestrator.ports.SessionObserver`: counts what was recorded, and logs it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._at_gate = {
            name: Gauge(f"editthinker_edits_{name}", text, ["editor"], registry=registry) for name, text in _GATES.items()
        }
        ProcessCollector(registry=registry)
        self._standing()
        self._sessions()
        self._edits()
        self._critiques()

    def _counter(self, name: str, text: str, labels: Mapping[str, tuple[str, ...]] | None = None) -> Counter:
        """A counter whose series are there from the start where it has one label, so that what never happened is 0."""
        counter = Counter(f"editthinker_{name}", text, list(labels or {}), registry=self._registry)
        for values in (labels or {}).values():
            for value in values if len(labels or {}) == 1 else ():
                counter.labels(value)
        return counter

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: Mapping[str, tuple[str, ...]] | None = None
    ) -> Histogram:
        histogram = Histogram(f"editthinker_{name}", text, list(labels or {}), registry=self._registry, buckets=buckets)
        for values in (labels or {}).values():
            for value in values:
                histogram.labels(value)
        return histogram

    def _standing(self) -> None:
        registry = self._registry
        self._waiting = Gauge("editthinker_sessions_waiting", "Sessions in line.", ["editor"], registry=registry)
        self._unfinished = Gauge("editthinker_sessions_unfinished", "Sessions that are not finished.", registry=registry)
        self._replicas = Gauge("editthinker_replicas", "Orchestrators that live.", registry=registry)
        self._redis = Gauge("editthinker_redis_up", "Whether Redis answered when it was last asked.", registry=registry)

    def _sessions(self) -> None:
        reasons: tuple[str, ...] = get_args(FinishReason)
        types = tuple(str(kind.model_fields["type"].default) for kind in get_args(get_args(Event)[0]))
        self._events = self._counter("events_total", "Events recorded.", {"type": types})
        self._finished = self._counter("sessions_finished_total", "Sessions finished.", {"reason": reasons})
        self._took = self._histogram("session_seconds", "Time from a session's creation to its end.", _LONG, {"reason": reasons})
        self._in_line = self._histogram("session_line_seconds", "Time from a session's creation to its first turn.", _LONG)
        self._turns = self._histogram("session_turns", "Turns of a finished session.", (1, 2, 3, 4, 5, 8, 12, 20))
        tenths = tuple(float(score) for score in range(1, 11))
        aspects = {"aspect": ("semantic", "quality")}
        self._scores = self._histogram("answer_score", "Scores of the pictures that sessions ended with.", tenths, aspects)
        self._recovered = self._counter("sessions_recovered_total", "Sessions taken from dead replicas.")
        self._strayed = self._counter("sessions_strayed_total", "Sessions owned without being driven, put back.")
        self._forgotten = self._counter("events_forgotten_total", "Events that Redis lost, restored from an older file.")
        outcomes = {"outcome": ("delivered", "retried", "failed", "disabled")}
        self._webhooks = self._counter("webhook_deliveries_total", "Attempts at webhooks, by what became of them.", outcomes)

    def _edits(self) -> None:
        self._failures = self._counter("failures_total", "Edits and critiques that failed.", {"role": (), "code": ()})
        self._edit = self._histogram("edit_seconds", "Time of an edit at the editor.", _SECONDS)
        stages = {"stage": _STAGES}
        self._stages = self._histogram("edit_stage_seconds", "Time of each stage of an edit, as told.", _SECONDS, stages)
        self._editor = self._counter(
            "editor_seconds_total", "Time of editors, by what it was spent for.", {"editor": (), "outcome": ()}
        )

    def _critiques(self) -> None:
        self._critique = self._histogram("critique_seconds", "Time of a critique.", _SECONDS)
        self._thinker = self._counter("thinker_seconds_total", "Time of thinkers.", {"thinker": ()})
        kinds = {"kind": ("prompt", "cached", "completion")}
        self._tokens = self._counter("thinker_tokens_total", "Tokens that thinkers counted.", kinds)
        self._replies = self._counter("thinker_replies_total", "Thinkers' replies, by what could be read.", {"outcome": ("ok",)})

    def watch(self, driving: Callable[[], int]) -> None:
        """Show how many sessions this replica drives, whenever somebody looks."""
        gauge = Gauge("editthinker_sessions_driving", "Sessions in this replica's hands.", registry=self._registry)
        gauge.set_function(driving)

    def watch_gate(self, editor: str, gate: AdaptiveLimit) -> None:
        """Show how busy an editor is; in place of a gate that it had before."""
        for name, read in _FIGURES.items():
            self._at_gate[name].labels(editor).set_function(partial(read, gate))
        self._waiting.labels(editor)
        for outcome in _OUTCOMES:
            self._editor.labels(editor, outcome)

    def standing(self, waiting: Mapping[str, int], unfinished: int, replicas: int) -> None:
        """What Redis says there is to do, the same on every replica."""
        for editor, count in waiting.items():
            self._waiting.labels(editor).set(count)
        self._unfinished.set(unfinished)
        self._replicas.set(replicas)
        self._redis.set(1)

    def away(self) -> None:
        """Redis could not be asked: the last figures stand."""
        self._redis.set(0)

    def recorded(self, session_id: str, recorded: Recorded, session: Session) -> None:
        """An event was recorded by this replica."""
        event = recorded.event
        self._events.labels(event.type).inc()
        created = session.created
        match event:
            case TurnStarted(turn=1):
                self._in_line.observe(max(0.0, event.at - created.at))
            case Edited():
                self._count_edit(event, event.editor or created.editor)
            case EditFailed():
                self._count_edit(event, created.editor)
            case Critiqued():
                self._critique.observe(event.thinker_seconds)
                self._count_thinker(event, event.thinker or created.thinker)
            case ChecklistMade():
                self._count_thinker(event, created.thinker)
            case CritiqueFailed() | ChecklistFailed():
                self._failures.labels("thinker", event.code).inc()
                self._thinker.labels(created.thinker).inc(event.thinker_seconds)
            case Finished():
                self._count_end(event, session)
        self._log(session_id, recorded, session)

    def _log(self, session_id: str, recorded: Recorded, session: Session) -> None:
        """Failures and ends are told; all the rest to who asks for it."""
        event = recorded.event
        failed = event if isinstance(event, EditFailed | CritiqueFailed | ChecklistFailed) else None
        level = logging.WARNING if failed else logging.INFO if isinstance(event, Finished) else logging.DEBUG
        if not log.isEnabledFor(level):
            return
        facts: dict[str, Any] = {name: getattr(event, name) for name in _FACTS if hasattr(event, name)}
        facts |= {"session_id": session_id, "tenant": session.created.tenant, "seq": recorded.seq}
        if isinstance(event, Finished):
            facts |= {"seconds": round(event.at - session.created.at, 3), "turns": event.totals.turns}
            facts |= {"error": event.error.code} if event.error else {}
        if failed:
            facts |= {"failure": failed.message}
        if log.isEnabledFor(logging.DEBUG):
            facts |= {"data": event.model_dump(mode="json")}
        log.log(level, event.type, extra=facts)

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

    def webhook_delivered(self, outcome: str) -> None:
        """An attempt at a webhook came to this."""
        self._webhooks.labels(outcome).inc()

    def _count_edit(self, event: Edited | EditFailed, editor: str) -> None:
        if isinstance(event, Edited):
            self._edit.observe(event.editor_seconds)
            for stage in _STAGES:
                told = event.timings.get(f"{stage}_ms")
                if told is not None:
                    self._stages.labels(stage).observe(max(0.0, told / 1000))
            outcome = "repeated" if event.repeated else "useful"
        elif event.code == SUPERSEDED:
            outcome = "superseded"
        else:
            self._failures.labels("editor", event.code).inc()
            outcome = "failed"
        self._editor.labels(editor, outcome).inc(event.editor_seconds)

    def _count_thinker(self, event: Critiqued | ChecklistMade, thinker: str) -> None:
        self._thinker.labels(thinker).inc(event.thinker_seconds)
        # Those that were computed before are part of the prompt's.
        counts = {"prompt": event.prompt_tokens, "cached": event.cached_tokens, "completion": event.completion_tokens}
        for kind, count in counts.items():
            self._tokens.labels(kind).inc(count)

    def _count_end(self, event: Finished, session: Session) -> None:
        self._finished.labels(event.reason).inc()
        self._turns.observe(event.totals.turns)
        self._took.labels(event.reason).observe(max(0.0, event.at - session.created.at))
        best = session.candidate(event.best) if event.best else None
        if best is not None and best.scores is not None:
            self._scores.labels("semantic").observe(best.scores.semantic)
            self._scores.labels("quality").observe(best.scores.quality)

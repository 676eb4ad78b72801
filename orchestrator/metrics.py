"""Observes sessions, upstreams, webhooks and the fleet: records them as Prometheus metrics, and events as logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client.registry import Collector

from orchestrator.loop.events import (
    SUPERSEDED,
    ChecklistFailed,
    ChecklistMade,
    Compared,
    CompareFailed,
    Critiqued,
    CritiqueFailed,
    Edited,
    EditFailed,
    Event,
    Finished,
    FinishReason,
    Prepared,
    PrepareFailed,
    PreviewCritiqued,
    PreviewFailed,
    Refined,
    RefineFailed,
    SessionCreated,
    TurnStarted,
    Verified,
    VerifyFailed,
)
from orchestrator.loop.session import ModelEvent, Session
from orchestrator.ports.collaborators import CheckResult
from orchestrator.ports.stores import Recorded
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit
from services.imaging.decode_pool import DecodePool
from services.serving.byte_budget import ByteBudget

log = logging.getLogger("orchestrator.session")
_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
_LONG_BUCKETS_S: Final = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1800, 3600, 14_400, 86_400)
_STAGES: Final = ("read", "queue", "encode", "denoise", "decode", "edit", "write", "total")
"""Stages that our editor worker reports. Others that an editor may report are ignored: they would be unbounded label values."""
_SIGNED: Final = ("signed", "failed", "unsigned")
_KEPT: Final = ("kept", "dropped")
_OUTCOMES: Final = ("useful", "repeated", "failed", "superseded")
_FAILED: Final = (
    *(EditFailed, CritiqueFailed, ChecklistFailed, VerifyFailed, CompareFailed, RefineFailed, PrepareFailed, PreviewFailed),
)
_LOGGED: Final = ("turn", "candidate", "attempt", "code", "semantic", "quality", "editor_seconds", "thinker_seconds", "reason")
_EDITS: Final[Mapping[str, tuple[str, Callable[[AdaptiveLimit], int]]]] = {
    "limit": ("Edits that may be in flight.", lambda limit: limit.limit),
    "in_flight": ("Edits in flight.", lambda limit: limit.in_flight),
    "queued": ("Edits of sessions that this replica drives that are queued for a slot.", lambda limit: limit.queued),
}


class _DeprecatedNames(Collector):
    """Exports renamed metrics under their old names as well, for one release."""

    def __init__(self, renamed: Mapping[str, Collector]) -> None:
        self._renamed = renamed

    def collect(self) -> Iterable[Metric]:
        """The families of the renamed metrics, under the old names."""
        for old, metric in self._renamed.items():
            for family in metric.collect():
                alias = Metric(old, f"Deprecated: use {family.name}.", family.type)
                alias.samples = [sample._replace(name=sample.name.replace(family.name, old)) for sample in family.samples]
                yield alias


class Metrics:
    """`orchestrator.ports.stores.SessionObserver`, and the observer of upstreams, webhooks and the fleet."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        self._add_http_metrics()
        self._add_redis_metrics()
        self._add_session_metrics()
        self._add_edit_metrics()
        self._add_critique_metrics()
        renamed = {
            "editthinker_sessions_waiting": self._queued,
            "editthinker_edits_waiting": self._edits["queued"],
            "editthinker_session_line_seconds": self._queue_seconds,
            "editthinker_sessions_strayed": self._orphaned,
        }
        registry.register(_DeprecatedNames(renamed))

    def _counter(self, name: str, text: str, labels: Mapping[str, tuple[str, ...]] | None = None) -> Counter:
        """A counter. With a single label, all its series exist from the start, so that what has not happened yet is 0."""
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

    def _add_http_metrics(self) -> None:
        registry = self._registry
        self._silent = Gauge(
            "editthinker_upstream_silent", "Whether an upstream has stopped answering.", ["role", "name"], registry=registry
        )
        self._unanswered = self._counter(
            "upstream_unanswered_total", "Requests that an upstream did not answer.", {"role": (), "name": ()}
        )
        self._held = Gauge("editthinker_held_bytes", "Bytes of requests or replies in flight.", ["kind"], registry=registry)
        self._refused_for_bytes = Gauge(
            "editthinker_held_bytes_refusals", "Requests refused because too many bytes were held.", ["kind"], registry=registry
        )

    def _add_redis_metrics(self) -> None:
        registry = self._registry
        self._queued = Gauge("editthinker_sessions_queued", "Queued sessions.", ["editor"], registry=registry)
        self._unfinished = Gauge("editthinker_sessions_unfinished", "Unfinished sessions.", registry=registry)
        self._replicas = Gauge("editthinker_replicas", "Live orchestrator replicas.", registry=registry)
        self._redis = Gauge("editthinker_redis_up", "Whether Redis responded at the last scrape.", registry=registry)

        self._skew = Gauge("editthinker_clock_skew_seconds", "This machine's clock minus that of Redis.", registry=registry)
        self._writable = Gauge(
            "editthinker_storage_writable", "Whether the store accepted a write when last tried.", ["store"], registry=registry
        )
        self._redis_percent = Gauge(
            "editthinker_redis_memory_percent", "Percent of Redis' maxmemory in use; 0 without a limit.", registry=registry
        )
        self._signed = self._counter(
            "pictures_signed_total", "Attempts to sign a served picture, and pictures served unsigned.", {"outcome": _SIGNED}
        )
        self._digests = self._counter("digests_total", "Digests of pictures made, for /v1/provenance.", {"outcome": _KEPT})
        codes = {"code": ("overloaded", "quota_exceeded", "rate_limited", "storage_unavailable")}
        self._refused = self._counter("sessions_refused_total", "Requests for a session that were refused, by error code.", codes)

    def _add_session_metrics(self) -> None:
        reasons: tuple[str, ...] = get_args(FinishReason)
        types = tuple(str(kind.model_fields["type"].default) for kind in get_args(get_args(Event)[0]))
        self._events = self._counter("events_total", "Events recorded.", {"type": types})
        self._finished = self._counter("sessions_finished_total", "Sessions finished.", {"reason": reasons})
        self._took = self._histogram(
            "session_seconds", "Time from a session's creation to its end.", _LONG_BUCKETS_S, {"reason": reasons}
        )
        self._queue_seconds = self._histogram(
            "session_queue_seconds", "Time from a session's creation to its first turn.", _LONG_BUCKETS_S
        )
        self._turns = self._histogram("session_turns", "Turns of a finished session.", (1, 2, 3, 4, 5, 8, 12, 20))
        tenths = tuple(float(score) for score in range(1, 11))
        aspects = {"aspect": ("semantic", "quality")}
        self._scores = self._histogram("answer_score", "Scores of the images that sessions returned.", tenths, aspects)
        self._recovered = self._counter("sessions_recovered_total", "Sessions of dead replicas, queued again.")
        self._orphaned = self._counter("sessions_orphaned_total", "Sessions owned without being driven, queued again.")
        codes = {"code": ("driver_crashed", "session_unreadable")}
        self._quarantined = self._counter("sessions_quarantined_total", "Sessions that could not be driven, by error.", codes)
        self._forgotten = self._counter(
            "events_forgotten_total", "Recorded events that Redis lost when it was restored from an older snapshot."
        )
        self._decodes = self._counter("decodes_total", "Pictures decoded, by outcome.", {"operation": (), "outcome": ()})
        outcomes = {"outcome": ("delivered", "retried", "failed", "disabled")}
        self._webhooks = self._counter("webhook_deliveries_total", "Webhook delivery attempts, by outcome.", outcomes)

    def _add_edit_metrics(self) -> None:
        self._edits = {
            name: Gauge(f"editthinker_edits_{name}", text, ["editor"], registry=self._registry)
            for name, (text, _) in _EDITS.items()
        }
        self._failures = self._counter("failures_total", "Edits and critiques that failed.", {"role": (), "code": ()})
        self._edit = self._histogram("edit_seconds", "Editor time of an edit.", _BUCKETS_S)
        stages = {"stage": _STAGES}
        self._stages = self._histogram(
            "edit_stage_seconds", "Time of each stage of an edit, as reported by the editor.", _BUCKETS_S, stages
        )
        self._editor = self._counter("editor_seconds_total", "Editor time, by outcome.", {"editor": (), "outcome": ()})

    def _add_critique_metrics(self) -> None:
        self._critique = self._histogram("critique_seconds", "Time of a critique or a comparison.", _BUCKETS_S)
        self._thinker = self._counter("thinker_seconds_total", "Time of thinkers and judges.", {"thinker": ()})
        kinds = {"kind": ("prompt", "cached", "completion")}
        self._tokens = self._counter("thinker_tokens_total", "Tokens that thinkers and judges reported.", kinds)
        self._replies = self._counter(
            "thinker_replies_total", "Replies of thinkers and judges, by how they could be parsed.", {"outcome": ("ok",)}
        )

        registry = self._registry
        self._judge_passed = Gauge(
            "editthinker_judge_check_passed", "Whether a judge tells a good edit from none.", ["judge"], registry=registry
        )
        self._judge_margin = Gauge(
            "editthinker_judge_check_margin",
            "Points by which a judge scored a good edit above another case.",
            ["judge", "case"],
            registry=registry,
        )
        self._judge_preference = Gauge(
            "editthinker_judge_check_preference",
            "Whether a judge preferred a good edit to another case (1), neither (0), or the other (-1).",
            ["judge", "case"],
            registry=registry,
        )

    def judge_checked(self, judge: str, result: CheckResult) -> None:
        """A judge answered all questions of its check."""
        self._judge_passed.labels(judge).set(int(not result.failed))
        for case, margin in (result.margins or {}).items():
            self._judge_margin.labels(judge, case).set(margin)
        for case, preference in (result.preferences or {}).items():
            self._judge_preference.labels(judge, case).set(preference)

    def watch_decoder(self, decoder: DecodePool) -> None:
        """Export how many pictures wait to be decoded and are being decoded, read at each scrape."""
        queued = Gauge("editthinker_decodes_queued", "Pictures that wait to be decoded.", registry=self._registry)
        queued.set_function(lambda: decoder.queued)
        running = Gauge("editthinker_decodes_running", "Pictures that are being decoded.", registry=self._registry)
        running.set_function(lambda: decoder.running)

    def watch(self, driving: Callable[[], int]) -> None:
        """Export how many sessions this replica drives, read at each scrape."""
        gauge = Gauge("editthinker_sessions_driving", "Sessions that this replica drives.", registry=self._registry)
        gauge.set_function(driving)

    def watch_bytes(self, kind: Literal["uploads", "replies"], budget: ByteBudget) -> None:
        """Export the bytes that requests hold, and how many requests were refused for them."""
        self._held.labels(kind).set_function(lambda: budget.used)
        self._refused_for_bytes.labels(kind).set_function(lambda: budget.refused)

    def watch_limit(self, editor: str, limit: AdaptiveLimit) -> None:
        """Export the state of an editor's limit, in place of one it had before."""
        for name, (_, read) in _EDITS.items():
            self._edits[name].labels(editor).set_function(partial(read, limit))
        self._queued.labels(editor)
        for outcome in _OUTCOMES:
            self._editor.labels(editor, outcome)

    def upstream_silent(self, role: Literal["editor", "thinker", "judge"], name: str, silent: bool) -> None:  # noqa: FBT001 - a value
        """Whether an upstream has stopped answering."""
        self._silent.labels(role, name).set(int(silent))
        self._unanswered.labels(role, name)

    def request_unanswered(self, role: Literal["editor", "thinker", "judge"], name: str) -> None:
        """An upstream did not answer a request."""
        self._unanswered.labels(role, name).inc()

    def redis_read(self, queued: Mapping[str, int], unfinished: int, replicas: int) -> None:
        """Redis responded with the size of the queues; every replica exports the same."""
        for editor, count in queued.items():
            self._queued.labels(editor).set(count)
        self._unfinished.set(unfinished)
        self._replicas.set(replicas)
        self._redis.set(1)

    def redis_unavailable(self) -> None:
        """Redis did not respond; the last values remain."""
        self._redis.set(0)

    def storage_checked(self, writable: Mapping[str, bool], redis_percent: float | None) -> None:
        """Whether each store accepts writes; None if Redis did not report its memory."""
        for store, accepts in writable.items():
            self._writable.labels(store).set(int(accepts))
        if redis_percent is not None:
            self._redis_percent.set(redis_percent)

    def clock_measured(self, skew_s: float) -> None:
        """This machine's clock differs by so many seconds from that of Redis."""
        self._skew.set(skew_s)

    def watch_subscription(self, connected: Callable[[], bool]) -> None:
        """Export whether the subscription to Redis is connected, read at each scrape."""
        gauge = Gauge("editthinker_subscription_up", "Whether Redis answers on the subscription.", registry=self._registry)
        gauge.set_function(connected)

    def signed(self, outcome: str) -> None:
        """A picture was signed, could not be, or was served unsigned for that."""
        self._signed.labels(outcome).inc()

    def digested(self, outcome: str) -> None:
        """The digests of a picture were kept, or dropped."""
        self._digests.labels(outcome).inc()

    def refused(self, code: str) -> None:
        """A request for a session was refused, with that code of the error table."""
        self._refused.labels(code).inc()

    def recorded(self, session_id: str, recorded: Recorded, session: Session) -> None:
        """This replica recorded an event."""
        event = recorded.event
        self._events.labels(event.type).inc()
        created = session.created
        match event:
            case TurnStarted(turn=1):
                # What preparing the instruction took is no wait.
                self._queue_seconds.observe(max(0.0, event.at - created.at - session.preparation.thinker_seconds))
            case Edited():
                self._count_edit(event, event.editor or created.editor)
            case EditFailed():
                self._count_edit(event, created.editor)
            case Critiqued() | Verified() | Compared() | PreviewCritiqued():
                self._critique.observe(event.thinker_seconds)
                self._count_thinker(event, event.thinker or _asked(event, created)[1])
            case Prepared():
                self._count_thinker(event, event.thinker or _asked(event, created)[1])
            case ChecklistMade() | Refined():
                self._count_thinker(event, _asked(event, created)[1])
            case (CritiqueFailed() | ChecklistFailed() | VerifyFailed() | CompareFailed()) | (
                RefineFailed() | PrepareFailed() | PreviewFailed()
            ):
                role, name = _asked(event, created)
                self._failures.labels(role, event.code).inc()
                self._thinker.labels(name).inc(event.thinker_seconds)
            case Finished():
                self._count_end(event, session)
        self._log(session_id, recorded, session)

    def _log(self, session_id: str, recorded: Recorded, session: Session) -> None:
        """Log failures as warnings, ends as info, and everything else at the debug level."""
        event = recorded.event
        failed = event if isinstance(event, _FAILED) else None
        level = logging.WARNING if failed else logging.INFO if isinstance(event, Finished) else logging.DEBUG
        if not log.isEnabledFor(level):
            return
        fields: dict[str, Any] = {name: getattr(event, name) for name in _LOGGED if hasattr(event, name)}
        fields |= {"session_id": session_id, "tenant": session.created.tenant, "seq": recorded.seq}
        if isinstance(event, Finished):
            fields |= {"seconds": round(event.at - session.created.at, 3), "turns": event.totals.turns}
            fields |= {"error": event.error.code} if event.error else {}
        if failed:
            fields |= {"failure": failed.message}
        if log.isEnabledFor(logging.DEBUG):
            fields |= {"data": event.model_dump(mode="json")}
        log.log(level, event.type, extra=fields)

    def forgotten(self, session_id: str, events: int) -> None:
        """Redis lost recorded events: it was restored from an older snapshot."""
        self._forgotten.inc(events)
        log.error("Redis lost %d events of session %s; their work will be done again", events, session_id)

    def recovered(self, sessions: int) -> None:
        """Sessions of dead replicas were queued again."""
        self._recovered.inc(sessions)

    def orphaned(self, sessions: int) -> None:
        """Sessions that this replica owned without driving them were queued again."""
        self._orphaned.inc(sessions)

    def quarantined(self, session_id: str, code: str) -> None:
        """A session that cannot be driven was finished, with that error."""
        self._quarantined.labels(code).inc()
        log.error("session %s cannot be driven and was finished: %s", session_id, code)

    def thinker_replied(self, outcome: str) -> None:
        """A thinker's reply was parsed: ``ok``, ``unconstrained`` (usable, outside the constraint), or the kind of failure."""
        self._replies.labels(outcome).inc()

    def decoded(self, operation: str, outcome: str) -> None:
        """A job of the decode pool ended: ``ok``, ``cancelled``, or the code of its error."""
        self._decodes.labels(operation, outcome).inc()

    def webhook_delivered(self, outcome: str) -> None:
        """A webhook delivery was attempted."""
        self._webhooks.labels(outcome).inc()

    def _count_edit(self, event: Edited | EditFailed, editor: str) -> None:
        if isinstance(event, Edited):
            self._edit.observe(event.editor_seconds)
            for stage in _STAGES:
                stage_ms = event.timings.get(f"{stage}_ms")
                if stage_ms is not None:
                    self._stages.labels(stage).observe(max(0.0, stage_ms / 1000))
            outcome = "repeated" if event.repeated else "useful"
        elif event.code == SUPERSEDED:
            outcome = "superseded"
        else:
            self._failures.labels("editor", event.code).inc()
            outcome = "failed"
        self._editor.labels(editor, outcome).inc(event.editor_seconds)

    def _count_thinker(self, event: ModelEvent, thinker: str) -> None:
        self._thinker.labels(thinker).inc(event.thinker_seconds)
        # Cached tokens are part of the prompt's.
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


def _asked(event: Event, created: SessionCreated) -> tuple[str, str]:
    """Who was asked for the outcome of a job: the role and the name."""
    if isinstance(event, Refined | RefineFailed):
        return "thinker", created.thinker
    if isinstance(event, Prepared | PrepareFailed):
        return "thinker", created.preparer or created.thinker
    name = created.comparer if isinstance(event, Compared | CompareFailed) else created.scorer
    return ("thinker" if name == created.thinker else "judge"), name

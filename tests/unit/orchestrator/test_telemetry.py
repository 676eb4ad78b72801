"""What is counted of a session, and that every metric is documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.loop import events as ev
from orchestrator.loop.session import fold
from orchestrator.metrics import Metrics
from orchestrator.ports.stores import Recorded
from orchestrator.upstreams.adaptive_limit import AdaptiveLimit

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=1, height=1)
CREATED = ev.SessionCreated(
    at=100, source=IMAGE, instruction="x", editor="e", thinker="t", limits=ev.Limits(deadline_at=900, candidates=4)
)
BEST = ev.CandidateRef(turn=1, candidate=1)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def telemetry(registry: CollectorRegistry) -> Metrics:
    made = Metrics(registry)
    made.watch(lambda: 2)
    made.watch_limit("e", AdaptiveLimit(fixed=3))
    return made


def candidate(number: int, outcome: str) -> list[ev.Event]:
    """The events of an edit with that outcome, of as many seconds as its number."""
    place: dict[str, Any] = {"turn": 1, "candidate": number}
    begun = ev.EditStarted(at=110, attempt=1, key="k", seed=1, **place)
    if outcome in {"useful", "repeated"}:
        timings = {"queue_ms": 250.0, "edit_ms": 1000.0, "anything_ms": 9.0}
        return [
            begun,
            ev.Edited(at=112, image=IMAGE, editor_seconds=number, timings=timings, repeated=outcome == "repeated", **place),
        ]
    code = ev.SUPERSEDED if outcome == "superseded" else "editor_failed"
    failed = ev.EditFailed(at=112, attempt=1, code=code, message="", retryable=False, editor_seconds=number, **place)
    return [begun, failed]


def record(telemetry: Metrics, events: list[ev.Event]) -> None:
    for seq in range(2, len(events) + 1):
        telemetry.recorded("ses_1", Recorded(seq, events[seq - 1]), fold(events[:seq]))


def story() -> list[ev.Event]:
    outcomes = ("useful", "repeated", "superseded", "failed")
    edits = [event for number, outcome in enumerate(outcomes, 1) for event in candidate(number, outcome)]
    judged = ev.Critiqued(
        at=115, turn=1, candidate=1, semantic=8, quality=9.5, reasoning="", instruction=None, thinker_seconds=2, prompt_tokens=7
    )
    return [
        CREATED,
        ev.TurnStarted(at=104, turn=1, instruction="x", author="caller", candidates=4, first_seed=1),
        *edits,
        judged,
        ev.Finished(at=130, reason="satisfied", best=BEST, results=(BEST,), totals=ev.Totals(turns=1, edits=4)),
    ]


def test_editor_seconds_are_counted_by_outcome(telemetry: Metrics, registry: CollectorRegistry) -> None:
    """Useful, repeated, superseded, failed; all but the first are waste."""
    record(telemetry, story())
    spent = {
        outcome: registry.get_sample_value("editthinker_editor_seconds_total", {"editor": "e", "outcome": outcome})
        for outcome in ("useful", "repeated", "superseded", "failed")
    }
    assert spent == {"useful": 1, "repeated": 2, "superseded": 3, "failed": 4}
    failures = {"role": "editor", "code": "editor_failed"}
    assert registry.get_sample_value("editthinker_failures_total", failures) == 1
    assert registry.get_sample_value("editthinker_failures_total", {"role": "editor", "code": ev.SUPERSEDED}) is None


def test_an_edit_of_the_fallback_is_its_own(telemetry: Metrics, registry: CollectorRegistry) -> None:
    """Not the first editor's, which made nothing."""
    (begun, edited) = candidate(1, "useful")
    assert isinstance(edited, ev.Edited)
    record(telemetry, [*story()[:2], begun, edited.model_copy(update={"editor": "second"})])
    value = registry.get_sample_value

    assert value("editthinker_editor_seconds_total", {"editor": "second", "outcome": "useful"}) == 1
    assert value("editthinker_editor_seconds_total", {"editor": "e", "outcome": "useful"}) == 0


def test_times_scores_and_stages_of_a_session(telemetry: Metrics, registry: CollectorRegistry) -> None:
    """Creation to first turn, creation to end, scores of the answer; known stages only."""
    record(telemetry, story())
    value = registry.get_sample_value

    assert value("editthinker_session_queue_seconds_sum") == 4
    assert value("editthinker_session_seconds_sum", {"reason": "satisfied"}) == 30
    assert value("editthinker_answer_score_sum", {"aspect": "semantic"}) == 8
    assert value("editthinker_answer_score_sum", {"aspect": "quality"}) == 9.5
    assert value("editthinker_edit_stage_seconds_sum", {"stage": "queue"}) == 0.5
    assert value("editthinker_edit_stage_seconds_sum", {"stage": "anything"}) is None
    assert value("editthinker_thinker_seconds_total", {"thinker": "t"}) == 2
    assert value("editthinker_sessions_finished_total", {"reason": "satisfied"}) == 1


def test_a_session_without_an_answer_has_no_scores(telemetry: Metrics, registry: CollectorRegistry) -> None:
    """A failed one does not count as one that scored nothing."""
    record(telemetry, [CREATED, ev.Finished(at=101, reason="failed", best=None, totals=ev.Totals())])

    assert registry.get_sample_value("editthinker_answer_score_count", {"aspect": "semantic"}) == 0
    assert registry.get_sample_value("editthinker_session_queue_seconds_count") == 0


def test_what_never_happened_is_zero(telemetry: Metrics, registry: CollectorRegistry) -> None:
    """Rates and ratios need both ends of a counter."""
    value = registry.get_sample_value

    assert value("editthinker_sessions_finished_total", {"reason": "failed"}) == 0
    assert value("editthinker_events_total", {"type": "turn_started"}) == 0
    assert value("editthinker_sessions_queued", {"editor": "e"}) == 0
    assert value("editthinker_webhook_deliveries_total", {"outcome": "delivered"}) == 0
    telemetry.webhook_delivered("retried")
    assert value("editthinker_webhook_deliveries_total", {"outcome": "retried"}) == 1


def test_redis_up_is_0_while_redis_does_not_respond(telemetry: Metrics, registry: CollectorRegistry) -> None:
    """The last values remain."""
    telemetry.redis_read({"e": 4}, 9, 2)
    assert registry.get_sample_value("editthinker_redis_up") == 1
    telemetry.redis_unavailable()
    assert registry.get_sample_value("editthinker_redis_up") == 0
    assert registry.get_sample_value("editthinker_sessions_queued", {"editor": "e"}) == 4


def test_renamed_metrics_keep_their_old_names(telemetry: Metrics, registry: CollectorRegistry) -> None:
    """For one release, with the same values."""
    record(telemetry, story())
    telemetry.redis_read({"e": 4}, 9, 2)
    telemetry.orphaned(3)
    value = registry.get_sample_value

    assert value("editthinker_sessions_waiting", {"editor": "e"}) == value("editthinker_sessions_queued", {"editor": "e"}) == 4
    assert value("editthinker_edits_waiting", {"editor": "e"}) == value("editthinker_edits_queued", {"editor": "e"}) == 0
    assert value("editthinker_session_line_seconds_sum") == value("editthinker_session_queue_seconds_sum") == 4
    assert value("editthinker_session_line_seconds_bucket", {"le": "5.0"}) == 1
    assert value("editthinker_sessions_strayed_total") == value("editthinker_sessions_orphaned_total") == 3
    told = {family.name: family.documentation for family in registry.collect()}
    assert told["editthinker_sessions_waiting"] == "Deprecated: use editthinker_sessions_queued."


def test_every_metric_is_documented(telemetry: Metrics, registry: CollectorRegistry) -> None:
    """By its name without the prefix, in the page on operations."""
    text = (Path(__file__).parents[3] / "docs/operations.md").read_text("utf-8")
    names = [family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()]
    ours = [name.removeprefix("editthinker_") for name in names if name.startswith("editthinker_")]

    assert len(ours) > 25
    assert [name for name in ours if f"`{name}`" not in text] == []

"""When a delivery is attempted again, and what each attempt makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from orchestrator.loop.session import fold
from orchestrator.ports.stores import Recorded
from orchestrator.webhooks.model import TOPICS, Attempt, Delivery, Endpoint, Outcome

RETRY_DELAYS_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds between two attempts, as the Standard Webhooks specification suggests: ten attempts in three days."""
JITTER: Final = 0.1
MAX_RETRY_AFTER_S: Final = 86_400.0
"""The most that a receiver's Retry-After is honoured."""


def deliveries_of(
    session_id: str, log: Sequence[Recorded], seq: int, endpoints: Sequence[Endpoint], now: float
) -> list[Delivery]:
    """The deliveries of a session's event `seq`, one for each endpoint that subscribes to it."""
    known = [recorded for recorded in log if recorded.seq <= seq]
    topic = TOPICS.get(known[-1].event.type) if known and known[-1].seq == seq else None
    if topic is None:
        return []
    session = fold(recorded.event for recorded in known)
    reason = session.finished.reason if session.finished else None
    data: dict[str, Any] = {"id": session_id, "status": session.status, "finish_reason": reason}
    if session.created.metadata:
        data["metadata"] = session.created.metadata
    body = event_body(topic, known[-1].event.at, data, event_id(session_id, seq))
    return [
        Delivery(
            id=delivery_id(session_id, seq, endpoint.id),
            tenant=session.created.tenant,
            session_id=session_id,
            seq=seq,
            webhook=endpoint.id,
            type=topic,
            body=body,
            next_at=now,
            host=endpoint.host,
        )
        for endpoint in endpoints
        if topic in endpoint.events and endpoint.disabled_at is None
    ]


def event_body(topic: str, at: float, data: Mapping[str, Any], identity: str) -> str:
    """The JSON of a thin event: what happened to which session; receivers read the rest from the API.

    It has the fields of the Standard Webhooks specification (type, timestamp, data) and of OpenAI's events.
    """
    timestamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = {"id": identity, "object": "event", "created_at": int(at)}
    return orjson.dumps({**head, "type": topic, "timestamp": timestamp, "data": data}).decode()


def event_id(session_id: str, seq: int) -> str:
    """The id of an event, the same for all endpoints."""
    return "evt_" + hashlib.sha256(f"{session_id}/{seq}".encode()).hexdigest()[:32]


def delivery_id(session_id: str, seq: int, endpoint_id: str) -> str:
    """The id of a delivery, the same whichever replica schedules it."""
    return "msg_" + hashlib.sha256(f"{session_id}/{seq}/{endpoint_id}".encode()).hexdigest()[:32]


def retry_delay_s(attempts: int, *, scale: float, jitter: float, retry_after_s: float | None = None) -> float | None:
    """Seconds from a failed attempt to the next; None when there is none.

    Args:
        attempts: how many were made.
        scale: of the schedule; 1 but for tests.
        jitter: from 0 to 1.
        retry_after_s: what the receiver asked for; it makes a delay longer, never shorter.
    """
    if attempts > len(RETRY_DELAYS_S):
        return None
    scheduled = RETRY_DELAYS_S[attempts - 1] * scale * (1 + JITTER * jitter)
    return max(scheduled, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))


def after_attempt(delivery: Delivery, attempt: Attempt, *, scale: float, jitter: float) -> tuple[Delivery, Outcome]:
    """The delivery after an attempt, and the attempt's outcome."""
    attempts = (*delivery.attempts, attempt)
    if attempt.delivered:
        return delivery.model_copy(update={"attempts": attempts, "state": "delivered", "next_at": None}), "delivered"
    delay = None
    if not attempt.gone:
        delay = retry_delay_s(len(attempts), scale=scale, jitter=jitter, retry_after_s=attempt.retry_after_s)
    if delay is None:
        failed = delivery.model_copy(update={"attempts": attempts, "state": "failed", "next_at": None})
        return failed, "disabled" if attempt.gone else "failed"
    due = attempt.at + attempt.duration_s + delay
    return delivery.model_copy(update={"attempts": attempts, "next_at": due}), "retried"

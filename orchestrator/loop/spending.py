"""What a session may still spend: editor seconds, edits, turns, bytes and time."""

from __future__ import annotations

from typing import Final

from orchestrator.loop.session import Session

_MIN_ALLOWANCE_S: Final = 0.05
"""Remaining editor seconds below which no edit is started."""


def latest_start(session: Session, edit_s: float) -> float:
    """The latest time (Unix seconds) to start an edit of about `edit_s` seconds so that it meets the deadline. While half of the
    session's time is left, an edit is always started, since estimates may be wrong.
    """
    ends = session.created.limits.deadline_at
    return ends - min(edit_s, (ends - session.created.at) / 2)


def budget_is_spent(session: Session) -> bool:
    """Whether no further edit may be started."""
    limits, totals = session.created.limits, session.totals
    no_edits = limits.budget_edits is not None and totals.edits >= limits.budget_edits
    seconds = _seconds_left(session)
    return no_edits or (seconds is not None and seconds < _MIN_ALLOWANCE_S) or images_are_full(session)


def turns_are_used_up(session: Session) -> bool:
    """Whether the session has as many turns as the server allows, those after feedback included."""
    return session.bounds.turns is not None and len(session.turns) >= session.bounds.turns


def log_is_full(session: Session) -> bool:
    """Whether the session's events take as many bytes as the server allows."""
    return session.bounds.log_bytes is not None and session.log_bytes >= session.bounds.log_bytes


def images_are_full(session: Session) -> bool:
    """Whether the session's images take as many bytes as the server allows."""
    return session.bounds.image_bytes is not None and session.image_bytes >= session.bounds.image_bytes


def _seconds_left(session: Session) -> float | None:
    """Editor seconds neither spent nor reserved for a running edit; None is no limit."""
    budget = session.created.limits.budget_editor_s
    if budget is None:
        return None
    reserved = sum(candidate.allowance_s or 0.0 for candidate in session.candidates if candidate.editing)
    return budget - session.totals.editor_seconds - reserved


def affordable(session: Session, edits: int) -> tuple[int, float | None]:
    """How many of so many edits may be started, and the editor seconds that are reserved for each (None: no limit)."""
    limits = session.created.limits
    if limits.budget_edits is not None:
        edits = min(edits, limits.budget_edits - session.totals.edits)
    left = _seconds_left(session)
    allowance = None if left is None else left / max(edits, 1)
    if (allowance is not None and allowance < _MIN_ALLOWANCE_S) or images_are_full(session):
        return 0, allowance
    return edits, allowance

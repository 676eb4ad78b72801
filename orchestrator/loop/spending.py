"""What a session may still spend: editor seconds, edits, turns, bytes and time."""

from __future__ import annotations

from typing import Final

from orchestrator.loop.session import Session

_MIN_ALLOWANCE_S: Final = 0.05
"""Remaining editor seconds below which no edit is started."""
_KEPT_FROM_DRAFTS: Final = 0.5
"""The share of a budget of editor seconds that drafts leave for the edit in full. A draft takes about an eighth of its time."""


def latest_start(session: Session, edit_s: float, *, draft: bool = False) -> float:
    """The latest time (Unix seconds) to start an edit of about `edit_s` seconds so that it meets the deadline, and of a draft so
    that an edit in full can follow. While half of the session's time is left, an edit is always started, since estimates may be
    wrong.
    """
    ends = session.created.limits.deadline_at
    edit_s = 2 * edit_s if draft else edit_s
    return ends - min(edit_s, (ends - session.created.at) / 2)


def budget_is_spent(session: Session) -> bool:
    """Whether no further edit may be started."""
    limits, totals = session.created.limits, session.totals
    no_edits = limits.budget_edits is not None and totals.edits >= limits.budget_edits
    seconds = _seconds_left(session)
    return no_edits or (seconds is not None and seconds < _MIN_ALLOWANCE_S) or images_are_full(session)


def drafts_are_spent(session: Session) -> bool:
    """Whether no further draft may be started: what is left is kept for an edit in full."""
    limits = session.created.limits
    no_edits = limits.budget_edits is not None and session.totals.edits >= limits.budget_edits - 1
    seconds = _seconds_left(session, drafts=True)
    return no_edits or (seconds is not None and seconds < _MIN_ALLOWANCE_S) or images_are_full(session)


def turns_are_used_up(session: Session, *, kept: int = 0) -> bool:
    """Whether the session has as many turns as the server allows, those after feedback and `kept` further ones included."""
    return session.bounds.turns is not None and len(session.turns) + kept >= session.bounds.turns


def log_is_full(session: Session) -> bool:
    """Whether the session's events take as many bytes as the server allows."""
    return session.bounds.log_bytes is not None and session.log_bytes >= session.bounds.log_bytes


def images_are_full(session: Session) -> bool:
    """Whether the session's images take as many bytes as the server allows."""
    return session.bounds.image_bytes is not None and session.image_bytes >= session.bounds.image_bytes


def _seconds_left(session: Session, *, drafts: bool = False) -> float | None:
    """Editor seconds, or those for drafts, neither spent nor reserved for a running edit; None is no limit."""
    budget = session.created.limits.budget_editor_s
    if budget is None:
        return None
    budget -= _KEPT_FROM_DRAFTS * budget if drafts else 0.0
    reserved = sum(candidate.allowance_s or 0.0 for candidate in session.candidates if candidate.editing)
    return budget - session.totals.editor_seconds - reserved


def affordable(session: Session, edits: int) -> tuple[int, float | None]:
    """How many of so many edits may be started, and the editor seconds that are reserved for each (None: no limit)."""
    limits = session.created.limits
    drafts = session.turn is not None and session.turn.draft
    if limits.budget_edits is not None:
        edits = max(0, min(edits, limits.budget_edits - session.totals.edits - drafts))
    left = _seconds_left(session, drafts=drafts)
    allowance = None if left is None else left / max(edits, 1)
    if (allowance is not None and allowance < _MIN_ALLOWANCE_S) or images_are_full(session):
        return 0, allowance
    return edits, allowance

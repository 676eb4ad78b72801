"""When a session ends by itself: satisfied, or out of turns, patience or budget."""

from __future__ import annotations

from orchestrator.loop.choosing import meets, rank
from orchestrator.loop.events import FinishReason
from orchestrator.loop.session import Session
from orchestrator.loop.spending import budget_is_spent, log_is_full, turns_are_used_up


def satisfied(session: Session) -> bool:
    """Whether a candidate since the last feedback meets both thresholds, and enough candidates were made."""
    fresh = any(meets(session, candidate) for turn in session.turns[session.floor :] for candidate in turn.candidates)
    return fresh and enough_made(session)


def exhausted(session: Session) -> FinishReason | None:
    """Why no further turn is started; None if one is."""
    limits = session.created.limits
    if len(session.turns) - session.floor >= limits.max_turns or turns_are_used_up(session):
        return "max_turns"
    if session.created.strategy != "best_of_n" and stale_turns(session) >= limits.patience and enough_made(session):
        return "plateau"
    return "budget" if budget_is_spent(session) or log_is_full(session) else None


def stale_turns(session: Session) -> int:
    """Turns since the last one with a better candidate, counted from the last feedback."""
    stale, record = 0, rank(session, None)
    for turn in session.turns:
        top = max((rank(session, candidate) for candidate in turn.candidates), default=record)
        stale = 0 if top > record else stale + 1
        record = max(record, top)
        if turn.number == session.floor:
            stale = 0
    return stale


def nothing_can_be_made(session: Session) -> bool:
    """Whether no turn has made an image, after every edit of this one has failed for good."""
    return not any(candidate.image for candidate in session.candidates)


def enough_made(session: Session) -> bool:
    """Whether there are as many images as results were asked for."""
    return sum(1 for candidate in session.candidates if candidate.image) >= session.created.results

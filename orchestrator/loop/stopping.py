"""When a session ends by itself: satisfied, or out of turns, patience or budget."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from orchestrator.loop.actions import VerifyJob
from orchestrator.loop.choosing import contenders, is_measured, lack, meets, noise, rank, verification
from orchestrator.loop.events import FinishReason
from orchestrator.loop.preparing import counted_turns
from orchestrator.loop.session import Candidate, Session
from orchestrator.loop.spending import budget_is_spent, drafts_are_spent, log_is_full, turns_are_used_up

_CERTAIN: Final = 1.15
"""Standard errors by which a score exceeds its threshold for certain (decision 0163)."""

_BETTER: Final = 1.5
"""Deviations of one score by which a candidate exceeds the record so that its turn was not in vain (decision 0163)."""


def satisfied(session: Session) -> bool:
    """Whether a candidate since the last feedback certainly meets both thresholds, and enough candidates were made."""
    return any(is_certain(session, candidate) for candidate in _fresh(session)) and enough_made(session)


def is_certain(session: Session, candidate: Candidate) -> bool:
    """Whether both scores exceed their thresholds by a margin for the judge's noise, which further critiques narrow."""
    return _exceeds(session, candidate, len(candidate.critiques))


def confirmations(session: Session) -> Iterator[VerifyJob]:
    """A further critique of the best candidate that may turn out to satisfy for certain. While the judge's noise is not measured,
    that is every one that seems to.
    """
    choosing = session.created.choosing
    most = 1 + choosing.confirmations if choosing else 1
    measured = is_measured(session)
    promising = [
        candidate
        for candidate in _fresh(session)
        if (_exceeds(session, candidate, most) if measured else meets(session, candidate))
        and not is_certain(session, candidate)
        and verification(session, candidate)
    ]
    if promising and not satisfied(session):
        job = verification(session, max(promising, key=lambda candidate: rank(session, candidate)))
        assert job is not None
        yield job


def _exceeds(session: Session, candidate: Candidate, critiques: int) -> bool:
    """Whether its scores would be certain to reach the thresholds if they were means of so many critiques."""
    scores, limits = candidate.scores, session.created.limits
    if scores is None:
        return False
    margin = _CERTAIN * noise(session) / math.sqrt(critiques)
    return scores.semantic >= limits.semantic_threshold + margin and scores.quality >= limits.quality_threshold + margin


def _fresh(session: Session) -> list[Candidate]:
    return [candidate for candidate in contenders(session) if candidate.turn > session.floor]


def exhausted(session: Session) -> FinishReason | None:
    """Why no further turn is started; None if one is."""
    limits, drafts = session.created.limits, session.created.draft
    if counted_turns(session) >= limits.max_turns or turns_are_used_up(session, kept=drafts):
        return "max_turns"
    if session.created.strategy != "best_of_n" and stale_turns(session) >= patience(session) and enough_made(session):
        return "plateau"
    spent = drafts_are_spent(session) if drafts else budget_is_spent(session)
    return "budget" if spent or log_is_full(session) else None


def patience(session: Session) -> int:
    """Turns in vain after which the session ends. The strategy `adaptive` allows one more for each whole point of 10 that the
    first turn's best candidate lacks, at most twice as many: turns of hard cases are more often worth it (decision 0170).
    """
    limits = session.created.limits
    lacks = [lack(session, candidate) for candidate in session.turns[0].candidates if candidate.scores] if session.turns else []
    if session.created.strategy != "adaptive" or not lacks:
        return limits.patience
    return limits.patience + min(limits.patience, max(0, math.floor(min(lacks))))


def stale_turns(session: Session) -> int:
    """Turns since the last one with a better candidate, counted from the last feedback; those that render a draft do not count.
    Better is what exceeds the record by more than the judge's noise explains.
    """
    stale, record = 0, rank(session, None)
    margin = _BETTER * noise(session) if is_measured(session) else 0.0
    for turn in session.turns:
        if not turn.renders:
            top = max((rank(session, candidate) for candidate in turn.candidates), default=record)
            better = top > record and top[1] - record[1] > margin
            stale = 0 if better or (top > record and not margin) else stale + 1
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

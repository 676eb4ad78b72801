"""Early rejection: stopping an edit whose unfinished picture shows that it cannot become the best.

An unfinished picture is blurred, and scores lower than the finished one. By how much is learnt within the session, from the
candidates that were scored both ways: the first of them is always finished.
"""

from __future__ import annotations

import math
from typing import Final

from orchestrator.loop.actions import PreviewJob
from orchestrator.loop.choosing import contenders, noise, rank
from orchestrator.loop.session import Candidate, Session
from orchestrator.loop.stopping import enough_made

_DISAGREEMENT: Final = 0.5
"""Standard deviation of the finished picture's overall score around what the unfinished one promises, without a judge's noise."""
_CERTAIN: Final = 1.0
"""Standard errors by which a candidate is below the best so far when it is rejected (decision 0172)."""


def preview_to_score(candidate: Candidate, instruction: str) -> PreviewJob | None:
    """The critique of a running edit's unfinished picture; None where there is none, or it was asked for already."""
    if candidate.preview is None or candidate.preview_scores or candidate.preview_failed or not candidate.editing:
        return None
    return PreviewJob(candidate.turn, candidate.number, candidate.attempts, instruction, candidate.preview)


def wants_preview(session: Session, turn: int) -> bool:
    """Whether unfinished pictures of a turn's edits are of use: not of the edit in full that drafts were made for."""
    return session.created.reject_early and session.turns[turn - 1].renders is None


def hopeless(session: Session, candidate: Candidate) -> bool:
    """Whether a running edit is below the best so far by more than the judge's noise and an unfinished picture's explain."""
    seen, record = candidate.preview_scores, _record(session)
    if not candidate.editing or seen is None or record is None or not enough_made(session):
        return False
    gains = [
        each.scores.overall - each.preview_scores.overall
        for each in session.candidates
        if each.scores and each.preview_scores and each.draft == candidate.draft
    ]
    if not gains:
        return False
    promised = seen.overall + math.fsum(gains) / len(gains)
    # Both scores of a gain are noisy, and the overall score has about half the variance of its two.
    error = math.sqrt((1 + 1 / len(gains)) * (_DISAGREEMENT**2 + noise(session) ** 2 / 2))
    return promised + _CERTAIN * error < record


def _record(session: Session) -> float | None:
    """The overall score of the best candidate so far, of those between which is chosen."""
    top = max(contenders(session), key=lambda each: rank(session, each), default=None)
    return top.scores.overall if top and top.scores else None

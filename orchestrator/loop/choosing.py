"""Which candidate is the answer, and which one the next turn refines."""

from __future__ import annotations

from orchestrator.loop.events import Author, CandidateRef
from orchestrator.loop.session import Candidate, Session


def meets(session: Session, candidate: Candidate) -> bool:
    """Whether both scores reach their thresholds. An unscored candidate never does."""
    limits, scores = session.created.limits, candidate.scores
    return bool(scores and scores.semantic >= limits.semantic_threshold and scores.quality >= limits.quality_threshold)


def best(session: Session) -> CandidateRef | None:
    """The best candidate of all turns: one that meets the thresholds before one that does not, then by overall score, then the
    earlier one. Without any score, the first image, which the caller's own instruction made.
    """
    ranked = ranking(session)
    return ranked[0].ref if ranked else None


def ranking(session: Session) -> list[Candidate]:
    """Every candidate with an image, best first."""
    made = [candidate for candidate in session.candidates if candidate.image]
    return sorted(made, key=lambda candidate: rank(session, candidate), reverse=True)


def rank(session: Session, candidate: Candidate | None) -> tuple[bool, float]:
    """A key that orders candidates; None and unscored ones come last."""
    if candidate is None or candidate.scores is None:
        return False, -1.0
    return meets(session, candidate), candidate.scores.overall


def next_instruction(session: Session) -> tuple[str, Author]:
    """A person's new instruction; otherwise the refined one of the last turn's best candidate; otherwise the same."""
    if session.new_instruction:
        return session.new_instruction, "person"
    turn = session.turn
    if turn is None:
        return session.created.instruction, "caller"
    critiqued = [candidate for candidate in turn.candidates if candidate.scores]
    if critiqued and session.created.strategy in {"think", "think_best_of_n"}:
        refined = max(critiqued, key=lambda candidate: rank(session, candidate)).refined_instruction
        if refined and refined != turn.instruction:
            return refined, "thinker"
    # No refinement is not satisfaction: below the thresholds the same instruction is tried with another seed.
    return turn.instruction, turn.author

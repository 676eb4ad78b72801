"""Drafts: looking for the instruction and the seed with cheap edits, and rendering the winner, which is an edit in full.

The noise of a picture has another shape at another area, so a render is another picture than its draft. It is critiqued as every
candidate is, and only its own scores say whether it satisfies. One that does not is a candidate among others: the loop goes on
with drafts while it may, and renders again only what a further turn of drafts brought.
"""

from __future__ import annotations

from orchestrator.loop.choosing import contenders, rank, ranked
from orchestrator.loop.session import Candidate, Session
from orchestrator.loop.spending import budget_is_spent, drafts_are_spent, log_is_full, turns_are_used_up


def makes_drafts(session: Session) -> bool:
    """Whether the next turn may make drafts: what follows must suffice for an edit in full."""
    return session.created.draft and not (drafts_are_spent(session) or turns_are_used_up(session, kept=1))


def can_render(session: Session) -> bool:
    """Whether a turn with an edit in full may be started."""
    return not (budget_is_spent(session) or turns_are_used_up(session) or log_is_full(session))


def to_render(session: Session, *, satisfied: bool = False) -> Candidate | None:
    """The best draft, where it is to be rendered before the session ends; None where nothing is, or can be.

    Args:
        satisfied: whether a draft satisfies. Otherwise one that is not better than a picture in full is not rendered.
    """
    turn = session.turn
    drafts = ranked(session, contenders(session)) if turn and turn.draft else []
    if not drafts or not can_render(session):
        return None
    made = [candidate for candidate in session.candidates if candidate.image and not candidate.draft]
    best = max((rank(session, candidate) for candidate in made), default=None)
    return drafts[0] if satisfied or best is None or rank(session, drafts[0]) > best else None

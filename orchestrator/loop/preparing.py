"""What the first turn edits with: the caller's own words, or those that a preparer made of them for this editor.

Some editors were trained on long descriptions, and their makers ship a model that writes them. A preparation that fails, or
takes too long, or whose words the editor refuses, costs the session nothing but time: the caller's own words are used.
"""

from __future__ import annotations

from typing import Final

from orchestrator.loop.actions import PrepareJob
from orchestrator.loop.events import SUPERSEDED, TOO_LATE, Author
from orchestrator.loop.session import Session
from orchestrator.loop.spending import latest_start

_NOT_REFUSED: Final = frozenset({SUPERSEDED, TOO_LATE})
"""Codes of edits that failed for good for reasons that are not their instruction's."""


def preparation(session: Session) -> PrepareJob | None:
    """The next attempt at rewriting the caller's instruction; None without a preparer, and once a turn has an instruction."""
    known = session.preparation
    if session.created.preparer is None or session.turns or session.new_instruction or known.instruction is not None:
        return None
    tries_left = known.may_be_retried and known.attempts < session.created.limits.critique_attempts
    attempt = known.attempts + 1
    return PrepareJob(attempt, started=known.started == attempt) if tries_left else None


def prepare_until(session: Session, edit_s: float) -> float:
    """The time (Unix seconds) after which rewriting is given up: half of what an edit of about `edit_s` seconds leaves of the
    session's time belongs to the turns.
    """
    began = session.created.at
    return began + (latest_start(session, edit_s) - began) / 2


def opening(session: Session) -> tuple[str, Author]:
    """The instruction of the first turn; of the second, if the editor refused that one."""
    own, prepared = session.created.instruction, session.preparation.instruction
    return (own, "caller") if session.turns or prepared in {None, own} else (str(prepared), "preparer")


def is_refused(session: Session) -> bool:
    """Whether the editor refused the rewritten instruction, and the caller's own was not tried yet."""
    return len(session.turns) == 1 and _first_is_refused(session)


def counted_turns(session: Session) -> int:
    """Turns since the last feedback, without those that render a draft and one whose rewritten instruction the editor refused."""
    turns = sum(1 for turn in session.turns[session.floor :] if not turn.renders)
    return turns - (session.floor == 0 and len(session.turns) > 1 and _first_is_refused(session))


def _first_is_refused(session: Session) -> bool:
    first = session.turns[0]
    if first.author != "preparer" or any(candidate.image for candidate in first.candidates):
        return False
    refused = (candidate.edit_error for candidate in first.candidates if not candidate.edit_may_be_retried)
    return any(error.code not in _NOT_REFUSED for error in refused if error)

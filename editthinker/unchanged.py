"""What is said of a session whose answer is the source itself."""

from __future__ import annotations

from editthinker.client.models import Session


def unchanged_sentence(session: Session) -> str:
    """That nothing was changed, and what the editor says about it, as a sentence for a person."""
    if session.finish_reason != "unchanged":
        return "Nothing was changed: no edit was better than the source, which is the answer."
    phrases = [phrase for turn in session.turns for candidate in turn.candidates for phrase in candidate.not_understood]
    if not phrases:
        return "Nothing was changed: the picture that the editor made is the source."
    quoted = ", ".join(f"\u201c{phrase}\u201d" for phrase in dict.fromkeys(phrases))
    return f"Nothing was changed: the editor did not understand {quoted}."

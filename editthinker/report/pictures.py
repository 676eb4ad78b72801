"""The pictures of a session, fetched for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from editthinker.client import EditThinker, Session


@dataclass(frozen=True, slots=True)
class Pictures:
    """Encoded pictures: the source, each candidate's by (turn, candidate), the references in their order, and the mask.

    `previews` are the unfinished pictures of candidates that were rejected early.
    """

    source: bytes
    candidates: Mapping[tuple[int, int], bytes]
    references: Sequence[bytes] = ()
    mask: bytes | None = None
    previews: Mapping[tuple[int, int], bytes] = field(default_factory=dict)


def collect(client: EditThinker, session: Session) -> Pictures:
    """Fetch every picture of a session as WebP; a page of PNGs would be too large to mail."""
    candidates = {
        (turn.turn, candidate.candidate): client.sessions.image(session.id, turn.turn, candidate.candidate, format="webp")
        for turn in session.turns
        for candidate in turn.candidates
        if candidate.image is not None
    }
    previews = {
        (turn.turn, candidate.candidate): client.sessions.preview(session.id, turn.turn, candidate.candidate, format="webp")
        for turn in session.turns
        for candidate in turn.candidates
        if candidate.image is None and candidate.preview is not None
    }
    references = [client.sessions.reference(session.id, place, format="webp") for place in range(1, len(session.references) + 1)]
    mask = client.sessions.mask(session.id, format="webp") if session.mask is not None else None
    return Pictures(client.sessions.source(session.id, format="webp"), candidates, references, mask, previews)

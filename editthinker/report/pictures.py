"""The pictures of a session, fetched for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from editthinker.client import EditThinker, ImageFormat, ImageRef, Session

MOST_BYTES: Final = 18 * 2**20
"""Of the pictures in a report. In base64 they take a third more: 24 MiB, and mail servers take 25 MB."""
_LARGE: Final = 16_000_000
"""Pixels of all pictures from which those that did not win are compressed further."""
_COMPRESSION: Final = 75
"""WebP's quality of them: 0.13 to 0.18 bytes a pixel of the example photographs, 0.36 to 0.48 at the usual 95 (2026-11-30)."""
_LONGEST_WEBP_SIDE: Final = 16_383


@dataclass(frozen=True, slots=True)
class Pictures:
    """Encoded pictures: the source, each candidate's by (turn, candidate), the references in their order, and the mask.

    `previews` are the unfinished pictures of candidates that were rejected early. `left_out` counts pictures that exist, and
    for which the report has no space.
    """

    source: bytes
    candidates: Mapping[tuple[int, int], bytes]
    references: Sequence[bytes] = ()
    mask: bytes | None = None
    previews: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    left_out: int = 0


def collect(client: EditThinker, session: Session) -> Pictures:
    """Fetch the pictures of a session as WebP; a page of PNGs would be too large to mail.

    The source, the winner, the references and the mask are always there. The others follow in their order as long as there is
    space. A candidate that is its source has no picture of its own.
    """
    made = [(turn.turn, candidate) for turn in session.turns for candidate in turn.candidates if not candidate.unchanged]
    images = {(turn, each.candidate): each.image for turn, each in made if each.image is not None}
    unfinished = {(turn, each.candidate): each.preview for turn, each in made if each.image is None and each.preview is not None}
    best = None if session.best is None else (session.best.turn, session.best.candidate)

    source = client.sessions.source(session.id, format=_format(session.source))
    references = [
        client.sessions.reference(session.id, place, format=_format(given)) for place, given in enumerate(session.references, 1)
    ]
    mask = None if session.mask is None else client.sessions.mask(session.id, format=_format(session.mask))
    space = MOST_BYTES - len(source) - sum(map(len, references)) - len(mask or b"")
    large = sum(image.width * image.height for image in (*images.values(), session.source) if image) > _LARGE
    candidates: dict[tuple[int, int], bytes] = {}
    previews: dict[tuple[int, int], bytes] = {}
    for at in sorted({*images, *unfinished}, key=lambda each: (each != best, each)):
        if space <= 0 and at != best:
            continue
        if image := images.get(at):
            compression = _COMPRESSION if large and at != best else None
            data = client.sessions.image(session.id, *at, format=_format(image), compression=compression)
        else:
            data = client.sessions.preview(session.id, *at, format=_format(unfinished[at]))
        space -= len(data)
        if space >= 0 or at == best:
            (candidates if at in images else previews)[at] = data
    left_out = len(images) + len(unfinished) - len(candidates) - len(previews)
    return Pictures(source, candidates, references, mask, previews, left_out)


def _format(image: ImageRef | None) -> ImageFormat:
    """WebP, but for what is too long for it."""
    return "jpeg" if image is not None and max(image.width, image.height) > _LONGEST_WEBP_SIDE else "webp"

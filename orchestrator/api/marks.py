"""What each picture that is served is marked with: decided here for every road, and written as the last step, after format and
compression. What the stores hold has no marks.

An edited picture says so, in IPTC's Digital Source Type (docs/decisions/0180), and in a signed C2PA manifest where the operator
has a certificate (docs/decisions/0181). The caller's own pictures are not edited, nor is a candidate with its source's pixels:
they say what the upload said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Final

from orchestrator.api.signing import Claim, Signer
from orchestrator.loop.events import Carried, ImageRef
from orchestrator.loop.session import Candidate, Session
from orchestrator.ports.stores import Blobs
from services.imaging import marks
from services.imaging.alpha import HEAD_BYTES
from services.imaging.marks import Splice

_TAG_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """What a served picture says about itself.

    Attributes:
        source_type: its Digital Source Type; None writes none.
        claim: what is signed; None signs nothing.
        edited: whether this server made the picture.
    """

    source_type: str | None = None
    claim: Claim | None = None
    edited: bool = False

    @property
    def tag(self) -> str:
        """What an entity tag of the marked picture ends with, if it is not signed; empty without marks."""
        return f"-{hashlib.sha256(self.source_type.encode()).hexdigest()[:_TAG_DIGITS]}" if self.source_type else ""

    def splices(self, head: bytes, size: int) -> tuple[Splice, ...]:
        """What writes the Digital Source Type into an encoded picture of that many bytes which begins with `head`."""
        if self.source_type is None:
            return ()
        return marks.splices(head[:HEAD_BYTES], size, marks.packet(self.source_type))

    def written(self, data: bytes) -> bytes:
        """An encoded picture with its Digital Source Type."""
        return marks.spliced(data, self.splices(data[:HEAD_BYTES], len(data)))


UNMARKED: Final = Mark()


@dataclass(frozen=True, slots=True)
class Marks:
    """Decides the marks of pictures.

    Attributes:
        enabled: whether pictures are marked at all.
        signer: signs them; None where the operator has no certificate.
        names_session: whether manifests name the session.
        made: is handed each picture that this server made, with its tenant and its name.
    """

    enabled: bool = True
    signer: Signer | None = None
    names_session: bool = False
    made: Callable[[str, bytes, tuple[str, ...]], None] = lambda *_: None

    def of_candidate(self, session_id: str, session: Session, candidate: Candidate) -> Mark:
        """The mark of a candidate's pictures."""
        created = session.created
        if candidate.unchanged:
            return self.of_input(session, created.source)
        if not self.enabled:
            return Mark(edited=True)
        source, answer = created.carried.get(created.source.sha256, Carried()), candidate.carried or Carried()
        made = marks.EDITED_BY_MODEL if candidate.trained else marks.EDITED_BY_ALGORITHM
        edited: dict[str, Any] = {
            "action": "c2pa.edited",
            "softwareAgent": {"name": candidate.editor or created.editor},
            "digitalSourceType": made,
            "parameters": {
                "editthinker.thinker": created.thinker,
                **({"editthinker.session": session_id} if self.names_session else {}),
            },
        }
        claim = Claim(edited, created.source.media_type, source.manifest, answer.manifest) if self.signer else None
        told = [source.source_type, answer.source_type]
        # What a reference adds is a part of the picture.
        if any(each.source_type in marks.SYNTHETIC for each in created.carried.values()):
            told.append(marks.EDITED_BY_MODEL)
        return Mark(reduce(marks.strongest, told, made), claim, edited=True)

    def of_input(self, session: Session, image: ImageRef) -> Mark:
        """The mark of one of the caller's pictures: what the upload said. A manifest cannot stay valid in the stored form of its
        picture, so that is signed as a copy of the upload, with the manifest in its chain.
        """
        carried = session.created.carried.get(image.sha256)
        if not self.enabled or carried is None:
            return UNMARKED
        signs = self.signer is not None and carried.manifest is not None
        claim = Claim({"action": "c2pa.transcoded"}, image.media_type, carried.manifest) if signs else None
        return Mark(carried.source_type, claim)

    async def finished(
        self, session_id: str, mark: Mark, picture: bytes, name: tuple[str, ...], blobs: Blobs, *, tenant: str
    ) -> bytes:
        """An encoded picture with its marks, signed if it has a claim.

        Args:
            name: of the picture and its encoding.
            blobs: has the source's manifests.
            tenant: whose it is.

        Raises:
            ApiError: as `Signer.signed`.
        """
        if mark.edited:
            self.made(tenant, picture, name)
        marked = mark.written(picture)
        if self.signer is None or mark.claim is None:
            return marked
        # With all that is claimed, since what made a picture may differ where its bytes do not.
        names = (session_id, *name, repr(mark))
        return await self.signer.signed(names, marked, mark.claim, partial(blobs.get, session_id), tenant=tenant)

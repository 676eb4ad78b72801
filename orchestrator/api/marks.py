"""What each picture that is served is marked with: decided here for every road, and written as the last step, after format and
compression. What the stores hold has no marks.

An edited picture says so, in IPTC's Digital Source Type (docs/decisions/0180). The caller's own pictures are not edited, nor is a
candidate that has its source's pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from orchestrator.loop.session import Candidate
from services.imaging import marks
from services.imaging.alpha import HEAD_BYTES
from services.imaging.marks import Splice

_TAG_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """What a served picture says about itself.

    Attributes:
        source_type: its Digital Source Type; None writes none.
    """

    source_type: str | None = None

    @property
    def tag(self) -> str:
        """What an entity tag of the marked picture ends with; empty without marks."""
        return f"-{hashlib.sha256(self.source_type.encode()).hexdigest()[:_TAG_DIGITS]}" if self.source_type else ""

    def splices(self, head: bytes, size: int) -> tuple[Splice, ...]:
        """What writes it into an encoded picture of that many bytes which begins with `head`."""
        if self.source_type is None:
            return ()
        return marks.splices(head[:HEAD_BYTES], size, marks.packet(self.source_type))

    def written(self, data: bytes) -> bytes:
        """An encoded picture with it."""
        return marks.spliced(data, self.splices(data[:HEAD_BYTES], len(data)))


UNMARKED: Final = Mark()


@dataclass(frozen=True, slots=True)
class Marks:
    """Decides the marks of pictures.

    Attributes:
        enabled: whether pictures are marked at all.
    """

    enabled: bool = True

    def of_candidate(self, candidate: Candidate) -> Mark:
        """The mark of a candidate's pictures."""
        if not self.enabled or candidate.unchanged:
            return UNMARKED
        return Mark(marks.EDITED_BY_MODEL if candidate.trained else marks.EDITED_BY_ALGORITHM)

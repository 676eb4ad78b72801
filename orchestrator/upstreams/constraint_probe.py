"""The constraint that a server enforces on its replies: configured, or found by trying, and verified on the replies.

Some servers refuse a constraint they do not know, others ignore it with HTTP 200. So the first reply under a constraint is
compared with what the constraint permits; one that is refused or not enforced is dropped for the next.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from orchestrator.ports import ThinkerError
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import ReplyFormat

log = logging.getLogger(__name__)

AUTO: Final = "auto"
_CANDIDATES: Final[tuple[Constraint, ...]] = ("regex", "json_schema")
"""In the order of trying: vLLM's, which bounds every text exactly, then OpenAI's."""
_NOT_UNDERSTOOD: Final = frozenset({400, 422, 501})
_OTHER_CAUSES: Final = frozenset({"context_overflow", "content_refused", "thinker_misconfigured"})
"""Error codes of refusals that a constraint cannot cause."""


class ConstraintProbe:
    """The constraint in use with one server for one format.

    Args:
        configured: a constraint, or ``auto``.
        format: of the replies; kinds of constraint that cannot express it are not tried.
    """

    def __init__(self, configured: Constraint | str, format: ReplyFormat[Any]) -> None:  # noqa: A002 - its name everywhere
        self._auto = configured == AUTO
        kinds = [kind for kind in _CANDIDATES if (self._auto or kind == configured) and format.constraint(kind)]
        self._remaining: list[Constraint] = [*kinds, "none"]
        self._warned = False
        self._proven: set[Constraint] = set()

    @property
    def kind(self) -> Constraint:
        """The constraint to request now."""
        return self._remaining[0]

    def refused(self, kind: Constraint, error: ThinkerError) -> bool:
        """Record that the server rejected a request; returns whether to repeat it with the next constraint."""
        # A constraint that was enforced before is understood: the cause is this request, and others keep the constraint.
        if kind == "none" or not self._auto or kind in self._proven:
            return False
        if error.status not in _NOT_UNDERSTOOD or error.code in _OTHER_CAUSES:
            return False
        self._drop(kind, f"refused: {error.message}")
        return True

    def observed(self, kind: Constraint, *, enforced: bool) -> bool:
        """Record replies under a constraint; returns whether all of them conform to it."""
        if kind == "none" or enforced:
            self._proven.add(kind)
            return enforced
        # A single reply does not disprove a constraint that was enforced before: backends count characters differently.
        if self._auto and kind not in self._proven:
            self._drop(kind, "not enforced")
        elif not self._auto and not self._warned:
            self._warned = True
            log.warning("the thinker does not enforce the constraint %s that it is configured for", kind)
        return False

    def _drop(self, kind: Constraint, why: str) -> None:
        # A concurrent request may have dropped it already.
        if kind in self._remaining:
            self._remaining.remove(kind)
            log.warning("the thinker's constraint %s is given up (%s); the next is %s", kind, why, self._remaining[0])

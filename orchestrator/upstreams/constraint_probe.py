"""The constraint that a server enforces on its replies: configured, or found by trying, and verified on the replies.

Some servers refuse a constraint they do not know, others ignore it with HTTP 200. A constraint is given up in two cases: its
request is refused, and the same request without it succeeds; or a whole reply is not what it permits. A request that is refused
with and without it shows nothing: the cause is the request, which a stranger wrote. What was given up is tried again after
`RETRY_S`, so that no request disarms a server for good.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from orchestrator.ports.errors import ThinkerError
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import ReplyFormat

log = logging.getLogger(__name__)

AUTO: Final = "auto"
RETRY_S: Final = 600.0
"""Seconds after which a constraint that was given up is tried again; a trial costs one more request at most."""
_CANDIDATES: Final[tuple[Constraint, ...]] = ("regex", "json_schema")
"""In the order of trying: vLLM's, which bounds every text exactly, then OpenAI's."""
_NOT_UNDERSTOOD: Final = frozenset({400, 422, 501})
_OTHER_CAUSES: Final = frozenset({"context_overflow", "content_refused", "thinker_misconfigured"})
"""Error codes of refusals that a constraint cannot cause."""


class ConstraintProbe:
    """The constraints to use with one server for one format.

    Args:
        configured: a constraint, or ``auto``.
        format: of the replies; kinds of constraint that cannot express it are not tried.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        configured: Constraint | str,
        format: ReplyFormat[Any],  # noqa: A002 - its name everywhere
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auto = configured == AUTO
        kinds = [kind for kind in _CANDIDATES if (self._auto or kind == configured) and format.constraint(kind)]
        self._kinds: tuple[Constraint, ...] = (*kinds, "none")
        self._clock = clock
        self._warned = False
        self._proven: set[Constraint] = set()
        self._retry_at: dict[Constraint, float] = {}

    def kinds(self) -> Iterator[Constraint]:
        """The constraints to request now, in order: the next one where the server may not have understood the one before."""
        now = self._clock()
        yield from [kind for kind in self._kinds if self._retry_at.get(kind, now) <= now]

    def may_be_refused(self, kind: Constraint, error: ThinkerError) -> bool:
        """Whether the constraint may be why the server rejected a request, so that the next one is worth trying."""
        # A constraint that was enforced before is understood.
        if kind == "none" or not self._auto or kind in self._proven:
            return False
        return error.status in _NOT_UNDERSTOOD and error.code not in _OTHER_CAUSES

    def refused(self, errors: Mapping[Constraint, ThinkerError]) -> None:
        """Record that a request was rejected under these constraints, and then accepted without them."""
        for kind, error in errors.items():
            self._give_up(kind, f"refused: {error.message}")

    def observed(self, kind: Constraint, *, enforced: bool) -> bool:
        """Record replies under a constraint; returns whether all of them conform to it."""
        if kind == "none" or enforced:
            self._proven.add(kind)
            return enforced
        # A single reply does not disprove a constraint that was enforced before: backends count characters differently.
        if self._auto and kind not in self._proven:
            self._give_up(kind, "not enforced")
        elif not self._auto and not self._warned:
            self._warned = True
            log.warning("the thinker does not enforce the constraint %s that it is configured for", kind)
        return False

    def _give_up(self, kind: Constraint, why: str) -> None:
        # A concurrent request may have found so already, or that it is enforced.
        if kind in self._proven or self._retry_at.get(kind, 0.0) > self._clock():
            return
        self._retry_at[kind] = self._clock() + RETRY_S
        log.warning("the thinker's constraint %s is given up for %d s (%s)", kind, RETRY_S, why)

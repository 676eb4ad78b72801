"""What a server can hold its replies to: configured, or found out by asking, and in both cases checked on the replies.

A constraint that a server does not know is refused by some and ignored by others, with HTTP 200. So the first reply under
one is compared with what it allows; one that is refused, or not enforced, is given up for the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from orchestrator.ports import ThinkerError
from services.protocol.critique.formats import Constraint
from services.protocol.critique.messages import Question

log = logging.getLogger(__name__)

AUTO: Final = "auto"
_ORDER: Final[tuple[Constraint, ...]] = ("regex", "json_schema", "structural_tag", "grammar")
"""In which they are tried: what vLLM enforces at once, what everybody else speaks, then the rest."""
_NOT_UNDERSTOOD: Final = frozenset({400, 422, 501})
_ANOTHER_FAULT: Final = frozenset({"context_overflow", "content_refused", "thinker_misconfigured"})
"""Refusals that no constraint is to blame for."""

FieldsOf = Callable[[Constraint, tuple[Question, ...]], Mapping[str, Any]]
"""The request's fields for a constraint; none where the format cannot be said so."""


class Constraints:
    """The constraint in use with one server for one format.

    Args:
        wanted: a constraint, or ``auto``.
        fields_of: how the format says it.
    """

    def __init__(self, wanted: Constraint | str, fields_of: FieldsOf) -> None:
        self._fields_of = fields_of
        self._auto = wanted == AUTO
        kinds = [kind for kind in (_ORDER if self._auto else (wanted,)) if fields_of(kind, ())]  # type: ignore[arg-type]
        self._left: list[Constraint] = [*kinds, "none"]  # type: ignore[list-item]
        self._told = False
        self._proven: set[Constraint] = set()

    @property
    def kind(self) -> Constraint:
        """The constraint to ask for now."""
        return self._left[0]

    def fields(self, kind: Constraint, questions: tuple[Question, ...]) -> Mapping[str, Any]:
        """The request's fields for it."""
        return self._fields_of(kind, questions)

    def refused(self, kind: Constraint, error: ThinkerError) -> bool:
        """The server did not take the request; whether to ask again, with another constraint or none."""
        # One that was seen to be enforced is understood: the fault lies in this request, and others need not pay for it.
        if kind == "none" or not self._auto or kind in self._proven:
            return False
        if error.status not in _NOT_UNDERSTOOD or error.code in _ANOTHER_FAULT:
            return False
        self._give_up(kind, f"refused: {error.message}")
        return True

    def saw(self, kind: Constraint, *, enforced: bool) -> bool:
        """Replies came under a constraint; whether all were such as it allows."""
        if kind == "none" or enforced:
            self._proven.add(kind)
            return enforced
        # One that was seen to be enforced is not given up for a single reply: backends count characters differently.
        if self._auto and kind not in self._proven:
            self._give_up(kind, "not enforced")
        elif not self._auto and not self._told:
            self._told = True
            log.warning("the thinker does not enforce the constraint %s that it is configured for", kind)
        return False

    def _give_up(self, kind: Constraint, why: str) -> None:
        # Another request may have given it up meanwhile.
        if kind in self._left:
            self._left.remove(kind)
            log.warning("the thinker's constraint %s is given up (%s); the next is %s", kind, why, self._left[0])

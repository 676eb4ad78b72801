"""How long sessions take from their turn in line to their end: what a new one needs beside its wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.loop.events import Finished

_OF_THEMSELVES: Final = frozenset({"satisfied", "max_turns", "plateau", "budget"})
_KEPT: Final = 0.95
"""Of what was known, beside one more session."""
_MOST: Final = 1.5
"""Mean distances above the mean within which about nine of ten sessions are done."""


@dataclass(slots=True)
class _Length:
    mean_s: float
    spread_s: float = 0.0


@dataclass(slots=True)
class SessionDurations:
    """What was learned lately, by editor."""

    _known: dict[str, _Length] = field(default_factory=dict)

    def ended(self, editor: str, end: Finished, seconds: float) -> None:
        """A session ended, so long after its claim.

        One that ran out of time counts if it took longer than most: else only those would count that are short. What a person
        ended says nothing.
        """
        known = self._known.get(editor) or _Length(seconds)
        ran_out = end.reason == "deadline" and end.totals.edits > 0 and seconds >= known.mean_s
        if end.reason in _OF_THEMSELVES or ran_out:
            self._known[editor] = known
            known.spread_s = _KEPT * known.spread_s + (1 - _KEPT) * abs(seconds - known.mean_s)
            known.mean_s = _KEPT * known.mean_s + (1 - _KEPT) * seconds

    def most(self) -> Mapping[str, float]:
        """Seconds within which most sessions are done, by editor, where that is known."""
        return {editor: known.mean_s + _MOST * known.spread_s for editor, known in self._known.items()}

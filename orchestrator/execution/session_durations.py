"""How long sessions take from their claim to their end, by editor: what a new session needs in addition to its wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.loop.events import Finished

_ENDED_BY_LOOP: Final = frozenset({"satisfied", "unchanged", "max_turns", "plateau", "budget"})
_SMOOTHING: Final = 0.95
"""Weight of the earlier mean against one more session."""
_P90_DEVIATIONS: Final = 1.5
"""Mean deviations above the mean that cover about 90 % of sessions."""


@dataclass(slots=True)
class _Duration:
    mean_s: float
    deviation_s: float = 0.0


@dataclass(slots=True)
class SessionDurations:
    """Moving averages of recent sessions, by editor."""

    _durations: dict[str, _Duration] = field(default_factory=dict)

    def ended(self, editor: str, end: Finished, seconds: float) -> None:
        """A session ended, so many seconds after its claim.

        A session that reached its deadline counts if it took longer than the mean: without these, the mean would drift toward
        short sessions. Sessions that a person ended do not count.
        """
        known = self._durations.get(editor) or _Duration(seconds)
        timed_out = end.reason == "deadline" and end.totals.edits > 0 and seconds >= known.mean_s
        if end.reason in _ENDED_BY_LOOP or timed_out:
            self._durations[editor] = known
            known.deviation_s = _SMOOTHING * known.deviation_s + (1 - _SMOOTHING) * abs(seconds - known.mean_s)
            known.mean_s = _SMOOTHING * known.mean_s + (1 - _SMOOTHING) * seconds

    def most(self) -> Mapping[str, float]:
        """Seconds within which about 90 % of sessions end, by editor, where that is known."""
        return {editor: known.mean_s + _P90_DEVIATIONS * known.deviation_s for editor, known in self._durations.items()}

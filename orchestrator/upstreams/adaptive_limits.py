"""The gates of every editor, as the runner sees them."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.upstreams.adaptive_limit import AdaptiveLimit


class AdaptiveLimits:
    """`orchestrator.execution.runner.EditorCapacity`: which sessions are worth claiming now."""

    def __init__(self, gates: Mapping[str, AdaptiveLimit]) -> None:
        self._gates = gates

    def room(self) -> Mapping[str, int]:
        """How many more sessions each editor could do with."""
        return {editor: gate.room() for editor, gate in self._gates.items()}

    def expect(self, editor: str, session_id: str) -> None:
        """A session was claimed and will soon ask for an edit."""
        if editor in self._gates:
            self._gates[editor].expect(session_id)

    def forget(self, editor: str, session_id: str) -> None:
        """It will not."""
        if editor in self._gates:
            self._gates[editor].forget(session_id)

    def edit_s(self, editor: str) -> float:
        """Seconds that an edit takes there, lately; 0 while that is not known."""
        return self._gates[editor].edit_s if editor in self._gates else 0.0

    def paces(self) -> Mapping[str, float]:
        """`edit_s` of every editor where it is known."""
        return {editor: gate.edit_s for editor, gate in self._gates.items() if gate.edit_s > 0}

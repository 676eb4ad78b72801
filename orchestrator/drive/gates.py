"""The gates of every editor, as the runner sees them."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.drive.gate import Gate


class Gates:
    """`orchestrator.drive.runner.Rooms`: which sessions are worth claiming now."""

    def __init__(self, gates: Mapping[str, Gate]) -> None:
        self._gates = gates

    def room(self) -> Mapping[str, int]:
        """How many more sessions each editor could do with."""
        return {editor: gate.room() for editor, gate in self._gates.items()}

    def expect(self, editor: str) -> None:
        """A session was claimed and will soon ask for an edit."""
        if editor in self._gates:
            self._gates[editor].expect()

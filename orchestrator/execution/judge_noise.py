"""How far each judge's scores spread when it is asked again about the same picture, as sessions find out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.loop.choosing import spread
from orchestrator.loop.events import Choosing, Finished
from orchestrator.loop.session import Scores, Session
from orchestrator.ports.stores import Recorded, SessionObserver

CONFIRMATIONS: Final = 8
"""Further critiques of one candidate at most (docs/decisions/0163)."""
_UNKNOWN: Final = 0.8
"""The noise that is assumed of a judge that was never asked twice."""
_UNKNOWN_WEIGHT: Final = 0.2
"""So little that two equal answers show a judge without noise."""
_REMEMBERED: Final = 0.98
"""What an earlier score counts after one more: about the last 50 make up the measurement, so that a judge may change."""
_HALF_LIFE_S: Final = 6 * 3600.0
"""After a while without repeats a judge is asked again: its server may have been updated."""


@dataclass(slots=True)
class _Spread:
    squares: float = 0.0
    freedom: float = 0.0
    at: float = 0.0

    def fade(self, now: float) -> None:
        share = 0.5 ** (max(0.0, now - self.at) / _HALF_LIFE_S)
        self.squares, self.freedom, self.at = self.squares * share, self.freedom * share, max(now, self.at)


@dataclass(slots=True)
class JudgeNoise:
    """The decaying variance of repeated scores, by judge. Each replica measures for itself."""

    _spreads: dict[str, _Spread] = field(default_factory=dict)

    def repeated(self, judge: str, critiques: Sequence[Scores], now: float) -> None:
        """A candidate got these critiques, at time `now` (Unix seconds)."""
        squares, freedom = spread(critiques)
        if freedom:
            known = self._spreads.setdefault(judge, _Spread())
            known.fade(now)
            kept = _REMEMBERED**freedom
            known.squares, known.freedom = known.squares * kept + squares, known.freedom * kept + freedom

    def choosing(self, judge: str, now: float, *, confirmations: int, compares: bool = False) -> Choosing:
        """What a session that begins now knows of its judge."""
        known = self._spreads.get(judge) or _Spread(at=now)
        known.fade(now)
        weight = _UNKNOWN_WEIGHT + known.freedom
        noise = math.sqrt((_UNKNOWN_WEIGHT * _UNKNOWN**2 + known.squares) / weight)
        return Choosing(noise=round(noise, 3), weight=round(weight, 3), confirmations=confirmations, compares=compares)


@dataclass(frozen=True, slots=True)
class NoiseObserver:
    """`orchestrator.ports.stores.SessionObserver`: measures judges by the sessions that end, and passes everything on."""

    noise: JudgeNoise
    then: SessionObserver

    def recorded(self, session_id: str, recorded: Recorded, session: Session) -> None:
        """This replica recorded an event."""
        if isinstance(recorded.event, Finished):
            for candidate in session.candidates:
                self.noise.repeated(session.created.scorer, candidate.critiques, recorded.event.at)
        self.then.recorded(session_id, recorded, session)

    def forgotten(self, session_id: str, events: int) -> None:
        """Redis lost recorded events."""
        self.then.forgotten(session_id, events)

"""How many edits one replica keeps in flight at one editor: as many as keep the pool busy, with a short line there.

The law (`Pace`, pure) is Little's: of n edits in flight that stood w seconds in the pool's queues and were worked on for s,
``n * s / (s + w)`` were being worked on, and so many this replica may count on. The limit is a little more::

    limit = 1.05 * served + 0.7 * sqrt(n)

TCP Vegas (Brakmo & Peterson, 1995) measures the queue from times like this and keeps a few packets in it; a queue of the
square root is what Netflix's Gradient2 allows (github.com/Netflix/concurrency-limits), and what many servers need to stay
busy (Halfin & Whitt, 1981). Being the same addition for replicas of the same size, while all of them are pushed back by the
same ratio, it makes them equal, as additive increase and multiplicative decrease do (Chiu & Jain, 1989). Waits come out at
0.5 s for a pool of 4 places and 0.16 s for one of 64, with three replicas at 0.7 s and 0.24 s.

- Nothing has waited for a round trip: slow start. Every answer adds one, so the limit doubles per round trip, until an edit
  has waited.
- 429 and 503: down to what is served, but to 0.7 of the limit at most, once per round trip. Above where that happened the
  limit grows by one per round trip, until it is well above.
- An editor that does not tell how long edits waited: slow start until its first 429, then one more per round trip, and 0.7 of
  it at each 429. One that queues without end and never refuses needs a fixed limit.
- A limit that is not in use does not grow, and is slowly forgotten (RFC 7661, congestion window validation).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Final

_SLACK_S: Final = 0.1
"""Of a wait, what the network and a busy event loop explain."""
_EXTRA: Final = 0.05
_ROOT: Final = 0.7
_FEW: Final = 0.1
_MANY: Final = 0.5
"""Waits, as parts of the work: below the one there is no queue to speak of; above the other it is too long."""
_DOWN: Final = 0.7
_WELL_ABOVE: Final = 1.25
_STREAK: Final = 3
"""Answers without a wait, at least, that are no chance."""
_FIRST_GUESS_S: Final = 1.0
"""Of a round trip, before one was seen."""
_LONGEST_TRIP_S: Final = 60.0
_MOST: Final = 1.5
_NEARLY_ALL: Final = 3.0
"""Mean distances above the mean within which about nine of ten edits are done, and nearly all, when they take from 1 to 8 s."""
_FORGET: Final = 8.0
"""Round trips in which a limit that is not in use goes down to twice what is used."""
_HALF_LIFE_S: Final = 60.0
"""In which an idle gate's limit halves."""
_ON_THEIR_WAY_S: Final = 5.0
"""For which a claimed session is expected at the gate."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An edit that came back.

    Attributes:
        elapsed_s: from its sending to its answer.
        waited_s: of them, in the pool's queues; None if that is not known.
        beside: edits in flight when it got its place, by `beside`; None if it was refused before it was taken.
        in_use: whether the limit holds edits back, or just not.
    """

    elapsed_s: float
    waited_s: float | None
    beside: float | None
    in_use: bool


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to go, and what that is known from.

    Attributes:
        size: the limit, with its fraction.
        first: what it starts at, and falls to when idle.
        most: what it never exceeds.
        beside, worked_s, waited_s: means over the answers of about one round trip.
        spread_s: mean distance of an edit's work from `worked_s`.
        answers: that these are made of, up to one round trip.
        streak: answers since the last that had waited.
        wall: the limit at which the pool refused; infinite if it did not, or that was long passed.
        again_at: before then a refusal is of an edit sent before the last decrease.
    """

    size: float
    first: float
    most: float
    beside: float = 0.0
    worked_s: float = 0.0
    waited_s: float = 0.0
    spread_s: float = 0.0
    answers: int = 0
    streak: int = 0
    wall: float = math.inf
    again_at: float = -math.inf

    @property
    def limit(self) -> int:
        """Edits that may be in flight."""
        return max(1, int(self.size))

    @property
    def served(self) -> float:
        """Edits that the pool works on at a time for this replica."""
        return self.beside * self.worked_s / max(1e-9, self.worked_s + self.waited_s)


def beside(pace: Pace, in_flight: int, resting: int) -> float:
    """What an edit that gets its place now has beside it, itself included; without those that rest between two tries.

    At the limit its fraction counts too: else a replica with 1.9 places would never get its second one.
    """
    return max(1.0, (pace.size if in_flight >= pace.limit else in_flight) - resting)


def answered(pace: Pace, answer: Answer) -> Pace:
    """The pace after an edit came back."""
    if answer.waited_s is None:
        grown = pace.size + 1 if math.isinf(pace.wall) else pace.size + 1 / pace.size
        seen = _averaged(pace, answer, 0.0)
        return _sized(seen, grown) if answer.in_use else _less_used(seen)
    waited = min(max(0.0, answer.waited_s - _SLACK_S), answer.elapsed_s)
    seen = _averaged(pace, answer, waited)
    if not answer.in_use:
        return _less_used(seen)
    wanted = seen.served * (1 + _EXTRA) + _ROOT * math.sqrt(seen.beside)
    if seen.streak >= max(_STREAK, seen.beside):
        wanted = max(wanted, seen.size + 1)
    if seen.waited_s < _FEW * seen.worked_s:
        # The means lag behind a limit that grows.
        wanted = max(wanted, seen.size)
    if wanted > seen.size and wanted > seen.wall:
        wanted = min(wanted, max(seen.size, seen.wall) + 1 / seen.size)
    wall = math.inf if wanted > max(seen.wall * _WELL_ABOVE, seen.wall + 2) else seen.wall
    return _sized(replace(seen, wall=wall), wanted)


def refused(pace: Pace, now: float, *, told: bool) -> Pace:
    """The pace after the pool refused an edit; `told`: whether it tells how long edits wait."""
    if now < pace.again_at:
        return pace
    trip = pace.worked_s + pace.waited_s if pace.answers else _FIRST_GUESS_S
    served = min(pace.size, pace.served) if told else 0.0
    smaller = _sized(pace, max(pace.size * _DOWN, served))
    return replace(smaller, wall=pace.size, streak=0, again_at=now + min(trip, _LONGEST_TRIP_S))


def rested(pace: Pace, seconds: float) -> Pace:
    """The pace after so long without any edit: what was known may be true no more."""
    smaller = max(pace.first, pace.size * 0.5 ** (seconds / _HALF_LIFE_S))
    return _sized(pace, min(pace.size, smaller))


def _sized(pace: Pace, size: float) -> Pace:
    return replace(pace, size=min(max(1.0, size), pace.most))


def _less_used(pace: Pace) -> Pace:
    """A limit that holds nothing back is not tested: it does not grow. Others may have filled the pool meanwhile."""
    if pace.waited_s > _MANY * pace.worked_s:
        wanted = pace.served * (1 + _EXTRA) + _ROOT * math.sqrt(pace.beside)
    else:
        wanted = max(pace.first, 2 * pace.beside)
    step = (pace.size - wanted) / (_FORGET * max(1.0, pace.beside))
    return _sized(pace, pace.size - max(0.0, step))


def _averaged(pace: Pace, answer: Answer, waited_s: float) -> Pace:
    near = pace.beside if answer.beside is None else answer.beside
    answers = min(pace.answers + 1, max(1, round(near)))
    share = 1 / answers
    work_s = answer.elapsed_s - waited_s
    return replace(
        pace,
        spread_s=pace.spread_s + (abs(work_s - pace.worked_s) - pace.spread_s) * share if pace.answers else 0.0,
        beside=pace.beside + (near - pace.beside) * share,
        worked_s=pace.worked_s + (work_s - pace.worked_s) * share,
        waited_s=pace.waited_s + (waited_s - pace.waited_s) * share,
        answers=answers,
        streak=0 if waited_s > _FEW / 2 * work_s else pace.streak + 1,
    )


class Slot:
    """One edit's place in flight; what became of the edit is told to it."""

    def __init__(self, gate: AdaptiveLimit, beside: float) -> None:
        self._gate = gate
        self._beside: float | None = beside

    def answered(self, *, elapsed_s: float, waited_s: float | None, now: float) -> None:  # noqa: ARG002 - the law needs no clock here
        """The edit came back.

        Args:
            elapsed_s: from the sending of what was answered, so without earlier tries and the pauses before them.
            waited_s: of them in the pool's queues; None if nobody told.
            now: on the clock of `refused`.
        """
        self._gate._answered(elapsed_s, waited_s, self._beside)  # noqa: SLF001 - two halves of one thing

    def refused(self, now: float) -> None:
        """The pool was full (429, 503). The place is kept while the edit waits to be sent again, so that a full pool is asked
        less.
        """
        if self._beside is not None:
            self._beside = None
            self._gate._resting += 1  # noqa: SLF001 - as above
        self._gate._refused(now)  # noqa: SLF001 - as above

    def _left(self) -> None:
        if self._beside is None:
            self._gate._resting -= 1  # noqa: SLF001 - as above


class AdaptiveLimit:
    """Bounds the edits that this replica has in flight at one editor; the rest waits here, in order.

    For one event loop; every operation takes constant time. Edits of later turns go before those of first turns, so that
    sessions that were started get done.

    Args:
        fixed: the limit, if it is not to be found.
        first: what it starts at.
        most: what it never exceeds.
        clock: seconds, for how long it was idle and how long ago a session was announced.
    """

    def __init__(
        self, *, fixed: int | None = None, first: int = 8, most: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fixed = fixed
        self._pace = Pace(float(min(first, most)), float(min(first, most)), float(most))
        self._clock = clock
        self._told = False
        self._in_flight = 0
        self._resting = 0
        self._idle_since = clock()
        # By turn: later ones first. Ordered dictionaries, since those who leave do so from anywhere in the line.
        self._lines: tuple[OrderedDict[asyncio.Future[Slot], None], ...] = (OrderedDict(), OrderedDict())
        # Until when, by session; the oldest first.
        self._expected: dict[str, float] = {}
        self.on_room: Callable[[], None] = lambda: None
        """Called when there may be room for another session."""

    @property
    def limit(self) -> int:
        """Edits that may be in flight now."""
        return self._pace.limit if self._fixed is None else self._fixed

    @property
    def edit_s(self) -> float:
        """Seconds within which most edits are back, lately, from when they have their place; 0 while that is not known.

        Nearly all, where others wait for a place: an edit that comes too late costs them theirs. Otherwise it is worth a try.
        """
        distances = _NEARLY_ALL if self.waiting else _MOST
        return self._pace.waited_s + self._pace.worked_s + distances * self._pace.spread_s

    @property
    def in_flight(self) -> int:
        """Edits that have a place, those among them that were refused and wait to be sent again included."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Edits of sessions in this replica's hands that wait for a place."""
        return sum(len(line) for line in self._lines)

    def room(self) -> int:
        """How many more sessions could be started now: the free places, and a quarter of the limit to wait here.

        Those who wait fill the places of edits whose sessions go on to their critique, so the pool never waits for a session
        to be claimed. Sessions that come back from there fill the line before new ones do: what is started beyond it are as
        many sessions as have a critique under way, and no more; those are the runner's to bound. A session that was claimed
        is here only after some milliseconds: `expect` counts it until then.
        """
        self._forget_late()
        spare = self.limit + max(1, self.limit // 4) - self._in_flight - self.waiting - len(self._expected)
        return max(0, spare)

    def expect(self, session_id: str) -> None:
        """A session was claimed and is on its way here, until it asks for a place. One that does not come soon (it waits for a
        person, its checklist is slow) is forgotten after some seconds.
        """
        self._forget_late()
        self._expected.pop(session_id, None)
        self._expected[session_id] = self._clock() + _ON_THEIR_WAY_S

    def forget(self, session_id: str) -> None:
        """A session comes no more: it ended, or is another replica's."""
        if self._expected.pop(session_id, None):
            self.on_room()

    def _forget_late(self) -> None:
        now = self._clock()
        for session_id, until in list(self._expected.items()):
            if until > now:
                break
            del self._expected[session_id]

    @contextlib.asynccontextmanager
    async def place(self, *, later: bool, session_id: str = "") -> AsyncIterator[Slot]:
        """Wait for a place, and hold it. Whoever is cancelled, waiting or holding, leaves none behind.

        Args:
            later: whether the edit is of a session's second or later turn.
            session_id: whose it is, which is then expected no more.
        """
        self._expected.pop(session_id, None)
        place = await self._enter(self._lines[0 if later else 1])
        try:
            yield place
        finally:
            place._left()  # noqa: SLF001 - two halves of one thing
            self._give_back()

    async def _enter(self, line: OrderedDict[asyncio.Future[Slot], None]) -> Slot:
        if not self._in_flight:
            self._pace = rested(self._pace, self._clock() - self._idle_since)
        if self._in_flight < self.limit and not self.waiting:
            return self._take()
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        line[turn] = None
        try:
            return await turn
        except asyncio.CancelledError:
            line.pop(turn, None)
            if turn.done() and not turn.cancelled():
                # It got its place in the moment in which it was cancelled.
                self._give_back()
            else:
                self.on_room()
            raise

    def _take(self) -> Slot:
        self._in_flight += 1
        return Slot(self, beside(self._pace, self._in_flight, self._resting))

    def _give_back(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle_since = self._clock()
        self._call()
        self.on_room()

    def _call(self) -> None:
        """Give every free place to whoever is next, and wake nobody else."""
        for line in self._lines:
            while line and self._in_flight < self.limit:
                turn, _ = line.popitem(last=False)
                if not turn.done():
                    turn.set_result(self._take())

    def _answered(self, elapsed_s: float, waited_s: float | None, beside: float | None) -> None:
        self._told = self._told or waited_s is not None
        in_use = self._in_flight >= self.limit or self.waiting > 0
        self._pace = answered(self._pace, Answer(max(0.0, elapsed_s), waited_s, beside, in_use))
        self._call()

    def _refused(self, now: float) -> None:
        self._pace = refused(self._pace, now, told=self._told)

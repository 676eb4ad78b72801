"""The journal of the editor workers, and how much of their work was useful."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Work:
    """One edit on one slot of one worker; times are Unix seconds.

    Attributes:
        key: the text of the request; the same text is the same work.
        end: None while it is under way.
        delivered: whether a caller received the picture.
    """

    worker: int
    key: str
    begin: float
    end: float | None = None
    delivered: bool = False


def slot_seconds(works: Iterable[Work], begin: float, end: float) -> float:
    """Slot-seconds of the works between two moments."""
    return sum(max(0.0, min(work.end or end, end) - max(work.begin, begin)) for work in works)


def useful(works: Sequence[Work]) -> list[Work]:
    """The first delivered work of every key, or the work under way for a key without one."""
    found: dict[str, Work] = {}
    for work in sorted(works, key=lambda work: work.begin):
        before = found.get(work.key)
        if (work.delivered or work.end is None) and (before is None or (before.end is None and work.delivered)):
            found[work.key] = work
    return list(found.values())


def goodput(works: Sequence[Work], begin: float, end: float, slots: int) -> float:
    """Share of the pool's capacity between two moments that was useful work."""
    return slot_seconds(useful(works), begin, end) / (slots * (end - begin))


def wasted(works: Sequence[Work]) -> tuple[int, float]:
    """Count and slot-seconds of finished work that was not delivered or was a repeat."""
    kept = {id(work) for work in useful(works)}
    waste = [work for work in works if id(work) not in kept and work.end is not None]
    return len(waste), sum(work.end - work.begin for work in waste if work.end is not None)


def full_at(works: Sequence[Work], slots: int) -> float:
    """The first moment at which so many works were under way; NaN if there was none."""
    changes = sorted([(work.begin, 1) for work in works] + [(work.end, -1) for work in works if work.end is not None])
    under_way = 0
    for at, change in changes:
        under_way += change
        if under_way >= slots:
            return at
    return float("nan")

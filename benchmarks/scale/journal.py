"""What the editor workers did, and how much of it was of use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Work:
    """One edit on one slot of one worker; times are Unix seconds.

    Attributes:
        key: what was asked for; the same words asked for again are the same work again.
        end: None while it is under way.
        delivered: whether somebody was there to take the picture.
    """

    worker: int
    key: str
    begin: float
    end: float | None = None
    delivered: bool = False


def slot_seconds(works: Iterable[Work], begin: float, end: float) -> float:
    """Seconds of slots that works took between two moments."""
    return sum(max(0.0, min(work.end or end, end) - max(work.begin, begin)) for work in works)


def useful(works: Sequence[Work]) -> list[Work]:
    """The first delivered work of every key, and what is under way for a key that has none yet."""
    found: dict[str, Work] = {}
    for work in sorted(works, key=lambda work: work.begin):
        before = found.get(work.key)
        if (work.delivered or work.end is None) and (before is None or (before.end is None and work.delivered)):
            found[work.key] = work
    return list(found.values())


def goodput(works: Sequence[Work], begin: float, end: float, slots: int) -> float:
    """Share of the pool's capacity between two moments that went into work of use."""
    return slot_seconds(useful(works), begin, end) / (slots * (end - begin))


def wasted(works: Sequence[Work]) -> tuple[int, float]:
    """(works, slot-seconds) of finished work that nobody took, or that was done before."""
    kept = {id(work) for work in useful(works)}
    waste = [work for work in works if id(work) not in kept and work.end is not None]
    return len(waste), sum(work.end - work.begin for work in waste if work.end is not None)


def full_at(works: Sequence[Work], slots: int) -> float:
    """The first moment at which so many works were under way; not a number if there was none."""
    changes = sorted([(work.begin, 1) for work in works] + [(work.end, -1) for work in works if work.end is not None])
    under_way = 0
    for at, change in changes:
        under_way += change
        if under_way >= slots:
            return at
    return float("nan")

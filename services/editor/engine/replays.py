"""Runs by their Idempotency-Key: those under way, and the latest finished ones while there is room."""

from __future__ import annotations

from collections import OrderedDict

from services.editor.engine.run import Run

_MOST_KEPT = 1024  # finished answers; small ones must not add up beside the bytes


class Replays:
    """Remembers runs that have a key.

    Args:
        limit: how many bytes of finished pictures are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_key: OrderedDict[str, Run] = OrderedDict()

    def get(self, key: str) -> Run | None:
        """The run of a key."""
        return self._by_key.get(key)

    def add(self, run: Run) -> None:
        """A run has begun."""
        if run.key is not None:
            self._by_key[run.key] = run

    def forget(self, run: Run) -> None:
        """A run is of no use any more."""
        if run.key is not None and self._by_key.get(run.key) is run:
            del self._by_key[run.key]

    def settle(self, run: Run) -> None:
        """A run is over: keep a good answer while there is room, the latest first; a failure may be tried again."""
        if run.key is None or self._by_key.get(run.key) is not run:
            return
        if not run.succeeded:
            self.forget(run)
            return
        self._by_key.move_to_end(run.key)
        kept = [known for known in self._by_key.values() if known.succeeded]
        total = sum(known.weight for known in kept)
        for left, known in zip(range(len(kept), 0, -1), kept, strict=True):
            if total <= self._limit and left <= _MOST_KEPT:
                return
            total -= known.weight
            self.forget(known)

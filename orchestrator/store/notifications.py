"""`orchestrator.execution.runner.Notifications` on the feed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orchestrator.store.pubsub import QUIET, PubSubFanout
from orchestrator.store.scripts import KeySpace


class RedisNotifications:
    """News for the replica, from two channels that the scripts publish to."""

    def __init__(self, feed: PubSubFanout, keys: KeySpace) -> None:
        self._feed = feed
        self._keys = keys

    async def new_work(self) -> AsyncIterator[None]:
        """One item whenever there may be something to claim."""
        async for number, _ in self._feed.listen(self._keys.wake):
            if number != QUIET:
                yield None

    async def session_writes(self) -> AsyncIterator[str]:
        """Session ids that somebody else wrote to; "" when some may have been missed."""
        async for number, payload in self._feed.listen(self._keys.signal):
            if number != QUIET:
                yield payload.decode()

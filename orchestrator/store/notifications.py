"""`orchestrator.execution.runner.Notifications` on Redis pub/sub."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orchestrator.store.pubsub import QUIET, PubSubFanout
from orchestrator.store.scripts import KeySpace


class RedisNotifications:
    """Notifications for this replica, from the two channels that the scripts publish to."""

    def __init__(self, pubsub: PubSubFanout, keys: KeySpace) -> None:
        self._pubsub = pubsub
        self._keys = keys

    async def new_work(self) -> AsyncIterator[None]:
        """One item whenever there may be something to claim."""
        async for number, _ in self._pubsub.listen(self._keys.wake):
            if number != QUIET:
                yield None

    async def session_writes(self) -> AsyncIterator[str]:
        """Ids of sessions that a caller wrote to; "" when some may have been missed."""
        async for number, payload in self._pubsub.listen(self._keys.signal):
            if number != QUIET:
                yield payload.decode()

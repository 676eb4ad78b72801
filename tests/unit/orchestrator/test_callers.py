"""The leases of callers who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from orchestrator.api.shutdown import Callers


async def test_only_callers_without_a_key_have_leases() -> None:
    """A lease of another one would end its session when it leaves; nobody waits any more when all have left."""
    rounds: asyncio.Queue[set[str]] = asyncio.Queue()

    async def renew(session_ids: Collection[str]) -> None:
        rounds.put_nowait(set(session_ids))

    callers = Callers(renew, 0.001)
    renewing = asyncio.create_task(callers.renew_forever())
    with callers.waiting("keyed", leased=False), callers.waiting("alone", leased=True):
        with callers.waiting("alone", leased=True), callers.waiting("alone", leased=False):
            pass
        assert await rounds.get() == {"alone"}
    with callers.waiting("keyed", leased=False), callers.waiting("last", leased=True):
        while (renewed := await rounds.get()) != {"last"}:
            assert renewed == {"alone"}
    await callers.left()
    renewing.cancel()

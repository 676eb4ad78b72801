"""Room for pictures that are decoded."""

from __future__ import annotations

import asyncio

from orchestrator.api.decode_budget import Room

LARGE = 10_000_000


async def test_large_pictures_share_the_room() -> None:
    """Never more than it holds at a time, whoever is cancelled while it waits; all come to their turn."""
    room = Room(25_000_000)
    used = most = done = 0

    async def one(pixels: int) -> None:
        nonlocal used, most, done
        async with room.of(pixels):
            used += pixels
            most = max(most, used)
            await asyncio.sleep(0.001)
            used -= pixels
        done += 1

    tasks = [asyncio.create_task(one(LARGE + number)) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[5:10]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (done, most <= 25_000_000, most > 20_000_000) == (15, True, True)


async def test_a_picture_larger_than_the_room_goes_alone_and_small_ones_do_not_wait() -> None:
    """Neither is stuck behind the other."""
    room = Room(1)
    async with room.of(LARGE):
        async with asyncio.timeout(1), room.of(100):
            pass
        second = asyncio.create_task(room.of(LARGE).__aenter__())
        await asyncio.sleep(0.01)
        assert not second.done()
    await asyncio.wait_for(second, 1)

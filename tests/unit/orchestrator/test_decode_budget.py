"""The budget of pixels that are decoded concurrently."""

from __future__ import annotations

import asyncio

from orchestrator.api.decode_budget import DecodeBudget
from tests.doubles.waiting import LIMIT_S, turns

LARGE = 10_000_000


async def test_large_images_share_the_budget() -> None:
    """It is never exceeded, also where waiting images are cancelled; all others are decoded."""
    budget = DecodeBudget(25_000_000)
    used = most = done = 0

    async def one(pixels: int) -> None:
        nonlocal used, most, done
        async with budget.reserve(pixels):
            used += pixels
            most = max(most, used)
            await turns(3)
            used -= pixels
        done += 1

    tasks = [asyncio.create_task(one(LARGE + number)) for number in range(20)]
    await turns(1)
    for task in tasks[5:10]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (done, most <= 25_000_000, most > 20_000_000) == (15, True, True)


async def test_an_image_larger_than_the_budget_is_decoded_alone_and_small_ones_do_not_wait() -> None:
    """Neither blocks the other."""
    budget = DecodeBudget(1)
    async with budget.reserve(LARGE):
        async with asyncio.timeout(LIMIT_S), budget.reserve(100):
            pass
        second = asyncio.create_task(budget.reserve(LARGE).__aenter__())
        await turns()
        assert not second.done()
    await asyncio.wait_for(second, LIMIT_S)

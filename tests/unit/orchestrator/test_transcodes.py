"""Conversions of stored images: counted per tenant, shared, cached, and ended with their last reader."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.api.transcodes import Encoding, Transcodes
from services.errors import ApiError


@dataclass
class Pool:
    """Converts when the test says so."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[bytes] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    ended: int = 0

    async def transcode(
        self,
        data: bytes,
        output_format: str,
        compression: int | None,
        *,
        opaque: bool,
        max_side: int | None,
        param: str,
        tenant: str,
    ) -> bytes:
        self.begun.append(data)
        self.running[tenant] += 1
        self.most[tenant] = max(self.most[tenant], self.running[tenant])
        try:
            await self.gate.wait()
            return data + output_format.encode() + str(max_side or "").encode()
        finally:
            self.running[tenant] -= 1
            self.ended += 1


def transcodes(pool: Any, **options: Any) -> Transcodes:
    return Transcodes(pool, **options)


async def ask(held: Transcodes, name: str, tenant: str = "ann", max_side: int | None = None) -> bytes:
    async def load() -> bytes:
        return name.encode()

    return await held.get(name, load, Encoding("webp", max_side=max_side), tenant=tenant)


async def test_a_repeat_is_answered_from_the_cache_and_requests_at_a_time_share_the_work() -> None:
    pool = Pool()
    held = transcodes(pool)
    both = [asyncio.create_task(ask(held, "x")) for _ in range(3)]
    await settled()
    pool.gate.set()
    assert await asyncio.gather(*both) == [b"xwebp"] * 3
    assert await ask(held, "x") == b"xwebp"
    assert pool.begun == [b"x"]


async def test_each_size_is_a_conversion_of_its_own() -> None:
    pool = Pool()
    pool.gate.set()
    held = transcodes(pool)
    made = [await ask(held, "x", max_side=side) for side in (64, 128, 64, None)]
    assert made == [
        b"xwebp64",
        b"xwebp128",
        b"xwebp64",
        b"xwebp",
    ]
    assert pool.begun == [b"x"] * 3


async def test_the_cache_is_bounded_in_bytes_and_a_larger_result_is_returned_all_the_same() -> None:
    pool = Pool()
    pool.gate.set()
    held = transcodes(pool, cache_bytes=6)
    assert await ask(held, "too long") == b"too longwebp"
    for name in ("a", "b", "a"):
        await ask(held, name)
    assert pool.begun == [b"too long", b"a", b"b", b"a"]


async def test_a_tenant_s_conversions_run_two_at_a_time_and_another_s_do_not_wait_for_them() -> None:
    pool = Pool()
    held = transcodes(pool)
    tasks = [asyncio.create_task(ask(held, str(number))) for number in range(9)]
    tasks.append(asyncio.create_task(ask(held, "bob's", "bob")))
    await settled()
    assert sorted(pool.begun) == [b"0", b"1", b"bob's"]
    pool.gate.set()
    await asyncio.gather(*tasks)
    assert pool.most == {"ann": 2, "bob": 1} and not held._tenants


async def test_the_conversions_that_wait_are_bounded_and_others_are_not_refused() -> None:
    pool = Pool()
    held = transcodes(pool)
    tasks = [asyncio.create_task(ask(held, str(number))) for number in range(34)]
    await settled()
    with pytest.raises(ApiError) as refused:
        await ask(held, "one more")
    assert (refused.value.code, refused.value.param, refused.value.retry_after) == ("overloaded", "format", 2)
    other = asyncio.create_task(ask(held, "bob's", "bob"))
    await settled()
    assert b"bob's" in pool.begun
    pool.gate.set()
    await asyncio.gather(other, *tasks)


async def test_a_conversion_ends_with_its_last_reader_and_a_later_one_begins_again() -> None:
    pool = Pool()
    held = transcodes(pool)
    first, second = (asyncio.create_task(ask(held, "x")) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    assert pool.running["ann"] == 1
    second.cancel()
    later = asyncio.create_task(ask(held, "x"))
    await settled()
    assert pool.ended == 1
    pool.gate.set()
    assert await later == b"xwebp"
    assert pool.begun == [b"x", b"x"] and not held._tenants and not held._made._under_way


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)

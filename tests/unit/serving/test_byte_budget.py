"""Bytes that requests hold at a time: a total, a share, an order, and a refusal after a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request

from services.errors import ApiError
from services.serving import byte_budget
from services.serving.byte_budget import SMALL, ByteBudget, receiving
from tests.doubles.waiting import turns

MIB = 1024 * 1024


async def hold(budget: ByteBudget, holder: str, size: int, release: asyncio.Event) -> None:
    async with budget.open(holder) as held:
        await held.grow(size)
        await release.wait()


async def test_one_holder_waits_for_itself_and_delays_no_other() -> None:
    budget, release = ByteBudget(100, 50), asyncio.Event()
    tasks = [asyncio.create_task(hold(budget, "ann", 50, release)) for _ in range(3)]
    await turns(3)
    assert budget.used == 50

    async with asyncio.timeout(5), budget.open("bob") as held:
        await held.grow(50)
        assert budget.used == 100
    release.set()
    await asyncio.gather(*tasks)
    assert budget.used == 0


async def test_a_large_one_is_not_overtaken_for_ever_and_is_let_in_alone() -> None:
    """It is larger than the whole budget."""
    budget, first, last = ByteBudget(100), asyncio.Event(), asyncio.Event()
    small = asyncio.create_task(hold(budget, "ann", 10, first))
    await turns(2)
    large = asyncio.create_task(hold(budget, "bob", 500, last))
    await turns(2)
    later = asyncio.create_task(hold(budget, "cat", 10, last))
    await turns(2)
    assert budget.used == 10

    first.set()
    await small
    await turns(2)
    assert budget.used == 500
    last.set()
    await asyncio.gather(large, later)


async def test_after_a_time_it_is_refused_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_budget, "WAIT_S", 0.01)
    budget, release = ByteBudget(100), asyncio.Event()
    task = asyncio.create_task(hold(budget, "ann", 100, release))
    await turns(2)
    with pytest.raises(ApiError) as caught:
        await hold(budget, "bob", 1, release)
    assert (caught.value.code, caught.value.status, budget.refused) == ("overloaded", 429, 1)
    assert caught.value.retry_after

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    release.set()
    await hold(budget, "bob", 100, release)
    assert budget.used == 0


async def test_a_cancelled_wait_lets_the_next_in() -> None:
    budget, release = ByteBudget(100), asyncio.Event()
    tasks = [asyncio.create_task(hold(budget, name, size, release)) for name, size in (("a", 60), ("b", 90), ("c", 40))]
    await turns(3)
    tasks[1].cancel()
    await turns(3)
    assert budget.used == 100
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)


def request(pieces: list[bytes], length: int | None) -> Request:
    messages: Iterator[dict[str, Any]] = iter(
        [*({"type": "http.request", "body": piece, "more_body": True} for piece in pieces), {"type": "http.request", "body": b""}]
    )

    async def receive() -> Any:
        return next(messages)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


@pytest.mark.parametrize(("pieces", "length", "held"), [(3, 3 * MIB, 6 * MIB), (3, None, 6 * MIB), (0, SMALL, 0)])
async def test_a_body_is_held_by_its_length_or_as_it_arrives(pieces: int, length: int | None, held: int) -> None:
    budget = ByteBudget(100 * MIB)
    async with receiving(budget, request([bytes(MIB)] * pieces, length), "ann", factor=2) as read:
        assert len(await read.body()) == pieces * MIB
        assert budget.used == held
    assert budget.used == 0


@pytest.mark.parametrize("length", [3 * MIB, None])
async def test_a_request_does_not_wait_for_its_own_body(length: int | None) -> None:
    """The pictures in a body are held in addition to it, and together they may be more than a share."""
    budget = ByteBudget(8 * MIB, 4 * MIB)
    async with (
        asyncio.timeout(5),
        budget.open("ann") as held,
        receiving(budget, request([bytes(MIB)] * 3, length), "ann", held=held) as read,
    ):
        await read.body()
        await held.grow(6 * MIB)
        assert budget.used == 9 * MIB
    assert budget.used == 0


async def test_a_large_body_that_does_not_come_delays_no_other_tenant() -> None:
    """Its length is more than a tenant's share, and with its copies more than the whole budget."""
    budget = ByteBudget(8 * MIB, 4 * MIB)
    async with (
        asyncio.timeout(5),
        receiving(budget, request([], 9 * MIB), "ann", factor=2),
        receiving(budget, request([bytes(MIB)], MIB), "bob", factor=2) as read,
    ):
        await read.body()
        assert budget.used == 2 * MIB


async def test_a_large_body_is_held_as_it_arrives() -> None:
    budget = ByteBudget(8 * MIB, 4 * MIB)
    async with asyncio.timeout(5), receiving(budget, request([bytes(MIB)] * 6, 6 * MIB), "ann", factor=2) as read:
        await read.body()
        assert budget.used == 12 * MIB
    assert budget.used == 0


async def test_a_body_without_a_length_is_refused_while_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_budget, "WAIT_S", 0.01)
    budget = ByteBudget(2 * MIB)
    async with budget.open("ann") as held:
        await held.grow(MIB)
        with pytest.raises(ApiError):
            async with receiving(budget, request([bytes(MIB)] * 9, None), "bob") as read:
                await read.body()
    assert budget.used == 0

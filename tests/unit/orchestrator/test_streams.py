"""Limits of event streams: each tenant has its own, and a slot is released however a stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
from typing import Any

import pytest

from orchestrator.api.live import (
    AccessEndedError,
    Ends,
    EventStreamResponse,
    Listings,
    ShuttingDownError,
    StreamLimits,
    until,
)
from services.errors import ApiError
from tests.doubles.waiting import turns

SCOPE = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}


async def frames(*, until: asyncio.Event) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    await until.wait()


class Client:
    """A connection; it breaks at the first byte of a body if it is told so."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.begun, self.left, self.breaks = asyncio.Event(), asyncio.Event(), breaks

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            self.begun.set()
            if self.breaks:
                raise OSError("broken")


def test_each_tenant_has_its_own_slots() -> None:
    """The error names the limit; a released slot can be used again."""
    streams = StreamLimits(most=2)
    first, _, _ = (streams.open("ann"), streams.open("ann"), streams.open("bob"))
    with pytest.raises(ApiError, match="2 event streams") as caught:
        streams.open("ann")
    first.close()

    assert (caught.value.code, caught.value.status) == ("quota_exceeded", 429)
    streams.open("ann")
    with pytest.raises(ApiError):
        streams.open("ann")


def test_without_a_bound_every_stream_is_accepted() -> None:
    """Without keys all callers are one tenant."""
    streams = StreamLimits(None)
    slots = [streams.open("") for _ in range(5000)]
    for slot in slots:
        slot.close()
    assert not streams._open


async def test_the_end_of_a_stream_leaves_its_place() -> None:
    """Its own end, a client that vanishes, a connection that breaks, a request that is cut off, before its first byte too."""
    streams = StreamLimits(most=1)

    async def ends(client: Client, how: str) -> None:
        over = asyncio.Event()
        response = EventStreamResponse(frames(until=over), streams.open("ann"))
        serving = asyncio.create_task(response(SCOPE, client.receive, client.send))
        if how != "cut at once":
            await client.begun.wait()
        else:
            await turns(1)
        over.set() if how == "over" else client.left.set() if how == "left" else serving.cancel()
        await asyncio.wait([serving])

    for how in ("over", "left", "cut", "cut at once"):
        await ends(Client(), how)
    await ends(Client(breaks=True), "broken")
    streams.open("ann")


async def test_a_stream_ends_when_its_key_does() -> None:
    """Without an item in between; and at a shutdown as before."""
    valid = [True, True, False]

    async def admitted() -> bool:
        return valid.pop(0)

    silent = asyncio.Event()

    async def items() -> AsyncGenerator[int]:
        yield 1
        await silent.wait()

    stream = until(Ends(asyncio.Event(), admitted, recheck_s=0.001), items())
    assert await anext(stream) == 1
    with pytest.raises(AccessEndedError):
        await anext(stream)
    assert valid == []

    stopping = asyncio.Event()
    stopping.set()
    with pytest.raises(ShuttingDownError):
        await Ends(stopping, admitted).come()


async def test_a_tenant_makes_one_list_at_a_time() -> None:
    """Others do not wait for it, until there are as many as the server makes at a time."""
    listings, order = Listings(most=2), list[str]()
    release = asyncio.Event()

    async def make(tenant: str) -> None:
        async with listings.slot(tenant):
            order.append(tenant)
            await release.wait()

    tasks = [asyncio.create_task(make(tenant)) for tenant in ("ann", "ann", "bob", "cat")]
    while len(order) < 2:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert order == ["ann", "bob"]
    release.set()
    await asyncio.gather(*tasks)
    assert sorted(order) == ["ann", "ann", "bob", "cat"]

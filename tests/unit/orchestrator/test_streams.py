"""Places of event streams: each tenant's own, given back however a stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from orchestrator.api.live import StreamOf, Streams
from services.errors import ApiError

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


def test_places_are_a_tenants_own() -> None:
    """The error says how many there are; one that is left can be taken."""
    streams = Streams(most=2)
    first, _, _ = (streams.place("ann"), streams.place("ann"), streams.place("bob"))
    with pytest.raises(ApiError, match="2 event streams") as caught:
        streams.place("ann")
    first.close()

    assert (caught.value.code, caught.value.status) == ("quota_exceeded", 429)
    streams.place("ann")
    with pytest.raises(ApiError):
        streams.place("ann")


def test_without_a_bound_there_are_as_many_as_come() -> None:
    """Where keys are off everybody is one tenant."""
    streams = Streams(None)
    places = [streams.place("") for _ in range(5000)]
    for place in places:
        place.close()
    assert not streams._open


async def test_the_end_of_a_stream_leaves_its_place() -> None:
    """Its own end, a client that vanishes, a connection that breaks, a request that is cut off, before its first byte too."""
    streams = Streams(most=1)

    async def ends(client: Client, how: str) -> None:
        over = asyncio.Event()
        response = StreamOf(frames(until=over), streams.place("ann"))
        serving = asyncio.create_task(response(SCOPE, client.receive, client.send))
        if how != "cut at once":
            await client.begun.wait()
        else:
            await asyncio.sleep(0)
        over.set() if how == "over" else client.left.set() if how == "left" else serving.cancel()
        await asyncio.wait([serving])

    for how in ("over", "left", "cut", "cut at once"):
        await ends(Client(), how)
    await ends(Client(breaks=True), "broken")
    streams.place("ann")

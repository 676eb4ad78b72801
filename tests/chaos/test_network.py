"""Network faults: the plan, and that each fault reaches the connections that it is meant for."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.network import MOMENTS, ON_THE_WAY, SETTLE_S, WEIGHTS, Disturbance, Link, Network, links, schedule
from tests.chaos.test_plan import FLEET
from tests.doubles.tcp_proxy import Fault
from tests.doubles.waiting import until

LINKS = links({**FLEET, "front-1": "haproxy"})
LONG_S = 900


def test_every_pair_of_processes_that_talk_has_a_link() -> None:
    assert len(LINKS) == len(set(LINKS)) == 1 + 3 * (1 + 1 + 1 + 1 + 2) + 3
    assert {link.kind for link in LINKS} == set(WEIGHTS)


@pytest.mark.parametrize("seed", range(5))
def test_every_moment_comes_and_every_kind_of_link_is_disturbed(seed: int) -> None:
    """No link has two faults at a time; the same seed gives the same plan."""
    plan = list(schedule(seed, LINKS, 1, LONG_S))
    busy: dict[Link, float] = {}
    for at_s, found in plan:
        for link in found.links:
            assert busy.get(link, 0) <= at_s
            busy[link] = at_s + found.lasts_s + SETTLE_S
        assert 0 < found.lasts_s < 5
    moments = {moment.name for moment in MOMENTS}
    assert moments <= {found.name for _, found in plan}
    chance = [found for _, found in plan if found.name not in moments]
    assert {found.links[0].kind for found in chance} == set(WEIGHTS)
    assert {found.fault.mode for found in chance} == {"delay", "drip", "stall", "half-open", "reset", "cut"}
    assert plan == list(schedule(seed, LINKS, 1, LONG_S))
    assert plan != list(schedule(seed + 1, LINKS, 1, LONG_S))


@pytest.mark.parametrize("seed", range(5))
def test_random_faults_leave_one_editor_and_one_thinker(seed: int) -> None:
    """A session cannot go on without any."""
    moments = {moment.name for moment in MOMENTS}
    busy: dict[Link, float] = {}
    for at_s, found in schedule(seed, LINKS, 1, LONG_S):
        kind = found.links[0].kind
        if found.name not in moments and kind not in ON_THE_WAY:
            others = [link for link in LINKS if link.kind == kind and link not in found.links]
            assert any(busy.get(link, 0) <= at_s for link in others)
        busy |= dict.fromkeys(found.links, at_s + found.lasts_s + SETTLE_S)


async def test_a_fault_is_on_its_link_alone_and_ends() -> None:
    """A caller's lost connection is reset at the end; a connection of ours stays lost."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    caller, ours, other = Link("callers", "a", "callers"), Link("a", "b", "redis"), Link("c", "b", "redis")
    async with Network({"a": port, "b": port}, [caller, ours, other]) as network:
        ports = [network.routes[link.source, link.target] for link in (caller, ours, other)]
        streams = [await asyncio.open_connection("127.0.0.1", port) for port in ports]

        async def sent(place: int) -> bytes:
            reader, writer = streams[place]
            writer.write(b"x")
            return await reader.read(1)

        assert [await sent(place) for place in range(3)] == [b"x"] * 3
        lost = Disturbance("lost", (caller, ours), Fault("half-open"), 1)
        network.begin(lost)
        waiting = [asyncio.create_task(sent(place)) for place in range(2)]
        assert await sent(2) == b"x"
        await until(lambda: network.met(lost) == 2)
        network.end(lost)
        with pytest.raises(ConnectionResetError):
            await waiting[0]
        assert await sent(2) == b"x"
        assert not waiting[1].done()
        waiting[1].cancel()
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[1])
        writer.write(b"y")
        assert await reader.read(1) == b"y"
    server.close()

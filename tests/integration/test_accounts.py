"""Bytes in Redis and of images: counted for each session and tenant, and bounded."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from orchestrator.loop import events as ev
from orchestrator.ports.errors import PortError
from orchestrator.ports.stores import Bounds, Claim
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions
from orchestrator.webhooks.model import Attempt, Delivery
from orchestrator.webhooks.schedule import delivery_id, event_body
from orchestrator.webhooks.storage import WebhookStore
from tests.doubles.processes import Process
from tests.integration.test_queues import Queues

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1000, width=4, height=3)
LONG = "😀" * 24_000
DAY_S = 86_400.0


@pytest.fixture
async def queues(redis: Process) -> AsyncGenerator[Queues]:
    client = Redis(port=redis.port, db=7)
    await client.flushdb()
    queues = Queues(client)
    await queues.wait(0)
    yield queues
    await client.flushdb()
    await client.aclose()


def created(queues: Queues, instruction: str = "x") -> ev.SessionCreated:
    at = queues.now / 1000
    limits = ev.Limits(deadline_at=at + 600)
    return ev.SessionCreated(at=at, source=IMAGE, instruction=instruction, editor="e", thinker="t", limits=limits, tenant="ann")


def turn(number: int, instruction: str = LONG) -> ev.TurnStarted:
    return ev.TurnStarted(at=1, turn=number, instruction=instruction, author="caller", candidates=1, first_seed=0)


def finished() -> ev.Finished:
    return ev.Finished(at=1, reason="cancelled", best=None, totals=ev.Totals())


async def claimed(queues: Queues, instruction: str = "x", name: str = "ses") -> Claim:
    await queues.store.create(name, created(queues, instruction), None)
    return (await queues.claim()).claims[0]


async def log_bytes(queues: Queues) -> int:
    return sum(int(count) for count in await queues.redis.hvals(f"{KeySpace().prefix}bytes:ann"))


async def blob_bytes(store: RedisSessions, redis: Redis) -> int:
    return int(await redis.hget(f"{KeySpace().prefix}blobs", "ann") or 0)


async def used(queues: Queues) -> int:
    return int((await queues.redis.info("memory"))["used_memory"])


async def test_what_is_counted_is_what_redis_takes(queues: Queues) -> None:
    """Of small sessions with the longest keys, which take ten times their events; and of their webhooks."""
    before = await used(queues)
    for number in range(300):
        await queues.create(key=f"{number:05}{'é' * 250}", name=f"ses_{number:032x}")
    counted, took = await log_bytes(queues), await used(queues) - before
    assert took / 1.3 < counted < took * 1.3

    attempt = Attempt(at=1_700_000_000.123, error="no TLS connection: the certificate is not trusted", duration_s=0.123)
    webhooks = WebhookStore(queues.redis, KeySpace(), queues.store.scripts, DAY_S)
    for claim in (await queues.claim(100)).claims:
        deliveries = [
            Delivery(
                id=delivery_id(claim.session_id, 2, f"{number}"),
                tenant="ann",
                session_id=claim.session_id,
                seq=2,
                webhook=f"whk_{number:032x}",
                type="session.finished",
                body=event_body(
                    "session.finished",
                    1,
                    {"id": claim.session_id, "status": "finished", "finish_reason": "cancelled"},
                    "evt_1",
                ),
                attempts=(attempt,) * 10,
            )
            for number in range(16)
        ]
        await webhooks.schedule(claim.session_id, deliveries)
    assert await used(queues) - before - took < 1.3 * (await log_bytes(queues) - counted)


async def test_twenty_turns_with_one_long_instruction_store_it_once(queues: Queues) -> None:
    """Reads of the whole log, of its end, of many logs and of its last event give complete events."""
    events = [turn(number) for number in range(1, 21)]
    claim = await claimed(queues, LONG)
    for number, event in enumerate(events, 1):
        assert await queues.store.append("ses", number, [event], claim.fence)

    assert (await queues.redis.memory_usage(KeySpace().log("ses")) or 0) < 1.3 * len(LONG.encode())
    assert [entry.event for entry in await queues.store.read("ses")] == [created(queues, LONG), *events]
    assert [entry.event for entry in await queues.store.read("ses", after=19)] == events[18:]
    last = await queues.store.tail("ses")
    assert last and last.event == events[-1]
    [many] = await queues.store.read_many(["ses"])
    assert [entry.event for entry in many][1:] == events
    [raw] = await queues.store.raw_logs(["ses"])
    assert all(b"instruction_at" not in event for _, event in raw)


async def test_a_tenant_at_its_bytes_of_redis_gets_429_until_it_deletes(queues: Queues) -> None:
    claim = await claimed(queues, LONG)
    bounds = Bounds(log_bytes=len(LONG.encode()))

    with pytest.raises(PortError, match="delete finished sessions") as refused:
        await queues.create(bounds=bounds)
    assert refused.value.code == "quota_exceeded"
    assert (await queues.create("bob", bounds=bounds)).fresh
    assert await queues.store.append("ses", 1, [finished()], claim.fence)
    assert await queues.store.delete("ses", "ann")
    assert await log_bytes(queues) == 0
    assert (await queues.create(bounds=bounds)).fresh


async def test_bytes_of_a_finished_session_are_counted_until_it_leaves_redis(queues: Queues) -> None:
    claim = await claimed(queues, LONG)
    assert await queues.store.append("ses", 1, [finished()], claim.fence)
    bytes_before = await log_bytes(queues)
    assert await queues.store.expire("ses", "ann", DAY_S, None)
    assert await queues.store.expire("ses", "ann", DAY_S, None), "a chore may be repeated"
    assert await log_bytes(queues) == bytes_before > len(LONG.encode())

    bounds = Bounds(log_bytes=len(LONG.encode()))
    await queues.wait(int(DAY_S * 1000) - 1)
    with pytest.raises(PortError):
        await queues.create(bounds=bounds)
    await queues.wait(int(DAY_S * 1000 / 16) + 1)
    assert (await queues.create(bounds=bounds)).fresh


async def test_a_count_that_was_never_taken_back_lapses(queues: Queues) -> None:
    """A replica of an earlier version finishes and deletes without counting."""
    await claimed(queues, LONG)
    await queues.redis.delete(KeySpace().meta("ses"), KeySpace().log("ses"))

    await queues.wait(int(DAY_S * 1000 * 17 / 16) + 600_001)
    assert (await queues.create(bounds=Bounds(log_bytes=1000))).fresh


async def test_images_are_counted_until_their_session_is_deleted(queues: Queues) -> None:
    """Also after its log has left Redis."""
    claim = await claimed(queues)
    edited = ev.Edited(at=1, turn=1, candidate=1, image=IMAGE, editor_seconds=1)
    assert await queues.store.append("ses", 1, [turn(1), edited, finished()], claim.fence)
    assert await blob_bytes(queues.store, queues.redis) == 2000

    with pytest.raises(PortError, match="images") as refused:
        await queues.create(bounds=Bounds(blob_bytes=2000))
    assert refused.value.code == "quota_exceeded"
    await queues.redis.delete(KeySpace().meta("ses"), KeySpace().log("ses"))
    assert await queues.store.delete("ses", "ann")
    assert await queues.store.delete("ses", "ann")
    assert await blob_bytes(queues.store, queues.redis) == 0
    assert (await queues.create(bounds=Bounds(blob_bytes=2000))).fresh


async def test_references_and_mask_count_with_the_source(queues: Queues) -> None:
    """For the tenant, and until the session is deleted."""
    several = created(queues).model_copy(update={"references": (IMAGE, IMAGE), "mask": IMAGE, "version": 2})
    await queues.store.create("ses", several, None)
    assert await blob_bytes(queues.store, queues.redis) == 4000
    claim = (await queues.claim()).claims[0]
    assert await queues.store.append("ses", 1, [finished()], claim.fence)
    with pytest.raises(PortError, match="images"):
        await queues.create(bounds=Bounds(blob_bytes=4000))
    assert await queues.store.delete("ses", "ann")
    assert await blob_bytes(queues.store, queues.redis) == 0

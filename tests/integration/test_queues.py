"""Who is driven next, on a real Redis with a clock of the test's own: tenants in turn, places, waits, and what goes first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from orchestrator.loop import events as ev
from orchestrator.ports import Bounds, Claim, Created, Idempotency, PortError, Taken
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions, SessionsOptions
from tests.doubles.processes import Process
from tests.model import texts

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
LEASE_MS = 10_000


class Lines:
    """The store, the time, and short words for what these tests ask."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.now = 1_700_000_000_000
        self.made = 0
        self.store = self.with_options()

    def with_options(self, *, cap: int = 100, most: int = 10_000) -> RedisSessions:
        self.store = texts.sessions(
            self.redis,
            KeySpace(),
            SessionsOptions(lease_s=LEASE_MS / 1000, tenant_cap=cap, most_unfinished=most),
            small=False,
        )
        return self.store

    async def wait(self, ms: int) -> None:
        self.now += ms
        await self.redis.set(KeySpace().prefix + texts.CLOCK, self.now)

    async def create(
        self, tenant: str = "ann", *, deadline_s: float = 600, key: str = "", name: str = "", bounds: Bounds | None = None
    ) -> Created:
        self.made += 1
        at = self.now / 1000
        event = ev.SessionCreated(
            at=at,
            source=IMAGE,
            instruction="x",
            editor="e",
            thinker="t",
            limits=ev.Limits(deadline_at=at + deadline_s),
            tenant=tenant,
        )
        name = name or f"{tenant}-{self.made:03}"
        return await self.store.create(name, event, Idempotency(key, "f") if key else None, bounds)

    async def claim(self, n: int = 1, *, urgent: int = 10, chores: int = 0, webhook_chores: int = 0, replica: str = "r") -> Taken:
        return await self.store.claim(replica, {"e": n} if n else {}, urgent=urgent, chores=chores, webhook_chores=webhook_chores)

    async def names(self, n: int = 1) -> list[str]:
        return [claim.session_id for claim in (await self.claim(n)).claims]

    async def finish(self, claim: Claim) -> None:
        end = ev.Finished(at=self.now / 1000, reason="cancelled", best=None, totals=ev.Totals())
        seq = len(await self.store.read(claim.session_id))
        assert await self.store.append(claim.session_id, seq, [end], claim.fence)


@pytest.fixture
async def lines(redis: Process) -> AsyncGenerator[Lines]:
    """In a database of its own."""
    client = Redis(port=redis.port, db=5)
    await client.flushdb()
    lines = Lines(client)
    await lines.wait(0)
    yield lines
    await client.flushdb()
    await client.aclose()


async def test_tenants_take_turns_however_many_sessions_each_has(lines: Lines) -> None:
    """A flood of one tenant's does not delay another's; round by round as well as within a round."""
    for _ in range(20):
        await lines.create("ann")
    for _ in range(4):
        await lines.create("bob")
    one_by_one = [(await lines.names())[0][:3] for _ in range(4)]
    at_once = [name[:3] for name in await lines.names(6)]

    assert one_by_one == ["ann", "bob", "ann", "bob"]
    assert at_once == ["ann", "bob", "ann", "bob", "ann", "ann"]


async def test_a_tenant_at_its_cap_waits_for_its_own_sessions_only(lines: Lines) -> None:
    """It is passed over, and is in line again as soon as one of its own ends."""
    lines.with_options(cap=2)
    for _ in range(4):
        await lines.create("ann")
    first = await lines.claim(4)
    await lines.create("bob")
    beyond = await lines.names(4)
    await lines.finish(first.claims[0])

    assert [claim.session_id for claim in first.claims] == ["ann-001", "ann-002"]
    assert beyond == ["bob-005"]
    assert await lines.names(4) == ["ann-003"]


@pytest.mark.parametrize("seed", range(12))
async def test_places_are_exact(lines: Lines, seed: int) -> None:
    """As many go before a session as its place says, with every tenant at any point of its turn, and begun ones first."""
    dice = random.Random(seed)
    for _ in range(dice.randrange(5, 25)):
        await lines.create(dice.choice(["ann", "ann", "ann", "bob", "cy"]))
        await lines.wait(dice.choice([0, 1]))
    begun = (await lines.claim(dice.randrange(4))).claims
    for claim in begun[::2]:
        await lines.store.suspend(claim, 1, None)
    waiting = [f"{tenant}-{number:03}" for number in range(1, lines.made + 1) for tenant in ("ann", "bob", "cy")]
    places = {name: place.ahead for name in waiting if (place := await lines.store.queue_position(name))}
    order: list[str] = []
    while claimed := await lines.names():
        order += claimed

    assert [places[name] for name in order] == list(range(len(places)))


async def test_too_many_sessions_are_refused(lines: Lines) -> None:
    """Finishing one makes room for another."""
    lines.with_options(most=2)
    await lines.create()
    await lines.create()
    with pytest.raises(PortError) as refusal:
        await lines.create()
    await lines.finish((await lines.claim()).claims[0])

    assert (refusal.value.code, refusal.value.retryable) == ("overloaded", True)
    assert (await lines.create()).fresh


async def test_the_wait_is_told_at_a_steady_pace(lines: Lines) -> None:
    """Two sessions a second: the fourth in line waits two seconds, and who has less time than the line takes is refused."""
    for _ in range(20):
        await lines.create()
    for _ in range(10):
        await lines.claim()
        await lines.wait(500)
    place = await lines.store.queue_position("ann-014")
    assert place is not None
    with pytest.raises(PortError, match="about 6 s, beyond the deadline of 3 s"):
        await lines.create(deadline_s=3)

    assert place.ahead == 3
    assert place.wait_s == pytest.approx(2.0, rel=0.15)
    assert (await lines.create("bob", deadline_s=3)).fresh


async def test_an_idle_lane_has_no_pace(lines: Lines) -> None:
    """A line that ended by a cancel, then nothing for an hour, then a burst: that hour was not its pace."""
    await lines.create()
    await lines.create()
    assert await lines.names() == ["ann-001"]
    assert await lines.store.append("ann-002", 1, [ev.CancelRequested(at=1.0)], None)
    await lines.names(0)
    await lines.wait(3_600_000)
    for _ in range(8):
        await lines.create()
    assert len(await lines.names(5)) == 5

    for _ in range(10):
        assert (await lines.create(deadline_s=20)).fresh


async def test_sessions_that_are_too_late_for_an_edit_take_nobodys_room(lines: Lines) -> None:
    """They come beside those that are wanted, and the line is no faster for them."""
    await lines.store.report_durations({"e": 5.0}, {})
    for _ in range(4):
        await lines.create()
    for number in range(12):
        await lines.create("bob" if number % 2 else "cid", deadline_s=14)
    for _ in range(2):
        await lines.claim()
        await lines.wait(5_000)
    taken = await lines.names(2)
    place = await lines.store.queue_position("ann-004")

    assert [name for name in taken if name.startswith("ann")] == ["ann-002", "ann-003"]
    assert len(taken) > 4
    assert place is not None and place.wait_s is None


async def test_cancelled_and_late_sessions_need_no_room(lines: Lines) -> None:
    """They come in a round that wants nothing for any editor, although their tenant is at its cap."""
    lines.with_options(cap=1)
    for deadline_s in (600, 600, 20, 600):
        await lines.create(deadline_s=deadline_s)
    assert await lines.names() == ["ann-001"]
    assert await lines.store.append("ann-002", 1, [ev.CancelRequested(at=1.0)], None)
    cancelled = await lines.names(0)
    await lines.wait(20_001)
    await lines.store.renew_lease("r")

    assert cancelled == ["ann-002"]
    assert [claim.session_id for claim in (await lines.claim(0)).claims if claim.session_id == "ann-003"] == ["ann-003"]
    assert await lines.store.queue_position("ann-003") is None


async def test_chores_come_again_until_they_are_done(lines: Lines) -> None:
    """Whoever asks next gets what the first one has not done within six leases."""
    await lines.create()
    await lines.finish((await lines.claim()).claims[0])
    first = (await lines.claim(chores=1)).chores
    at_once = (await lines.claim(chores=1)).chores
    await lines.wait(6 * LEASE_MS)
    again = (await lines.claim(chores=1, replica="other")).chores
    await lines.store.complete_chore(again[0])
    await lines.wait(6 * LEASE_MS)

    assert first == again == ("archive:ann-001",)
    assert at_once == ()
    assert (await lines.claim(chores=1)).chores == ()


async def test_chores_that_nobody_has_room_for_delay_no_session(lines: Lines) -> None:
    """A blob store that hangs holds up archiving, not deadlines."""
    await lines.create("bob", deadline_s=30)
    (claim,) = (await lines.claim()).claims
    assert await lines.store.suspend(claim, 1, lines.now / 1000 + 30)
    for _ in range(401):
        await lines.create()
    for ended in (await lines.claim(401)).claims:
        await lines.finish(ended)
    await lines.wait(30_001)
    woken = [claim.session_id for _ in range(4) for claim in (await lines.claim(0)).claims]
    await lines.wait(1_000)

    assert woken == ["bob-001"]
    assert len((await lines.claim(chores=64)).chores) == 64


async def test_webhooks_and_the_blob_store_have_hands_of_their_own(lines: Lines) -> None:
    """What finds none comes again in a second, whatever the other sort has."""
    due = {f"archive:a-{number}": 0 for number in range(3)} | {f"hook:a-{number}/9": 1 for number in range(3)}
    await lines.redis.zadd(f"{KeySpace().prefix}timers", due)
    first = (await lines.claim(0, chores=2, webhook_chores=1)).chores
    await lines.wait(1_000)
    second = (await lines.claim(0, chores=0, webhook_chores=5)).chores
    await lines.wait(1_000)

    assert first == ("archive:a-0", "archive:a-1", "hook:a-0/9")
    assert second == ("hook:a-1/9", "hook:a-2/9")
    assert (await lines.claim(0, chores=9, webhook_chores=9)).chores == ("archive:a-2",)


async def test_a_stray_goes_back_to_the_front_of_its_line(lines: Lines) -> None:
    """With a new fence, before sessions that nobody began; what another replica owns is not touched."""
    for _ in range(3):
        await lines.create()
    (lost,) = (await lines.claim()).claims
    await lines.store.release("other", lost.session_id)
    assert await lines.store.owned("r") == {lost.session_id}
    await lines.store.release("r", lost.session_id)
    (found,) = (await lines.claim(replica="other")).claims

    assert await lines.store.owned("r") == set()
    assert found.session_id == lost.session_id
    assert found.fence > lost.fence


async def test_twenty_creates_under_one_key_make_one_session(lines: Lines) -> None:
    """All of them are told the same id, and one that it is new."""
    made = await asyncio.gather(*(lines.create(key="k", name=f"try-{number}") for number in range(20)))

    assert len({created.session_id for created in made}) == 1
    assert sum(created.fresh for created in made) == 1
    assert (await lines.store.queue_stats()).unfinished == 1
    assert len(await lines.names(20)) == 1


async def test_a_create_that_arrives_twice_makes_one_session(lines: Lines) -> None:
    """Its answer was lost and the client asked again: what happened in between is not forgotten."""
    await lines.create(name="a")
    (claim,) = (await lines.claim()).claims
    await lines.create(name="a")

    assert (await lines.store.queue_stats()).unfinished == 1
    assert await lines.names() == []
    assert await lines.store.append("a", 1, [ev.CancelRequested(at=1.0)], claim.fence)


async def test_a_create_that_arrives_twice_is_no_repeat_of_itself(lines: Lines) -> None:
    """Under a caller's key, too: it is told that it is new, both times. Another try under that key is not."""
    once, twice = [await lines.create(name="a", key="k") for _ in range(2)]
    other = await lines.create(name="b", key="k")

    assert once == twice == Created("a", fresh=True, fingerprint="f")
    assert other == Created("a", fresh=False, fingerprint="f")


async def test_a_tenant_may_have_so_many_unfinished_sessions(lines: Lines) -> None:
    """Others do not count, an end makes room, and a repeat under the same key is no other session."""
    two = Bounds(unfinished=2)
    await lines.create("bob")
    await lines.create(bounds=two, key="k")
    await lines.create(bounds=two)
    with pytest.raises(PortError, match="2 of your sessions are not finished") as refused:
        await lines.create(bounds=two)
    assert (refused.value.code, refused.value.retry_after) == ("quota_exceeded", 5)
    assert not (await lines.create(bounds=two, key="k")).fresh
    await lines.finish(next(claim for claim in (await lines.claim(3)).claims if claim.session_id.startswith("ann")))
    assert (await lines.create(bounds=two)).fresh


async def test_what_an_earlier_version_finished_counts_for_an_hour_more(lines: Lines) -> None:
    """It does not know of the count, and leaves a session in it."""
    one = Bounds(unfinished=1)
    await lines.create(bounds=one, deadline_s=60)
    await lines.finish((await lines.claim()).claims[0])
    await lines.redis.zadd(f"{KeySpace().prefix}open:ann", {"ann-001": lines.now + 60_000})
    await lines.wait(3_600_000)
    with pytest.raises(PortError, match="not finished"):
        await lines.create(bounds=one)
    await lines.wait(120_000)
    assert (await lines.create(bounds=one)).fresh


async def test_editor_seconds_of_a_day_come_back_at_midnight(lines: Lines) -> None:
    """UTC by the server's clock; what failed counts too, and what was counted is forgotten after some days."""
    five = Bounds(editor_s_per_day=5)
    day = 86_400_000
    await lines.wait(day - lines.now % day - 10_000)
    await lines.create(bounds=five)
    claim = (await lines.claim()).claims[0]
    turn = ev.TurnStarted(at=0, turn=1, instruction="x", author="caller", candidates=2, first_seed=0)
    edited = ev.Edited(at=0, turn=1, candidate=1, image=IMAGE, editor_seconds=2.75)
    failed = ev.EditFailed(at=0, turn=1, candidate=2, attempt=1, code="x", message="x", retryable=False, editor_seconds=2.5)
    assert await lines.store.append(claim.session_id, 1, [turn, edited], claim.fence)
    assert (await lines.create(bounds=five)).fresh
    assert await lines.store.append(claim.session_id, 3, [failed], claim.fence)
    assert not await lines.store.append(claim.session_id, 3, [failed], claim.fence)
    with pytest.raises(PortError, match="midnight") as refused:
        await lines.create(bounds=five)
    assert refused.value.retry_after == 11
    assert (await lines.create("bob", bounds=five)).fresh
    spent = f"{KeySpace().prefix}spent:{lines.now // day}"
    assert await lines.redis.hget(spent, "ann") == b"5.25"
    assert 0 < await lines.redis.ttl(spent) <= 3 * 86_400
    await lines.wait(10_000)
    assert (await lines.create(bounds=five)).fresh

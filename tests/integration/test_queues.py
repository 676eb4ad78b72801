"""The queues on a real Redis with a controlled clock: tenants in turn, positions, waits, and urgent sessions."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from orchestrator.loop import events as ev
from orchestrator.ports.errors import PortError
from orchestrator.ports.stores import Bounds, Claim, Created, Idempotency, Share, Taken, Wanted
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions, SessionsOptions
from tests.doubles.processes import Process
from tests.model import texts

IMAGE = ev.ImageRef(sha256="0" * 64, media_type="image/png", bytes=1, width=4, height=3)
LEASE_MS = 10_000


class Queues:
    """The store, the clock, and shortcuts for these tests."""

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
        self,
        tenant: str = "ann",
        *,
        deadline_s: float = 600,
        key: str = "",
        name: str = "",
        bounds: Bounds | None = None,
        thinker: str = "t",
        ahead_ms: int = 0,
    ) -> Created:
        self.made += 1
        at = (self.now + ahead_ms) / 1000
        event = ev.SessionCreated(
            at=at,
            source=IMAGE,
            instruction="x",
            editor="e",
            thinker=thinker,
            limits=ev.Limits(deadline_at=at + deadline_s),
            tenant=tenant,
        )
        name = name or f"{tenant}-{self.made:03}"
        return await self.store.create(name, event, Idempotency(key, "f") if key else None, bounds)

    async def claim(self, n: int = 1, *, urgent: int = 10, chores: int = 0, webhook_chores: int = 0, replica: str = "r") -> Taken:
        wanted = Wanted({"e": n} if n else {}, urgent=urgent, chores=chores, webhook_chores=webhook_chores)
        return await self.store.claim(replica, wanted)

    async def names(self, n: int = 1) -> list[str]:
        return [claim.session_id for claim in (await self.claim(n)).claims]

    async def finish(self, claim: Claim) -> None:
        end = ev.Finished(at=self.now / 1000, reason="cancelled", best=None, totals=ev.Totals())
        seq = len(await self.store.read(claim.session_id))
        assert await self.store.append(claim.session_id, seq, [end], claim.fence)


@pytest.fixture
async def queues(redis: Process) -> AsyncGenerator[Queues]:
    """A store in its own database."""
    client = Redis(port=redis.port, db=5)
    await client.flushdb()
    queues = Queues(client)
    await queues.wait(0)
    yield queues
    await client.flushdb()
    await client.aclose()


async def test_tenants_take_turns_regardless_of_how_many_sessions_each_has(queues: Queues) -> None:
    """A flood of one tenant does not delay another, over several rounds and within one."""
    for _ in range(20):
        await queues.create("ann")
    for _ in range(4):
        await queues.create("bob")
    one_by_one = [(await queues.names())[0][:3] for _ in range(4)]
    at_once = [name[:3] for name in await queues.names(6)]

    assert one_by_one == ["ann", "bob", "ann", "bob"]
    assert at_once == ["ann", "bob", "ann", "bob", "ann", "ann"]


async def test_an_export_that_begins_with_a_session_has_it(queues: Queues) -> None:
    """However far its replica's estimate of Redis' clock is off: the time that counts is the one that callers are shown."""
    ahead = {f"ann-{ms}": ms for ms in (300, -300, 0)}
    for name, ms in ahead.items():
        await queues.create(name=name, ahead_ms=ms)
    oldest_first = [(queues.now + ms, name) for name, ms in sorted(ahead.items(), key=lambda each: each[1])]
    for number, (at, _) in enumerate(oldest_first):
        assert await queues.store.created_between("ann", at, None, 10) == oldest_first[number:]
        assert await queues.store.created_between("ann", 0, at, 10) == oldest_first[:number]


async def test_a_tenant_at_its_cap_waits_for_its_own_sessions_only(queues: Queues) -> None:
    """It is skipped, and queued again as soon as one of its own sessions ends."""
    queues.with_options(cap=2)
    for _ in range(4):
        await queues.create("ann")
    first = await queues.claim(4)
    await queues.create("bob")
    beyond = await queues.names(4)
    await queues.finish(first.claims[0])

    assert [claim.session_id for claim in first.claims] == ["ann-001", "ann-002"]
    assert beyond == ["bob-005"]
    assert await queues.names(4) == ["ann-003"]


async def edited(queues: Queues, claim: Claim, seconds: float) -> None:
    """One edit of a session, which took so long."""
    seq = len(await queues.store.read(claim.session_id))
    turn = ev.TurnStarted(at=0, turn=1, instruction="x", author="caller", candidates=1, first_seed=0)
    edit = ev.Edited(at=0, turn=1, candidate=1, image=IMAGE, editor_seconds=seconds)
    assert await queues.store.append(claim.session_id, seq, [turn, edit], claim.fence)


async def test_turns_are_by_editor_seconds(queues: Queues) -> None:
    """A tenant whose session took ten seconds waits until the other has had as much."""
    await queues.create("ann")
    for _ in range(20):
        await queues.create("bob")
    await queues.create("ann")
    (claim,) = (await queues.claim()).claims
    await edited(queues, claim, 10.0)
    order = [name[:3] for _ in range(20) for name in await queues.names()]

    assert order.index("ann") == 10


async def test_an_edit_is_charged_once(queues: Queues) -> None:
    """What a claim is charged in advance covers what is then reported, and is given back where nothing was."""
    work = f"{KeySpace().prefix}work:e"
    for _ in range(3):
        await queues.create("ann")
    first, second = (await queues.claim(2)).claims
    charged = float(await queues.redis.zscore(work, "ann") or 0)
    await edited(queues, first, 0.25)
    half_done = float(await queues.redis.zscore(work, "ann") or 0)
    await queues.finish(first)
    await queues.finish(second)

    assert charged == pytest.approx(2000, abs=1)
    assert half_done == charged
    assert float(await queues.redis.zscore(work, "ann") or 0) == pytest.approx(250, abs=1)


async def test_idle_time_is_no_credit_in_the_queue(queues: Queues) -> None:
    """A tenant that comes after an hour starts level with the others."""
    for _ in range(30):
        await queues.create("ann")
    for claim in (await queues.claim(10)).claims:
        await edited(queues, claim, 360.0)
    for _ in range(5):
        await queues.create("bob")

    assert sorted(name[:3] for name in await queues.names(4)) == ["ann", "ann", "bob", "bob"]


async def test_a_tenant_that_leaves_and_comes_back_is_not_level_at_once(queues: Queues) -> None:
    """One heavy session after the other is no way to get more than many that are queued."""
    for _ in range(60):
        await queues.create("bob")
    (bobs,) = (await queues.claim()).claims
    await queues.create("ann")
    (heavy,) = (await queues.claim()).claims
    await edited(queues, heavy, 10.0)
    await queues.finish(heavy)
    await queues.create("ann")
    order = [name[:3] for _ in range(20) for name in await queues.names()]

    assert bobs.session_id.startswith("bob") and heavy.session_id.startswith("ann")
    assert 8 <= order.index("ann") <= 11


async def test_tenants_below_their_share_get_more_than_the_capacity(queues: Queues) -> None:
    """Where the edits of one fill the slots: up to twice the slots of all replicas by the tenants, and nothing for that one."""
    for _ in range(8):
        await queues.create("ann")
    assert len(await queues.names(5)) == 5
    for _ in range(8):
        await queues.create("bob")
    wanted = Wanted({}, shares={"e": Share(3, 4)})
    more = [[claim.session_id[:3] for claim in (await queues.store.claim("r", wanted)).claims] for _ in range(6)]

    assert more == [["bob"]] * 4 + [[]] * 2


async def test_a_tenant_alone_gets_no_more_than_the_capacity(queues: Queues) -> None:
    """What it has begun is finished first."""
    for _ in range(4):
        await queues.create("ann")
    await queues.names()

    assert (await queues.store.claim("r", Wanted({}, shares={"e": Share(3, 8)}))).claims == ()


async def test_a_claim_brings_no_more_than_a_replica_can_drive(queues: Queues) -> None:
    for _ in range(4):
        await queues.create("ann")

    assert len((await queues.store.claim("r", Wanted({"e": 4, "f": 4}, most=3))).claims) == 3


async def test_a_session_waits_for_a_replica_that_knows_its_thinker(queues: Queues) -> None:
    """It stands in the way of neither its tenant's other sessions nor another tenant's."""
    await queues.create("ann", thinker="new")
    await queues.create("ann", thinker="old")
    await queues.create("bob", thinker="old")
    old = (await queues.store.claim("r", Wanted({"e": 5}, thinkers={"old"}))).claims
    place = await queues.store.queue_position("ann-001")
    new = (await queues.store.claim("r2", Wanted({"e": 5}, thinkers={"old", "new"}))).claims

    assert [claim.session_id for claim in old] == ["ann-002", "bob-003"]
    assert place is not None and place.ahead == 0
    assert [claim.session_id for claim in new] == ["ann-001"]


async def test_the_day_of_a_budget_ends_at_midnight_utc(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every time zone of the replica."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        with pytest.raises(PortError, match="used up") as caught:
            await queues.create(bounds=Bounds(editor_s_per_day=0))
    finally:
        monkeypatch.undo()
        time.tzset()
    midnight = 1_700_006_400  # 2023-11-15 00:00 UTC
    assert caught.value.retry_after == pytest.approx(midnight - queues.now / 1000 + 1)


async def test_a_session_that_was_given_back_waits_for_a_replica_that_knows_its_thinker(queues: Queues) -> None:
    """Replicas that lack it do not pass it on to each other; only its deadline is anybody's."""
    await queues.create("ann", thinker="new", deadline_s=60)
    (claim,) = (await queues.store.claim("r", Wanted({"e": 5}, thinkers={"new"}))).claims
    other = texts.sessions(queues.redis, KeySpace(), SessionsOptions(lease_s=LEASE_MS / 1000), small=False)
    lacking = (("a", queues.store), ("b", other))
    assert await queues.store.suspend(claim, 1, queues.now / 1000 + 2, untried=True)
    taken = []
    for _ in range(5):
        await queues.wait(2_000)
        taken += [await store.claim(name, Wanted({"e": 5}, urgent=10, thinkers={"old"})) for name, store in lacking]
    (again,) = (await queues.store.claim("r", Wanted({"e": 5}, urgent=10, thinkers={"new"}))).claims
    assert not any(found.claims for found in taken)
    assert (again.session_id, again.attempts) == (claim.session_id, 1)

    assert await queues.store.suspend(again, 1, queues.now / 1000 + 2, untried=True)
    await queues.wait(60_000)
    (late,) = (await other.claim("b", Wanted({"e": 5}, urgent=10, thinkers={"old"}))).claims
    assert late.session_id == claim.session_id


async def test_a_replica_that_knows_no_thinker_in_the_queue_leaves_it_as_it_is(queues: Queues) -> None:
    for name in ("ann", "bob"):
        await queues.create(name, thinker="new")
    before = await queues.redis.zrange(f"{KeySpace().prefix}turns:e", 0, -1, withscores=True)
    assert (await queues.store.claim("r", Wanted({"e": 5}, thinkers=set()))).claims == ()

    assert await queues.redis.zrange(f"{KeySpace().prefix}turns:e", 0, -1, withscores=True) == before
    assert len(await queues.names(5)) == 2


async def test_feedback_that_asks_for_more_work_does_not_jump_the_queue(queues: Queues) -> None:
    """Neither of a queued session nor of a suspended one; what ends a session needs no editor and does not wait."""
    for _ in range(4):
        await queues.create()
    (claim,) = (await queues.claim()).claims
    assert await queues.store.suspend(claim, 1, queues.now / 1000 + 60)
    instruct = ev.FeedbackGiven(at=1.0, action="instruct", instruction="more")
    for name in ("ann-001", "ann-003"):
        assert await queues.store.append(name, 1, [instruct], None)
    assert await queues.names(0) == []
    assert await queues.store.append("ann-004", 1, [ev.FeedbackGiven(at=1.0, action="accept")], None)

    assert await queues.names(0) == ["ann-004"]
    assert await queues.names(4) == ["ann-001", "ann-002", "ann-003"]


async def test_tenants_that_an_earlier_version_queued_are_found(queues: Queues) -> None:
    """It keeps them in a list; and does not know of the counts of work."""
    keys = KeySpace().prefix
    await queues.create("ann")
    await queues.redis.delete(f"{keys}turns:e", f"{keys}work:e")
    await queues.redis.rpush(f"{keys}ring:e", "ann")
    await queues.redis.zadd(f"{keys}work:e", {"gone": -5000})

    assert await queues.names(3) == ["ann-001"]
    assert await queues.redis.zrange(f"{keys}work:e", 0, -1) == [b"ann"]
    assert not await queues.redis.exists(f"{keys}ring:e")


async def test_a_position_among_many_tenants_is_an_estimate_within_bounds(queues: Queues) -> None:
    """The next one of a tenant has one of each other before it, at most; nobody is behind all who wait."""
    for _ in range(2):
        for number in range(100):
            await queues.create(f"t{number:02}")
            await queues.wait(10)
    places = [await queues.store.queue_position(f"t{number % 100:02}-{number + 1:03}") for number in range(200)]
    ahead = [place.ahead for place in places if place]

    assert ahead == [*range(100), *range(100, 200)]


@pytest.mark.parametrize("seed", range(12))
async def test_queue_positions_are_exact(queues: Queues, seed: int) -> None:
    """Sessions are claimed in the order of their positions, at every point of the tenants' turns, started ones first."""
    dice = random.Random(seed)
    for _ in range(dice.randrange(5, 25)):
        await queues.create(dice.choice(["ann", "ann", "ann", "bob", "cy"]))
        await queues.wait(dice.choice([0, 1]))
    begun = (await queues.claim(dice.randrange(4))).claims
    for claim in begun[::2]:
        await queues.store.suspend(claim, 1, None)
    waiting = [f"{tenant}-{number:03}" for number in range(1, queues.made + 1) for tenant in ("ann", "bob", "cy")]
    places = {name: place.ahead for name in waiting if (place := await queues.store.queue_position(name))}
    order: list[str] = []
    while claimed := await queues.names():
        order += claimed

    assert [places[name] for name in order] == list(range(len(places)))


async def test_too_many_sessions_are_refused(queues: Queues) -> None:
    """Finishing one lets another in."""
    queues.with_options(most=2)
    await queues.create()
    await queues.create()
    with pytest.raises(PortError) as refusal:
        await queues.create()
    await queues.finish((await queues.claim()).claims[0])

    assert (refusal.value.code, refusal.value.retryable) == ("overloaded", True)
    assert (await queues.create()).fresh


async def test_the_wait_is_reported_from_a_steady_pace(queues: Queues) -> None:
    """Two sessions a second: the fourth waits two seconds, and a session with less time than the queue takes is refused."""
    for _ in range(20):
        await queues.create()
    for _ in range(10):
        await queues.claim()
        await queues.wait(500)
    place = await queues.store.queue_position("ann-014")
    assert place is not None
    with pytest.raises(PortError, match="about 6 s, beyond the deadline of 3 s"):
        await queues.create(deadline_s=3)

    assert place.ahead == 3
    assert place.wait_s == pytest.approx(2.0, rel=0.15)
    assert (await queues.create("bob", deadline_s=3)).fresh


async def test_idle_time_does_not_count_toward_the_pace(queues: Queues) -> None:
    """A queue that ends by a cancellation, then an idle hour, then a burst: the hour is not part of the pace."""
    await queues.create()
    await queues.create()
    assert await queues.names() == ["ann-001"]
    assert await queues.store.append("ann-002", 1, [ev.CancelRequested(at=1.0)], None)
    await queues.names(0)
    await queues.wait(3_600_000)
    for _ in range(8):
        await queues.create()
    assert len(await queues.names(5)) == 5

    for _ in range(10):
        assert (await queues.create(deadline_s=20)).fresh


async def test_sessions_that_are_too_late_for_an_edit_use_no_capacity(queues: Queues) -> None:
    """They are claimed in addition to the capacity, and do not count toward the pace."""
    await queues.store.report_durations({"e": 5.0}, {})
    for _ in range(4):
        await queues.create()
    for number in range(12):
        await queues.create("bob" if number % 2 else "cid", deadline_s=14)
    for _ in range(2):
        await queues.claim()
        await queues.wait(5_000)
    taken = await queues.names(2)
    place = await queues.store.queue_position("ann-004")

    assert [name for name in taken if name.startswith("ann")] == ["ann-002", "ann-003"]
    assert len(taken) > 4
    assert place is not None and place.wait_s is None


async def test_cancelled_and_late_sessions_need_no_capacity(queues: Queues) -> None:
    """They are claimed in a round without capacity for any editor, although their tenant is at its cap."""
    queues.with_options(cap=1)
    for deadline_s in (600, 600, 20, 600):
        await queues.create(deadline_s=deadline_s)
    assert await queues.names() == ["ann-001"]
    assert await queues.store.append("ann-002", 1, [ev.CancelRequested(at=1.0)], None)
    cancelled = await queues.names(0)
    await queues.wait(20_001)
    await queues.store.renew_lease("r")

    assert cancelled == ["ann-002"]
    assert [claim.session_id for claim in (await queues.claim(0)).claims if claim.session_id == "ann-003"] == ["ann-003"]
    assert await queues.store.queue_position("ann-003") is None


async def test_chores_are_due_again_until_they_are_completed(queues: Queues) -> None:
    """A chore that was not completed within six leases goes to the next replica that claims."""
    await queues.create()
    await queues.finish((await queues.claim()).claims[0])
    first = (await queues.claim(chores=1)).chores
    at_once = (await queues.claim(chores=1)).chores
    await queues.wait(6 * LEASE_MS)
    again = (await queues.claim(chores=1, replica="other")).chores
    await queues.store.complete_chore(again[0])
    await queues.wait(6 * LEASE_MS)

    assert first == again == ("archive:ann-001",)
    assert at_once == ()
    assert (await queues.claim(chores=1)).chores == ()


async def test_chores_beyond_the_capacity_delay_no_session(queues: Queues) -> None:
    """A blob store that hangs delays archiving, not deadlines."""
    await queues.create("bob", deadline_s=30)
    (claim,) = (await queues.claim()).claims
    assert await queues.store.suspend(claim, 1, queues.now / 1000 + 30)
    for _ in range(401):
        await queues.create()
    for ended in (await queues.claim(401)).claims:
        await queues.finish(ended)
    await queues.wait(30_001)
    woken = [claim.session_id for _ in range(4) for claim in (await queues.claim(0)).claims]
    await queues.wait(1_000)

    assert woken == ["bob-001"]
    assert len((await queues.claim(chores=64)).chores) == 64


async def test_a_backlog_of_chores_delays_no_deadline(queues: Queues) -> None:
    """Rounds follow one another until the session behind them is found; the backlog is put off, the more there is the longer."""
    await queues.create("bob", deadline_s=30)
    (claim,) = (await queues.claim()).claims
    assert await queues.store.suspend(claim, 1, queues.now / 1000 + 30)
    await queues.redis.zadd(f"{KeySpace().prefix}timers", {f"hook:a-{number}/9": 1 for number in range(5_000)})
    await queues.wait(30_001)
    rounds: list[Taken] = []
    while not rounds or rounds[-1].more:
        rounds.append(await queues.claim(0))
    await queues.wait(1_001)
    due_again = await queues.redis.zcount(f"{KeySpace().prefix}timers", "-inf", queues.now)

    assert [claim.session_id for taken in rounds for claim in taken.claims] == ["bob-001"]
    assert len(rounds) == 26
    assert due_again <= 1_200


async def test_webhook_chores_and_other_chores_have_separate_capacities(queues: Queues) -> None:
    """A chore without capacity is due again in a second, regardless of what the other kind has."""
    due = {f"archive:a-{number}": 0 for number in range(3)} | {f"hook:a-{number}/9": 1 for number in range(3)}
    await queues.redis.zadd(f"{KeySpace().prefix}timers", due)
    first = (await queues.claim(0, chores=2, webhook_chores=1)).chores
    await queues.wait(1_000)
    second = (await queues.claim(0, chores=0, webhook_chores=5)).chores
    await queues.wait(1_000)

    assert first == ("archive:a-0", "archive:a-1", "hook:a-0/9")
    assert second == ("hook:a-1/9", "hook:a-2/9")
    assert (await queues.claim(0, chores=9, webhook_chores=9)).chores == ("archive:a-2",)


async def test_an_orphaned_session_returns_to_the_front_of_its_queue(queues: Queues) -> None:
    """With a new fence, before new sessions; sessions of other replicas are not touched."""
    for _ in range(3):
        await queues.create()
    (lost,) = (await queues.claim()).claims
    await queues.store.release("other", lost.session_id)
    assert await queues.store.owned("r") == {lost.session_id}
    await queues.store.release("r", lost.session_id)
    (found,) = (await queues.claim(replica="other")).claims

    assert await queues.store.owned("r") == set()
    assert found.session_id == lost.session_id
    assert found.fence > lost.fence


async def _takeover(queues: Queues, silences: list[int]) -> int:
    """How many sessions of replica r another one takes over, which is heard after each of these silences."""
    queues.with_options()
    await queues.create()
    await queues.claim()
    await queues.claim(0, replica="other")
    recovered = 0
    for silence in silences:
        await queues.wait(silence)
        recovered += (await queues.claim(0, replica="other")).recovered
    return recovered


async def test_nobody_is_dead_when_nobody_was_heard(queues: Queues) -> None:
    """Redis stood still for longer than a lease. Who comes first takes nothing, and the others keep their sessions."""
    assert await _takeover(queues, [5 * LEASE_MS]) == 0
    assert await queues.store.renew_lease("r")
    assert await queues.store.owned("r") == {"ann-001"}


async def test_a_renewed_lease_does_not_end_the_others_after_a_silence(queues: Queues) -> None:
    """The first to be heard may renew in place of claiming."""
    await _takeover(queues, [])
    await queues.wait(5 * LEASE_MS)
    assert await queues.store.renew_lease("other")
    assert (await queues.claim(0, replica="other")).recovered == 0
    assert await queues.store.renew_lease("r")


@pytest.mark.parametrize("silence", [0, 5 * LEASE_MS])
async def test_a_replica_that_is_silent_while_others_are_heard_is_dead(queues: Queues, silence: int) -> None:
    """Also after a silence of all, which gives it another lease, and no more than one."""
    rounds = [LEASE_MS // 3] * 4
    assert await _takeover(queues, [silence, *rounds]) == 1
    assert not await queues.store.renew_lease("r")


async def test_who_was_dead_before_a_silence_stays_dead(queues: Queues) -> None:
    """Its lease had ended when the silence began, though nobody had claimed since."""
    await _takeover(queues, [])
    for _ in range(4):
        await queues.wait(LEASE_MS // 3)
        assert await queues.store.renew_lease("other")
    await queues.wait(5 * LEASE_MS)

    assert (await queues.claim(0, replica="other")).recovered == 1


async def test_a_clock_that_goes_back_does_not_keep_the_dead_alive(queues: Queues) -> None:
    """A failover to a machine whose clock is an hour behind. Who lives renews its lease; the others' end within six leases."""
    rounds = [LEASE_MS // 3] * (3 * 6 + 1)

    assert await _takeover(queues, [-3_600_000, *rounds]) == 1


async def test_a_longer_lease_is_left_alone(queues: Queues) -> None:
    """While the setting is changed replica by replica."""
    slow = texts.sessions(queues.redis, KeySpace(), SessionsOptions(lease_s=3 * LEASE_MS / 1000), small=False)
    await slow.claim("slow", Wanted({}, urgent=1, chores=0, webhook_chores=0))
    for _ in range(6):
        await queues.wait(LEASE_MS // 3)
        await queues.claim(0, replica="other")

    assert await slow.renew_lease("slow")


async def test_the_pace_is_measured_after_the_clock_went_back(queues: Queues) -> None:
    """Not from an hour that is yet to come."""
    for _ in range(30):
        await queues.create()
    await queues.claim()
    await queues.wait(-3_600_000)
    for _ in range(10):
        await queues.wait(500)
        await queues.claim()
    place = await queues.store.queue_position("ann-015")

    assert place is not None
    assert place.wait_s == pytest.approx(2.0, rel=0.15)


async def test_twenty_creates_under_one_key_make_one_session(queues: Queues) -> None:
    """All of them return the same id, and one of them that it is new."""
    made = await asyncio.gather(*(queues.create(key="k", name=f"try-{number}") for number in range(20)))

    assert len({created.session_id for created in made}) == 1
    assert sum(created.fresh for created in made) == 1
    assert (await queues.store.queue_stats()).unfinished == 1
    assert len(await queues.names(20)) == 1


async def test_a_create_that_arrives_twice_makes_one_session(queues: Queues) -> None:
    """The answer was lost and the client retried: events recorded in between stay."""
    await queues.create(name="a")
    (claim,) = (await queues.claim()).claims
    await queues.create(name="a")

    assert (await queues.store.queue_stats()).unfinished == 1
    assert await queues.names() == []
    assert await queues.store.append("a", 1, [ev.CancelRequested(at=1.0)], claim.fence)


async def test_a_create_that_arrives_twice_is_no_repeat_of_itself(queues: Queues) -> None:
    """Also with an idempotency key: it is new both times. Another create under that key is not."""
    once, twice = [await queues.create(name="a", key="k") for _ in range(2)]
    other = await queues.create(name="b", key="k")

    assert once == twice == Created("a", fresh=True, fingerprint="f")
    assert other == Created("a", fresh=False, fingerprint="f")


async def test_unfinished_sessions_of_a_tenant_are_bounded(queues: Queues) -> None:
    """Other tenants do not count, finishing one lets another in, and a repeat under the same key counts once."""
    two = Bounds(unfinished=2)
    await queues.create("bob")
    await queues.create(bounds=two, key="k")
    await queues.create(bounds=two)
    with pytest.raises(PortError, match="2 of your sessions are not finished") as refused:
        await queues.create(bounds=two)
    assert (refused.value.code, refused.value.retry_after) == ("quota_exceeded", 5)
    assert not (await queues.create(bounds=two, key="k")).fresh
    await queues.finish(next(claim for claim in (await queues.claim(3)).claims if claim.session_id.startswith("ann")))
    assert (await queues.create(bounds=two)).fresh


async def test_sessions_finished_by_an_earlier_version_count_for_another_hour(queues: Queues) -> None:
    """That version does not remove them from the count."""
    one = Bounds(unfinished=1)
    await queues.create(bounds=one, deadline_s=60)
    await queues.finish((await queues.claim()).claims[0])
    await queues.redis.zadd(f"{KeySpace().prefix}open:ann", {"ann-001": queues.now + 60_000})
    await queues.wait(3_600_000)
    with pytest.raises(PortError, match="not finished"):
        await queues.create(bounds=one)
    await queues.wait(120_000)
    assert (await queues.create(bounds=one)).fresh


async def test_the_editor_seconds_of_a_day_reset_at_midnight(queues: Queues) -> None:
    """In UTC by the server's clock; failed edits count too, and the count expires after some days."""
    five = Bounds(editor_s_per_day=5)
    day = 86_400_000
    await queues.wait(day - queues.now % day - 10_000)
    await queues.create(bounds=five)
    claim = (await queues.claim()).claims[0]
    turn = ev.TurnStarted(at=0, turn=1, instruction="x", author="caller", candidates=2, first_seed=0)
    edited = ev.Edited(at=0, turn=1, candidate=1, image=IMAGE, editor_seconds=2.75)
    failed = ev.EditFailed(at=0, turn=1, candidate=2, attempt=1, code="x", message="x", retryable=False, editor_seconds=2.5)
    assert await queues.store.append(claim.session_id, 1, [turn, edited], claim.fence)
    assert (await queues.create(bounds=five)).fresh
    assert await queues.store.append(claim.session_id, 3, [failed], claim.fence)
    assert not await queues.store.append(claim.session_id, 3, [failed], claim.fence)
    with pytest.raises(PortError, match="midnight") as refused:
        await queues.create(bounds=five)
    assert refused.value.retry_after == 11
    assert (await queues.create("bob", bounds=five)).fresh
    spent = f"{KeySpace().prefix}spent:{queues.now // day}"
    assert await queues.redis.hget(spent, "ann") == b"5.25"
    assert 0 < await queues.redis.ttl(spent) <= 3 * 86_400
    await queues.wait(10_000)
    assert (await queues.create(bounds=five)).fresh

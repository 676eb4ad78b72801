"""Callers without an idempotency key who left, on a real Redis with a controlled clock: who joins, when, and what is begun."""

from __future__ import annotations

import pytest

from orchestrator.loop import events as ev
from orchestrator.ports.errors import AbandonedError, CallerLeftError
from orchestrator.ports.stores import Claim, Idempotency
from tests.integration.test_queues import IMAGE, Queues, queues

__all__ = ["queues"]

TURN = ev.TurnStarted(at=0, turn=1, instruction="x", author="caller", candidates=1, first_seed=0)
EDITED = ev.Edited(at=0, turn=1, candidate=1, image=IMAGE, editor_seconds=1.0)


async def call(queues: Queues, name: str, tenant: str = "ann", request: str = "r") -> str:
    """A call without a key; the session that it gets."""
    at = queues.now / 1000
    event = ev.SessionCreated(
        at=at,
        source=IMAGE,
        instruction="x",
        editor="e",
        thinker="t",
        limits=ev.Limits(deadline_at=at + 600),
        tenant=tenant,
    )
    return (await queues.store.create(name, event, Idempotency("", request))).session_id


async def leave(queues: Queues, name: str, for_s: float = 60) -> None:
    await queues.store.hand_over(name, "ann", "r", for_s, left=True)


async def begun(queues: Queues) -> Claim:
    """A session of a caller who waits, with an edit under way."""
    await call(queues, "one")
    (claim,) = (await queues.claim()).claims
    assert await queues.store.append("one", 1, [TURN], claim.fence)
    return claim


async def test_the_same_tenants_next_equal_request_joins_and_no_other(queues: Queues) -> None:
    await call(queues, "one")
    assert await call(queues, "two") == "two"
    await leave(queues, "one")
    assert await call(queues, "three", tenant="bob") == "three"
    assert await call(queues, "four", request="another") == "four"
    assert await call(queues, "five") == "one"
    assert await call(queues, "six") == "six"


async def test_two_who_left_are_replaced_one_by_one(queues: Queues) -> None:
    for name in ("one", "two"):
        await call(queues, name)
    for name in ("one", "two"):
        await leave(queues, name)
    assert [await call(queues, name) for name in ("three", "four", "five")] == ["one", "two", "five"]


async def test_while_nobody_waits_outcomes_are_recorded_and_nothing_begins(queues: Queues) -> None:
    claim = await begun(queues)
    await leave(queues, "one")
    assert await queues.store.append("one", 2, [EDITED], claim.fence)
    again = TURN.model_copy(update={"turn": 2})
    with pytest.raises(CallerLeftError):
        await queues.store.append("one", 3, [again], claim.fence)
    assert await call(queues, "two") == "one"
    assert await queues.store.append("one", 3, [again], claim.fence)


async def test_a_caller_who_left_has_longer_than_a_lease_and_then_is_gone(queues: Queues) -> None:
    """Also if a renewal that was under way comes after it left."""
    claim = await begun(queues)
    await leave(queues, "one")
    await queues.store.renew_callers(["one"])
    await queues.wait(59_000)
    assert await queues.store.append("one", 2, [EDITED], claim.fence)
    await queues.wait(2_000)
    with pytest.raises(AbandonedError):
        await queues.store.append("one", 3, [TURN.model_copy(update={"turn": 2})], claim.fence)
    assert await call(queues, "two") == "two"


async def test_a_session_is_given_up_once_its_time_is_over_and_nobody_joined(queues: Queues) -> None:
    """The time is that since its caller left last."""
    await call(queues, "one")
    await leave(queues, "one")
    await queues.wait(40_000)
    assert await call(queues, "two") == "one"
    await leave(queues, "one")
    await queues.wait(20_000)
    assert not await queues.store.take_back("one", "ann", "r")
    await queues.wait(40_000)
    assert await queues.store.take_back("one", "ann", "r")
    assert not await queues.store.take_back("one", "ann", "r")
    assert await call(queues, "three") == "three"


async def test_a_session_that_somebody_cancelled_is_not_joined(queues: Queues) -> None:
    await call(queues, "one")
    await leave(queues, "one")
    cancel = ev.CancelRequested(at=queues.now / 1000, by="caller")
    assert await queues.store.append("one", 1, [cancel], None)
    assert await call(queues, "two") == "two"


async def test_a_finished_session_is_joined_for_its_picture(queues: Queues) -> None:
    """Its caller left while it was made, or while its reply was sent."""
    claim = await begun(queues)
    await leave(queues, "one")
    await queues.finish(claim)
    assert await call(queues, "two") == "one"

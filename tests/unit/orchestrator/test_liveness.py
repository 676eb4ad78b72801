"""How long a request may be silent, and when an upstream is not asked."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.upstreams import liveness
from orchestrator.upstreams.liveness import Patience, UpstreamHealth
from tests.doubles.clock import ManualTime, manual_time
from tests.doubles.waiting import turns


def test_an_unknown_upstream_gets_its_first_limit_or_half_of_the_call() -> None:
    """So that a repeat has the rest; a short call gets the floor."""
    health = UpstreamHealth(first_s=120, min_s=10)
    assert health.limit_s(600) == 120
    assert health.limit_s(40) == 20
    assert health.limit_s(12) == 10


def test_the_limit_follows_the_observed_pace() -> None:
    """Twice the mean and four deviations; a steady upstream is known better than an erratic one."""
    steady, erratic = UpstreamHealth(min_s=1), UpstreamHealth(min_s=1)
    for number in range(50):
        steady.answered(10)
        erratic.answered(5 if number % 2 else 15)
    assert steady.limit_s(600) == pytest.approx(20, rel=0.05)
    assert 40 < erratic.limit_s(600) < 70


def test_an_upstream_that_needs_more_than_half_of_the_call_gets_it() -> None:
    """No repeat would finish anyway."""
    health = UpstreamHealth(min_s=1)
    for _ in range(50):
        health.answered(25)
    assert health.limit_s(40) == pytest.approx(25, rel=0.05)


def test_work_that_became_heavier_is_waited_for_in_the_end() -> None:
    """Each unanswered request doubles the limit, up to the time of a call; an answer ends that."""
    health = UpstreamHealth(min_s=1, max_s=600)
    for _ in range(50):
        health.answered(2)
    limits = []
    for _ in range(4):
        limits.append(round(health.limit_s(600)))
        health.unanswered()
    health.answered(30)
    assert limits == [4, 8, 16, 32]
    assert 40 < health.limit_s(600) < 100
    slow = UpstreamHealth(first_s=120, min_s=1)
    shares = []
    for _ in range(3):
        shares.append(slow.limit_s(40))
        slow.unanswered()
    assert shares == [20, 30, 35]


def test_the_breaker_opens_after_five_and_lets_one_through_after_a_pause() -> None:
    """Longer each time; an answer closes it."""
    clock = ManualTime()
    told: list[bool] = []
    health = UpstreamHealth(clock=clock.monotonic, on_change=told.append)
    for _ in range(4):
        health.unanswered()
    assert not health.is_open
    health.unanswered()
    assert health.is_open
    clock.advance(1.0)
    assert not health.is_open
    health.unanswered()
    clock.advance(0.9)
    assert health.is_open
    clock.advance(1.2)
    assert not health.is_open
    health.answered()
    assert not health.is_open and health.usual_s is None
    assert told == [True, False]


def test_requests_in_flight_together_are_given_up_once() -> None:
    """Sixteen of them open the breaker, and double limit and pause as one does."""
    clock = ManualTime()
    health = UpstreamHealth(min_s=1, clock=clock.monotonic)
    for _ in range(50):
        health.answered(2)
    began = clock.monotonic()
    clock.advance(4)
    for _ in range(16):
        health.unanswered(began)
    assert health.is_open
    assert health.limit_s(600) == pytest.approx(8, rel=0.05)
    clock.advance(1.0)
    assert not health.is_open


async def test_one_request_at_a_time_finds_out_whether_an_upstream_is_back() -> None:
    """The others wait, and go when it answered; one that is cancelled leaves its turn to another."""
    clock = ManualTime()
    health = UpstreamHealth(clock=clock.monotonic)
    for _ in range(5):
        health.unanswered()
    clock.advance(1.0)
    async with health.request():
        assert health.is_open
        waiting = asyncio.create_task(health.wait_closed())
        await turns(3)
        assert not waiting.done()
        health.answered(1.0)
    await waiting
    assert not health.is_open


def test_one_of_two_upstreams_gets_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what it usually takes; the last one gets all that is left, and none more than it may."""
    clock = manual_time(monkeypatch, liveness)
    health = UpstreamHealth(clock=clock.monotonic)
    whole = Patience.of(40)
    clock.advance(4)
    assert whole.with_others(True).for_upstream(health, 600).left_s() == 18
    assert whole.for_upstream(health, 600).left_s() == 36
    assert whole.for_upstream(health, 5).left_s() == 5
    for _ in range(50):
        health.answered(25)
    assert whole.with_others(True).for_upstream(health, 600).left_s() == pytest.approx(25, rel=0.01)
    clock.advance(100)
    assert whole.for_upstream(health, 600).left_s() == 0

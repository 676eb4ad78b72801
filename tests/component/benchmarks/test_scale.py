"""The scale benchmark: draws, accounting, the reference's choice of workers, and a small fleet over HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
from collections import Counter

import httpx
import pytest
from PIL import Image

from benchmarks.scale import front
from benchmarks.scale.against import failed_requests
from benchmarks.scale.draws import MOST_TURNS, Draws, Step, last_step
from benchmarks.scale.journal import Work, full_at, goodput, slot_seconds, useful, wasted
from benchmarks.scale.pictures import Replies
from benchmarks.scale.reference import Endpoints
from benchmarks.scale.report import Figure, at_least, percentile
from benchmarks.scale.stubs import Plan, Worker
from tests.doubles.processes import free_port
from tests.doubles.waiting import until

# --- draws ----------------------------------------------------------------------------------------------------


def test_the_same_text_takes_the_same_time_and_another_seed_draws_other_times() -> None:
    steps = [Step(number, take) for number in range(200) for take in (1, 2)]
    assert [Draws(1).edit_s(step) for step in steps] == [Draws(1).edit_s(step) for step in steps]
    assert [Draws(1).edit_s(step) for step in steps] != [Draws(2).edit_s(step) for step in steps]


def test_times_are_in_their_documented_ranges() -> None:
    draws = Draws()
    edits = [draws.edit_s(Step(number)) for number in range(2000)]
    critiques = [draws.critique_s(Step(number)) for number in range(2000)]
    assert 1 <= min(edits) < 1.1 and 7 < max(edits) <= 8
    assert 0.3 < min(critiques) < 0.31 and 0.99 < max(critiques) < 1
    assert sum(edits) / len(edits) == pytest.approx(2.9, rel=0.05)
    assert Draws(scale=0.5).edit_s(Step(7)) == pytest.approx(draws.edit_s(Step(7)) / 2)


def test_every_session_is_satisfied_by_its_last_turn_and_not_before() -> None:
    draws = Draws()
    assert Counter(draws.turns(number) for number in range(400)).keys() == {2, 3, 4, 5}
    for number in range(50):
        takes = range(1, draws.turns(number) + 1)
        assert ['"semantic": 9' in draws.critique(Step(number, take)) for take in takes] == [
            take == draws.turns(number) for take in takes
        ]
        assert draws.turns(number) < MOST_TURNS


def test_the_latest_instruction_of_a_request_is_found_among_pictures() -> None:
    body = b'{"image": "' + base64.b64encode(bytes(range(256)) * 40) + b'", "text": "wish 12 was tried as wish 12 take 3."}'
    assert last_step(body) == Step(12, 3)
    assert str(last_step(b"wish 4")) == "wish 4"
    with pytest.raises(ValueError, match="no instruction"):
        last_step(b"a wish list")


def test_a_mean_session_is_the_sum_of_its_edits() -> None:
    draws = Draws()
    by_hand = sum(draws.edit_s(Step(9, take)) for take in range(1, draws.turns(9) + 1))
    assert draws.mean_session_s(range(9, 10)) == pytest.approx(by_hand)


# --- accounting -----------------------------------------------------------------------------------------------


def test_work_counts_within_the_window_and_only_once() -> None:
    works = [
        Work(0, "a", 0, 4, delivered=True),
        Work(1, "a", 5, 7, delivered=True),  # a repeat
        Work(1, "b", 2, 3),  # not delivered
        Work(0, "b", 4, 8, delivered=True),
        Work(1, "c", 8),  # under way
    ]
    assert [(work.key, work.begin) for work in useful(works)] == [("a", 0), ("b", 4), ("c", 8)]
    assert slot_seconds(works, 2, 6) == 2 + 1 + 1 + 2
    assert goodput(works, 0, 10, 2) == (4 + 4 + 2) / 20
    assert wasted(works) == (2, 3)


def test_lost_work_is_waste_once_it_is_repeated() -> None:
    works = [Work(3, "a", 0, 2), Work(4, "a", 2, 5, delivered=True), Work(5, "z", 0, 1)]
    assert [work.worker for work in useful(works)] == [4]
    assert wasted(works) == (2, 3)


def test_a_pool_is_full_when_every_slot_is_taken_at_once() -> None:
    works = [Work(0, "a", 0, 4), Work(0, "b", 4, 9), Work(1, "c", 6), Work(1, "d", 7, 8)]
    assert full_at(works, 2) == 6 and full_at(works, 3) == 7
    assert math.isnan(full_at(works, 4))


def test_figures_say_whether_their_goal_is_met() -> None:
    assert at_least("row", "name", 0.991, 0.99).met and not at_least("row", "name", 0.98, 0.99).met
    assert [Figure("r", "n", value, unit).shown for value, unit in ((0.995, "%"), (3, ""), (12.34, "ms"), (1234.5, "s"))] == [
        "99.5%",
        "3",
        "12.3 ms",
        "1234 s",
    ]
    assert percentile([1, 2, 3, 4], 0.5) == 3 and percentile(range(101), 0.99) == 99


def test_failed_requests_are_counted_from_the_proxys_log() -> None:
    lines = [{"method": "POST", "status": status} for status in (200, 502, 429, -1)] + [{"method": "GET", "status": 503}]
    assert failed_requests(b"\n".join([b"[NOTICE] up", *(json.dumps(line).encode() for line in lines)])) == 3


# --- the reference's choices ----------------------------------------------------------------------------------


def test_every_session_of_the_reference_starts_at_the_first_worker() -> None:
    sessions = [Endpoints(["a", "b", "c"]) for _ in range(4)]
    assert [session.next() for session in sessions] == ["a"] * 4
    assert [sessions[0].next() for _ in range(4)] == ["b", "c", "a", "b"]


def test_its_round_robin_excludes_a_worker_for_a_while_after_three_failures() -> None:
    turns = front.RoundRobin([1, 2, 3])
    assert [turns.pick(0) for _ in range(4)] == [1, 2, 3, 1]
    for _ in range(front.MAX_FAILS):
        turns.failed(2, 0.0)
    assert [turns.pick(1) for _ in range(4)] == [3, 1, 3, 1]
    assert {turns.pick(front.FAIL_TIMEOUT_S + 1) for _ in range(3)} == {1, 2, 3}


def test_its_round_robin_uses_a_failed_worker_when_all_have_failed() -> None:
    turns = front.RoundRobin([1, 2])
    for port in (1, 2) * front.MAX_FAILS:
        turns.failed(port, 0.0)
    assert turns.pick(1) in {1, 2}


# --- a worker -------------------------------------------------------------------------------------------------


def _worker(slots: int = 1, queue: int = 4, scale: float = 0.02) -> Worker:
    plan = Plan(0, 0, 0, [free_port()], slots=slots, queue=queue, scale=scale)
    return Worker(0, plan, Draws(1, scale), Replies(large=False), [])


def _form(prompt: str) -> dict[str, tuple[None, str]]:
    return {"prompt": (None, prompt)}


async def test_a_worker_joins_repeats_of_a_key_and_marks_them() -> None:
    worker = _worker()
    await worker.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.plan.workers[0]}", trust_env=False) as http:
        asking = [http.post("/v1/images/edits", files=_form("wish 1"), headers={"idempotency-key": "k"}) for _ in range(2)]
        replies = [
            *await asyncio.gather(*asking),
            await http.post("/v1/images/edits", files=_form("wish 1"), headers={"idempotency-key": "k"}),
        ]
    await worker.kill()
    assert sorted(reply.headers.get("idempotent-replayed", "") for reply in replies) == ["", "true", "true"]
    assert [(work.key, work.delivered) for work in worker.journal] == [("wish 1", True)]
    assert replies[0].json()["timings"].keys() == {"queue_ms", "edit_ms", "total_ms"}


async def test_a_full_worker_refuses_with_retry_after() -> None:
    worker = _worker(queue=1, scale=100)
    await worker.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.plan.workers[0]}", trust_env=False) as http:
        asked = [asyncio.create_task(http.post("/v1/images/edits", files=_form(f"wish {n}"), timeout=60)) for n in (1, 2)]
        await until(lambda: len(worker.journal) == worker.waiting == 1)
        refused = await http.post("/v1/images/edits", files=_form("wish 3"))
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    await worker.kill()
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "overloaded"


async def test_an_edit_whose_caller_disconnected_is_stopped_unless_it_is_the_references() -> None:
    worker = _worker(slots=2, scale=100)
    await worker.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.plan.workers[0]}", trust_env=False, timeout=60) as http:
        asked = [
            asyncio.create_task(http.post("/v1/images/edits", files=_form("wish 1"))),
            asyncio.create_task(http.post("/edit", json={"image": "", "prompt": "wish 2"})),
        ]
        await until(lambda: len(worker.journal) == 2)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await until(lambda: any(work.end for work in worker.journal))
    assert [work.key for work in worker.journal if work.end] == ["wish 1"]
    assert not any(work.delivered for work in worker.journal)
    await worker.kill()


def test_no_two_replies_are_the_same_picture_and_all_decode() -> None:
    replies = Replies(large=False)
    pictures = [base64.b64decode(replies.next()) for _ in range(3)]
    assert len(set(pictures)) == 3
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
            assert image.size == (64, 48)

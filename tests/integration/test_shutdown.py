"""A replica ends while callers wait without an idempotency key: at SIGTERM they get their pictures, after kill -9 work ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.doubles.processes import Process
from tests.doubles.upstreams import Script, picture
from tests.integration.conftest import Start
from tests.integration.test_takeover import until


@pytest.fixture(autouse=True)
def two_turns(script: Script) -> None:
    """Every session has two turns (see `edit`), no matter in which order critiques come."""
    script.scores = [(3, 9)]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def edit(process: Process, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    with httpx.Client(base_url=process.url, timeout=60, trust_env=False) as api:
        return api.post(
            "/v1/images/edits", files={"image": picture()}, data={"prompt": "x", "max_turns": "2", **fields}, headers=headers
        )


def session(process: Process, session_id: str) -> dict[str, Any]:
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        found: dict[str, Any] = api.get(f"/v1/sessions/{session_id}").json()
        return found


def sessions(process: Process) -> list[dict[str, Any]]:
    with httpx.Client(base_url=process.url, timeout=30, trust_env=False) as api:
        found: list[dict[str, Any]] = api.get("/v1/sessions?limit=100").json()["data"]
        return found


def test_waiting_callers_get_their_pictures_while_the_replica_drains(
    start_orchestrator: Start, script: Script, pool: ThreadPoolExecutor
) -> None:
    """Their sessions continue on the other replica, with no edit repeated; the replica is not ready, and then ends."""
    script.hold_every = True
    first, second = start_orchestrator(), start_orchestrator()
    calls = [pool.submit(edit, first), pool.submit(edit, first, stream="true")]
    until(lambda: len(script.edits) == 2)

    first.popen.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{first.url}/readyz", trust_env=False).status_code == 503)
    script.hold_every = False
    script.release.set()
    whole, stream = (call.result(60) for call in calls)

    assert whole.status_code == 200, whole.text
    assert whole.json()["turns"] == 2
    assert "event: image_edit.completed" in stream.text
    keys = [each["key"] for each in script.edits]
    assert len(keys) == len(set(keys)) == 4
    assert first.popen.wait(60) in {0, -15}
    for answer in (whole, stream):
        assert session(second, answer.headers["x-session-id"])["status"] == "succeeded"


def test_a_repeat_after_the_drain_joins_its_session(start_orchestrator: Start, script: Script, pool: ThreadPoolExecutor) -> None:
    """Callers who would wait longer are asked to repeat; each of several equal requests gets a session of its own again."""
    script.hold_every = True
    first, second = start_orchestrator(EDITTHINKER_DRAIN_S="0.2"), start_orchestrator()
    calls = [pool.submit(edit, first) for _ in range(3)]
    until(lambda: len(script.edits) == 3)

    first.stop()
    refusals = [call.result(60) for call in calls]
    script.hold_every = False
    script.release.set()
    repeats = [call.result(60) for call in [pool.submit(edit, second, output_format="jpeg") for _ in range(3)]]

    for refusal in refusals:
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "not_ready")
        assert (refusal.headers["x-should-retry"], refusal.headers["retry-after"]) == ("true", "1")
    assert [repeat.status_code for repeat in repeats] == [200, 200, 200]
    asked = {refusal.headers["x-session-id"] for refusal in refusals}
    assert {repeat.json()["session_id"] for repeat in repeats} == asked
    assert len(sessions(second)) == 3
    fourth = edit(second)
    assert fourth.json()["session_id"] not in asked


def test_the_openai_client_repeats_by_itself(start_orchestrator: Start, script: Script, pool: ThreadPoolExecutor) -> None:
    """It sends no idempotency key, and is answered by the replica that took the port over."""
    script.hold_every = True
    first, _ = start_orchestrator(EDITTHINKER_DRAIN_S="0.2"), start_orchestrator()

    def ask() -> Any:
        with openai.OpenAI(base_url=f"{first.url}/v1", api_key="none", max_retries=8) as client:
            return client.images.edit(image=picture(), prompt="x")

    call = pool.submit(ask)
    until(lambda: len(script.edits) == 1)
    first.stop()
    script.hold_every = False
    script.release.set()
    third = start_orchestrator(port=first.port)

    assert call.result(60).data
    assert len(sessions(third)) == 1


def test_a_replica_without_others_closes_at_once(start_orchestrator: Start, script: Script, pool: ThreadPoolExecutor) -> None:
    """Nobody would continue its sessions; the repeat after its restart joins them."""
    script.hold_every = True
    first = start_orchestrator()
    call = pool.submit(edit, first)
    until(lambda: len(script.edits) == 1)
    first.stop()
    refusal = call.result(60)
    script.hold_every = False
    again = start_orchestrator(port=first.port)

    assert refusal.status_code == 503
    repeat = edit(again)
    assert repeat.json()["session_id"] == refusal.headers["x-session-id"]


@pytest.mark.parametrize("key", [None, "k"])
def test_after_kill_nine_only_sessions_that_somebody_can_get_continue(
    start_orchestrator: Start, script: Script, pool: ThreadPoolExecutor, key: str | None
) -> None:
    """Without a key the caller is gone for good: the session ends before its next turn. With one, a repeat gets the picture."""
    script.hold_edit = 1
    script.edit_delay_s = 4.0  # longer than a lease
    first, second = start_orchestrator(), start_orchestrator()
    call: Future[httpx.Response] = pool.submit(edit, first, {"idempotency-key": key} if key else None)
    until(lambda: len(script.edits) == 1)
    first.kill()
    with pytest.raises(httpx.HTTPError):
        call.result(60)
    script.release.set()
    [left] = sessions(second)
    if key is None:
        until(lambda: session(second, left["id"])["status"] == "cancelled", seconds=40)
        assert session(second, left["id"])["totals"]["turns"] <= 1
        assert len({each["key"] for each in script.edits}) == 1
    else:
        until(lambda: session(second, left["id"])["status"] == "succeeded", seconds=40)
        assert edit(second, {"idempotency-key": key}).json()["session_id"] == left["id"]


def test_a_caller_who_waits_longer_than_a_lease_is_not_gone(start_orchestrator: Start, script: Script) -> None:
    """Its lease is renewed while it waits, though its session is driven by another replica."""
    script.edit_delay_s = 4.0  # longer than a lease, which a process that gets no processor for a while must not lose
    first, _ = start_orchestrator(), start_orchestrator()

    assert edit(first).json()["turns"] == 2

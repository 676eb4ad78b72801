"""An orchestrator is killed with -9 in the middle of a turn: another, or the same again, goes on from the last event."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Poll until it holds. The limit ends a test that would never end, and asserts nothing."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it does not come about"
        time.sleep(0.01)


def test_kill_nine_in_turn_two_and_start_again(start_orchestrator: Start, script: Script) -> None:
    """The session finishes, turn 1 is not repeated, and turn 2's edit is asked for again with the same key."""
    script.hold_edit = 2
    first = start_orchestrator()
    with httpx.Client(base_url=first.url, timeout=30, trust_env=False) as api:
        session_id = create(api, seed=3).json()["id"]
    until(lambda: len(script.edits) == 2)
    first.kill()
    script.hold_edit = None
    again = start_orchestrator(port=first.port)

    with httpx.Client(base_url=again.url, timeout=30, trust_env=False) as api:
        until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "succeeded")
        session = api.get(f"/v1/sessions/{session_id}").json()
    keys = [edit["key"] for edit in script.edits]
    assert session["finish_reason"] == "satisfied"
    assert [turn["turn"] for turn in session["turns"]] == [1, 2, 3]
    assert keys == [f"{session_id}/{key}" for key in ("1/1", "2/1", "2/1", "3/1")]
    assert session["totals"]["edits"] == 3


def test_another_replica_takes_over_within_the_lease(start_orchestrator: Start, script: Script) -> None:
    """Nobody is told; the sessions of a dead replica move by themselves."""
    script.hold_edit = 1
    first, second = start_orchestrator(), None
    with httpx.Client(base_url=first.url, timeout=30, trust_env=False) as api:
        session_id = create(api).json()["id"]
    until(lambda: len(script.edits) == 1)
    second = start_orchestrator()
    first.kill()
    script.hold_edit = None

    with httpx.Client(base_url=second.url, timeout=30, trust_env=False) as api:
        until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "succeeded")


def test_sigterm_hands_sessions_over_at_once(start_orchestrator: Start, script: Script) -> None:
    """A replica that is told to go queues its sessions again; the next one need not wait for the lease."""
    script.hold_edit = 1
    first = start_orchestrator(EDITTHINKER_LEASE_S="600", EDITTHINKER_DRAIN_S="0.2")
    with httpx.Client(base_url=first.url, timeout=30, trust_env=False) as api:
        session_id = create(api).json()["id"]
    until(lambda: len(script.edits) == 1)
    second = start_orchestrator(EDITTHINKER_LEASE_S="600")
    script.hold_edit = None
    first.stop()

    with httpx.Client(base_url=second.url, timeout=30, trust_env=False) as api:
        until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "succeeded")
    assert first.popen.returncode in {0, -15}


def test_cancel_and_feedback_reach_the_replica_that_drives(start_orchestrator: Start, script: Script) -> None:
    """A word given to one replica stops the edit that another one waits for."""
    script.hold_edit = 1
    first = start_orchestrator()
    with httpx.Client(base_url=first.url, timeout=30, trust_env=False) as api:
        session_id = create(api).json()["id"]
    until(lambda: len(script.edits) == 1)
    second = start_orchestrator()
    with httpx.Client(base_url=second.url, timeout=30, trust_env=False) as api:
        reply = api.post(f"/v1/sessions/{session_id}/cancel")
        assert reply.status_code == 200
        until(lambda: api.get(f"/v1/sessions/{session_id}").json()["status"] == "cancelled")
    until(lambda: script.disconnected == 1)

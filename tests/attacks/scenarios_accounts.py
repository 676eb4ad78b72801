"""Scenarios of accounts: the longest instructions, calls that join a session, and a key that is revoked while they wait."""

from __future__ import annotations

import threading
import time

import httpx

from tests.attacks.arena import Arena, Outcome
from tests.attacks.scenario import Bound, Scenario
from tests.attacks.scenarios_http import IMAGE, SESSIONS
from tests.attacks.scenarios_work import EMOJI

LONGEST = 24_000
"""Emoji in 96,000 bytes."""
JOINING = 30
REVOKED_S = 10.0


def longest_instructions(place: Arena, outcome: Outcome) -> None:
    """Three hundred sessions, each with an instruction of its own that is as long as is accepted."""
    with place.client(timeout=120) as client:
        for number in range(300):
            prompt = f"{number:04}" + EMOJI * (LONGEST - 1)
            fields = {"prompt": prompt, "max_turns": "1"}
            reply = outcome.got(client.post(SESSIONS, files={"image": IMAGE}, data=fields))
            if reply.status_code == httpx.codes.TOO_MANY_REQUESTS:
                outcome.notes["refused after"] = f"{outcome.answers['202']} sessions"
                break
    outcome.expect(outcome.answers["429"], "the tenant's bytes of Redis are not bounded")


def joining_calls(place: Arena, outcome: Outcome) -> None:
    """Calls that wait under one Idempotency-Key, where a tenant may have five streams."""
    fields = {"prompt": "warmer", "max_turns": "1", "model": "slow"}

    def call() -> None:
        with place.client(timeout=120) as client:
            headers = {"idempotency-key": "joined"}
            outcome.got(client.post("/v1/images/edits", files={"image": IMAGE}, data=fields, headers=headers))

    threads = [threading.Thread(target=call) for _ in range(JOINING)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.expect(outcome.answers["429"], "all calls wait")


def waiting_with_a_revoked_key(place: Arena, outcome: Outcome) -> None:
    """A call that waits when its key is revoked."""
    secret, key_id = place.make_key("ann")
    headers = {"authorization": f"Bearer {secret}", "prefer": "wait=60"}
    timer = threading.Timer(1.0, place.revoke, (key_id,))
    timer.start()
    began = time.monotonic()
    with httpx.Client(base_url=place.urls["orchestrator"], headers=headers, timeout=90, trust_env=False) as client:
        fields = {"prompt": "warmer", "review": "each_turn"}
        outcome.got(client.post(SESSIONS, files={"image": IMAGE}, data=fields))
    timer.join()
    outcome.notes["answered after"] = f"{time.monotonic() - began:.1f} s"
    outcome.expect(time.monotonic() - began < REVOKED_S, "the call waits on")


SCENARIOS = [
    Scenario(
        "3",
        "the longest instructions",
        "up to 300 sessions of 24,000 emoji, each another text; QUOTA_REDIS_BYTES=16 MB",
        longest_instructions,
        Bound(redis_mib=32, cpu_s=60),
        frozenset({"202", "429"}),
        limit_s=240,
        light=False,
    ),
    Scenario(
        "13",
        "calls that join a session",
        f"{JOINING} calls of one Idempotency-Key, EDITTHINKER_TENANT_STREAMS=5",
        joining_calls,
        Bound(),
        frozenset({"200", "429"}),
        light=False,
    ),
    Scenario(
        "13",
        "a call with a revoked key",
        "Prefer: wait=60, and the key is revoked",
        waiting_with_a_revoked_key,
        Bound(),
        frozenset({"401"}),
        light=False,
    ),
]

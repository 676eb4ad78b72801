"""One tenant with five sessions of 16 candidates and 20 turns, and another with single edits, at an editor with four slots."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from redis.asyncio import Redis

from orchestrator.store.api_keys import ApiKeyStore
from orchestrator.store.scripts import KeySpace
from tests.doubles.processes import Process
from tests.doubles.upstreams import Script
from tests.integration.conftest import Start
from tests.integration.test_sessions import create
from tests.integration.test_takeover import until

SLOTS = 4
CROWD = {"candidates": 16, "max_turns": 20, "patience": 20, "deadline_s": 300, "strategy": "think_best_of_n"}


def jain(shares: list[float]) -> float:
    """Jain's index: 1 where all shares are equal, 1/n where one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


class Tenants:
    """A client of each tenant, and whose session is whose."""

    def __init__(self, url: str, keys: dict[str, str]) -> None:
        self.clients = {
            name: httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
            for name, key in keys.items()
        }
        self.owner: dict[str, str] = {}

    def begin(self, tenant: str, **fields: object) -> str:
        reply = create(self.clients[tenant], **fields)
        assert reply.status_code in {200, 202}, reply.text
        session_id: str = reply.json()["id"]
        self.owner[session_id] = tenant
        return session_id

    def order(self, script: Script) -> list[str]:
        """Whose edits the editor got, in order."""
        return [self.owner[edit["key"].partition("/")[0]] for edit in script.edits]

    def all_asked(self, singles: int) -> bool:
        """Whether every session that was claimed, so many of them with a single edit, has all its edits in slots or queued."""
        metrics = self.clients["big"].get("/metrics").text
        queued, driving = (
            float(metrics.partition(f"\n{name} ")[2].partition("\n")[0])
            for name in ('editthinker_edits_queued{editor="double"}', "editthinker_sessions_driving")
        )
        return driving > singles and queued == 16 * (driving - singles) + singles - SLOTS

    def ended(self, session_id: str) -> bool:
        return bool(self.clients[self.owner[session_id]].get(f"/v1/sessions/{session_id}").json()["finished_at"])


@pytest.fixture
def tenants(start_orchestrator: Start, redis: Process, upstreams: str, script: Script) -> Iterator[Tenants]:
    script.scores = [(3, 9)]
    editor = {"url": f"{upstreams}/editor/v1", "max_in_flight": SLOTS}
    # A lease that a busy machine does not lose, which would make it repeat edits.
    process = start_orchestrator(
        EDITTHINKER_EDITORS=json.dumps({"double": editor}), EDITTHINKER_KEYS="required", EDITTHINKER_LEASE_S="20"
    )

    async def keys() -> dict[str, str]:
        client = Redis(port=redis.port, db=1)
        try:
            store = ApiKeyStore(client, KeySpace())
            return {name: (await store.create(name, ("edit", "read")))[0] for name in ("big", "small")}
        finally:
            await client.aclose()

    found = Tenants(process.url, asyncio.run(keys()))
    yield found
    for session_id, tenant in found.owner.items():
        found.clients[tenant].post(f"/v1/sessions/{session_id}/cancel")
    for client in found.clients.values():
        client.close()


def test_a_single_edit_is_next_although_another_tenant_has_hundreds(tenants: Tenants, script: Script) -> None:
    """It is claimed although the slots and the queue are full, and gets the first slot that is free, or the second."""
    script.hold_every = True
    for _ in range(5):
        tenants.begin("big", **CROWD)
    until(lambda: len(script.edits) == SLOTS and tenants.all_asked(0))
    single = tenants.begin("small", strategy="single", deadline_s=60)
    until(lambda: tenants.all_asked(1))
    script.release.set()
    until(lambda: tenants.ended(single))

    assert tenants.order(script).index("small") <= SLOTS + 1


def test_tenants_that_want_more_than_there_is_get_the_same(tenants: Tenants, script: Script) -> None:
    """Jain's index over what the editor was sent while both had edits waiting is 0.95 at least."""
    script.hold_every = True
    for _ in range(5):
        tenants.begin("big", **CROWD)
    until(lambda: len(script.edits) == SLOTS)
    singles = [tenants.begin("small", strategy="single", deadline_s=120) for _ in range(40)]
    script.edit_delay_s = 0.4
    script.release.set()
    until(lambda: all(map(tenants.ended, singles[:30])), 100)
    order = tenants.order(script)
    last = max(n for n, tenant in enumerate(order) if tenant == "small")
    got = Counter(order[SLOTS : last + 1])

    assert jain([float(n) for n in got.values()]) >= 0.95, got

"""What is told of stores that refuse writes, and when new sessions are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from orchestrator.api.access import Access
from orchestrator.api.errors import from_port
from orchestrator.ports.errors import StorageFullError, StorageUnavailableError
from orchestrator.ports.stores import Bounds, Quota, RateUsage
from orchestrator.store import health as health_module
from orchestrator.store.health import EvictingRedisError, RedisMemory, StorageHealth


@dataclass
class Stores:
    """Both stores, and the observer of their health."""

    memory: RedisMemory = field(default_factory=lambda: RedisMemory(10, 0, "noeviction"))
    redis_fault: StorageUnavailableError | None = None
    blobs_fault: StorageUnavailableError | None = None
    appendfsync: str | None = "everysec"
    observed: list[tuple[dict[str, bool], float | None]] = field(default_factory=list)

    async def redis(self) -> RedisMemory:
        if self.redis_fault:
            raise self.redis_fault
        return self.memory

    async def blobs(self) -> None:
        if self.blobs_fault:
            raise self.blobs_fault

    def storage_checked(self, writable: Mapping[str, bool], redis_percent: float | None) -> None:
        self.observed.append((dict(writable), redis_percent))

    def health(self) -> StorageHealth:
        return StorageHealth(self.redis, self.blobs, 90, self, self.fsync)

    async def fsync(self) -> str | None:
        return self.appendfsync


async def test_a_refusal_is_told_until_writes_are_accepted_again() -> None:
    stores = Stores(redis_fault=StorageUnavailableError("OOM …", shown="the session store refuses writes (out of memory)"))
    health = stores.health()
    await health.check()

    assert health.refusals == {"redis": "the session store refuses writes (out of memory)"}
    assert stores.observed == [({"redis": False, "blobs": True}, None)]
    with pytest.raises(StorageUnavailableError) as refused:
        health.check_new_session()
    error = from_port(refused.value)
    assert (error.status, error.retry_after) == (503, 10)
    assert error.message == "the session store refuses writes (out of memory); try again"
    stores.redis_fault = None
    await health.check()
    health.check_new_session()
    assert health.refusals == {}


@pytest.mark.parametrize(("shown", "refused"), [(None, False), ("the session store refuses writes (it is read-only)", True)])
async def test_one_broken_connection_refuses_no_session(shown: str | None, *, refused: bool) -> None:
    """Redis is asked once more, unless it has answered."""
    stores = Stores()
    faults = [StorageUnavailableError("Redis did not answer: Connection closed by server.", shown=shown)]

    async def probe() -> RedisMemory:
        if faults:
            raise faults.pop()
        return await stores.redis()

    health = StorageHealth(probe, stores.blobs, 90, stores, stores.fsync)
    await health.check()

    assert ("redis" in health.refusals) == refused


async def test_a_blob_store_that_is_silent_refuses_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not keep Redis from being looked at."""
    monkeypatch.setattr(health_module, "_BLOBS_S", 0.01)
    stores = Stores()

    async def silent() -> None:
        await asyncio.Event().wait()

    health = StorageHealth(stores.redis, silent, 90, stores, stores.fsync)
    await health.check()

    assert health.refusals == {"blobs": "the blob store does not answer"}
    assert stores.observed == [({"redis": True, "blobs": False}, 0.0)]


async def test_a_full_disk_is_a_507() -> None:
    stores = Stores(blobs_fault=StorageFullError("/data …", shown="the disk of the blob store is full"))
    health = stores.health()
    await health.check()

    with pytest.raises(StorageFullError) as refused:
        health.check_new_session()
    error = from_port(refused.value)
    assert (error.status, "/data" in error.message) == (507, False)
    assert stores.observed == [({"redis": True, "blobs": False}, 0.0)]


@pytest.mark.parametrize(("used", "refused"), [(89, False), (90, True), (100, True)])
async def test_new_sessions_are_refused_before_redis_is_full(used: int, *, refused: bool) -> None:
    """The replica stays ready, since what runs can go on."""
    health = Stores(memory=RedisMemory(used, 100, "noeviction")).health()
    await health.check()

    assert health.refusals == {}
    assert health.tenant_share == 25
    if refused:
        with pytest.raises(StorageUnavailableError, match=f"{used} % full"):
            health.check_new_session()
    else:
        health.check_new_session()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"])
async def test_a_redis_that_would_delete_sessions_is_refused(policy: str) -> None:
    """At the start, and where its policy is changed later: an acknowledged session must not vanish."""
    stores = Stores(memory=RedisMemory(1, 100, policy))
    with pytest.raises(EvictingRedisError, match=f"maxmemory-policy is {policy}: at its maxmemory it would delete sessions"):
        await stores.health().start()
    health = stores.health()
    await health.check()
    with pytest.raises(StorageUnavailableError, match="noeviction"):
        health.check_new_session()
    assert health.refusals == {"redis": "the session store is set to delete sessions when it is full"}
    assert stores.observed[-1][0] == {"redis": False, "blobs": True}


@pytest.mark.parametrize(
    ("memory", "appendfsync", "warning"),
    [
        (RedisMemory(1, 0, "allkeys-lru"), "everysec", ""),  # without a maxmemory nothing is deleted
        (RedisMemory(1, 100, "noeviction"), None, ""),
        (RedisMemory(1, 100, "noeviction", append_only=False), "everysec", "no append-only file"),
        (RedisMemory(1, 100, "noeviction"), "no", "appendfsync is no"),
    ],
)
async def test_the_operator_is_warned_of_a_redis_that_forgets(
    memory: RedisMemory, appendfsync: str | None, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, at the start."""
    health = Stores(memory=memory, appendfsync=appendfsync).health()
    await health.start()
    await health.stop()

    assert [warning in record.message for record in caplog.records] == ([True] if warning else [])


class Quotas:
    """No keys, and one quota for everybody."""

    def __init__(self, quota: Quota | None) -> None:
        self.given = quota

    async def find(self, secret: str) -> None:
        raise NotImplementedError(secret)

    async def sign_in(self, secret: str, for_s: float) -> str:
        raise NotImplementedError(secret, for_s)

    async def signed_in(self, token: str) -> None:
        raise NotImplementedError(token)

    async def sign_out(self, token: str) -> None:
        raise NotImplementedError(token)

    async def quota(self, tenant: str) -> Quota | None:
        return self.given

    async def hit(self, rate: str, tenant: str) -> tuple[bool, tuple[RateUsage, ...]]:
        raise NotImplementedError(rate, tenant)


@pytest.mark.parametrize(
    ("given", "default", "expected"),
    [
        (None, Quota(), Bounds(log_bytes=25)),
        (Quota(unfinished=3), Quota(unfinished=9, blob_bytes=7), Bounds(unfinished=3, log_bytes=25, blob_bytes=7)),
        (Quota(redis_bytes=80, blob_bytes=90), Quota(blob_bytes=7), Bounds(log_bytes=80, blob_bytes=90)),
        (None, Quota(redis_bytes=70), Bounds(log_bytes=70)),
    ],
)
async def test_bytes_that_a_quota_does_not_name_stay_bounded(given: Quota | None, default: Quota, expected: Bounds) -> None:
    """By the server's quota, else by the tenant's share of a small Redis; every other bound that is left out is lifted."""
    quotas = Quotas(given)
    access = Access(quotas, quotas, True, default, redis_bytes=50)

    assert await access.bounds_of("ann", redis_share=25) == expected

"""Archiving and deleting on a real Redis, interrupted at every step: repeated, they have the same result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from orchestrator.loop import events as ev
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports.collaborators import image_ref
from orchestrator.ports.errors import BlobNotFoundError, PortError, StorageUnavailableError
from orchestrator.ports.stores import Idempotency
from orchestrator.store.archive import Archive, Retention, sweep
from orchestrator.store.blobs import ObjectBlobs
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import RedisSessions
from tests.doubles.images import checked
from tests.doubles.processes import Process

ID = f"ses_{'1' * 32}"
KEYS = KeySpace()


class Cut:
    """The n-th call fails, before or after it took effect, which interrupts the chore there."""

    def __init__(self, *, at: int, done: bool) -> None:
        self.left = at
        self.done = done

    def off(self, inner: Any) -> Any:
        """A proxy of the object; calls of all proxies are counted together."""
        cut = self

        class Proxy:
            def __getattr__(self, name: str) -> Any:
                found = getattr(inner, name)

                async def call(*args: Any) -> Any:
                    cut.left -= 1
                    if cut.left == 0 and not cut.done:
                        raise StorageUnavailableError("lost on the way")
                    result = await found(*args)
                    if cut.left == 0:
                        raise StorageUnavailableError("the answer was lost")
                    return result

                return call

        return Proxy()


@pytest.fixture
async def redis_db(redis: Process) -> AsyncGenerator[Redis]:
    """An empty database of its own."""
    client = Redis(port=redis.port, db=4)
    await client.flushdb()
    yield client
    await client.flushdb()
    await client.aclose()


@pytest.fixture
def sessions(redis_db: Redis) -> RedisSessions:
    """The real store."""
    return RedisSessions(redis_db, PubSubFanout(lambda: redis_db), KEYS)


@pytest.fixture
def blobs(tmp_path: Path) -> ObjectBlobs:
    """The real store without a cache."""
    return ObjectBlobs(str(tmp_path / "blobs"), cache_bytes=0)


async def image(blobs: ObjectBlobs, session_id: str, data: bytes) -> ev.ImageRef:
    stored = checked(data)
    await blobs.put(session_id, stored)
    return image_ref(stored)


async def finished_session(
    sessions: RedisSessions, blobs: ObjectBlobs, session_id: str = ID, key: str | None = None, tenant: str = "default"
) -> list[ev.Event]:
    """A session with a source, one edit and the image of a crashed attempt, as a driver leaves it."""
    source, edited = await image(blobs, session_id, b"source"), await image(blobs, session_id, b"edited")
    await blobs.put(session_id, checked(b"orphan"))
    best = ev.CandidateRef(turn=1, candidate=1)
    limits = ev.Limits(deadline_at=time.time() + 60)
    log: list[ev.Event] = [
        ev.SessionCreated(at=10, source=source, instruction="x", editor="e", thinker="t", limits=limits, tenant=tenant),
        ev.TurnStarted(at=11, turn=1, instruction="x", author="caller", candidates=1, first_seed=0),
        ev.EditStarted(at=12, turn=1, candidate=1, attempt=1, key="1/1", seed=0),
        ev.Edited(at=13, turn=1, candidate=1, image=edited, editor_seconds=1),
        ev.Finished(at=14, reason="max_turns", best=best, results=(best,), totals=ev.Totals(turns=1, edits=1)),
    ]
    assert isinstance(log[0], ev.SessionCreated)
    await sessions.create(session_id, log[0], Idempotency(key, "f") if key else None)
    await sessions.append(session_id, 1, log[1:], None)
    return log


async def expire(redis_db: Redis, session_id: str = ID) -> None:
    """The retention is over."""
    assert await redis_db.pttl(KEYS.log(session_id)) > 0
    await redis_db.delete(KEYS.log(session_id), KEYS.meta(session_id))


async def raw_log(redis_db: Redis, session_id: str) -> list[tuple[bytes, dict[Any, Any]]]:
    entries: Any = await redis_db.xrange(KEYS.log(session_id))
    return list(entries)


def archive_of(sessions: Any, blobs: Any, **retention: float) -> Archive:
    return Archive(sessions, blobs, Retention(**retention))


def files(blobs: ObjectBlobs, session_id: str = ID) -> int:
    assert blobs._root
    folder = blobs._root / session_id
    return len(list(folder.iterdir())) if folder.exists() else 0


async def test_an_archived_session_is_read_as_it_was(sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis) -> None:
    """All events come from the document alone; the image of a crashed attempt is removed, the others stay."""
    log = await finished_session(sessions, blobs)
    archive = archive_of(sessions, blobs)
    await archive.archive(ID)
    await expire(redis_db)

    assert [(r.seq, r.event) for r in await archive.read(ID)] == list(enumerate(log, 1))
    assert [r.seq for r in await archive.read(ID, 3)] == [4, 5]
    assert await archive.read(ID, 5) == []
    assert (tail := await archive.tail(ID)) is not None and tail.event == log[-1]
    assert await archive.read_many([ID, "ses_nobody"]) == [await archive.read(ID), []]
    assert files(blobs) == 3


async def test_redis_is_read_while_it_has_the_session(sessions: RedisSessions, blobs: ObjectBlobs) -> None:
    """The document is not read."""
    log = await finished_session(sessions, blobs)
    await blobs.write_document(ID, b"no JSON")
    archive = archive_of(sessions, blobs)

    assert [r.event for r in await archive.read(ID)] == log
    assert await archive.read(ID, 5) == []
    assert [len(found) for found in await archive.read_many([ID])] == [5]


@pytest.mark.parametrize("done", ["before", "after"])
@pytest.mark.parametrize("step", range(1, 5))
async def test_archiving_interrupted_at_any_step_is_repeated(
    sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis, step: int, done: str
) -> None:
    """Until it is done the session stays in Redis."""
    log = await finished_session(sessions, blobs)
    cut = Cut(at=step, done=done == "after")
    with pytest.raises(StorageUnavailableError):
        await archive_of(cut.off(sessions), cut.off(blobs), archive_s=100_000).chore(f"archive:{ID}")
    if (step, done) != (4, "after"):
        assert await redis_db.pttl(KEYS.log(ID)) == -1

    archive = archive_of(sessions, blobs, archive_s=100_000)
    await archive.chore(f"archive:{ID}")
    await archive.chore(f"archive:{ID}")

    assert 86_000_000 < await redis_db.pttl(KEYS.log(ID)) <= 86_400_000
    assert await redis_db.zscore(KEYS.timers, f"forget:{ID}") == 100_014_001
    await expire(redis_db)
    assert [r.event for r in await archive.read(ID)] == log
    assert files(blobs) == 3


@pytest.mark.parametrize("done", ["before", "after"])
@pytest.mark.parametrize("step", range(1, 4))
async def test_deleting_interrupted_at_any_step_is_repeated(
    sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis, step: int, done: str
) -> None:
    """By the same chore or by the one that the deletion schedules; nothing else remains."""
    await finished_session(sessions, blobs, key="k")
    await archive_of(sessions, blobs).archive(ID)
    await redis_db.delete(KEYS.log(ID))
    cut = Cut(at=step, done=done == "after")
    with pytest.raises(StorageUnavailableError):
        await archive_of(cut.off(sessions), cut.off(blobs)).chore(f"forget:{ID}")
    if step == 3:
        assert await archive_of(sessions, blobs).read(ID) == []

    archive = archive_of(sessions, blobs)
    await archive.chore(f"forget:{ID}")
    if await redis_db.zscore(KEYS.timers, f"purge:{ID}"):
        await archive.chore(f"purge:{ID}")
    await sessions.complete_chore(f"purge:{ID}")

    assert await archive.read(ID) == []
    assert files(blobs) == 0
    # What remains knows nothing of the session: counters, and the line it was in when it began.
    left = [key for key in await redis_db.keys() if ID.encode() in key or b"idem" in key or b"index" in key]
    assert left == []
    timers: Any = await redis_db.zrange(KEYS.timers, 0, -1)
    assert {timer.split(b":")[0] for timer in timers} <= {b"wake"}


async def test_a_session_deleted_while_it_is_archived_leaves_nothing(sessions: RedisSessions, blobs: ObjectBlobs) -> None:
    """It is deleted between reading its log and writing its document."""
    await finished_session(sessions, blobs)

    class Late:
        """Writes the document when the session has been deleted."""

        def __getattr__(self, name: str) -> Any:
            return getattr(blobs, name)

        async def write_document(self, session_id: str, data: bytes) -> None:
            assert await sessions.delete(session_id, "default")
            await blobs.remove(session_id)
            await sessions.complete_chore(f"purge:{session_id}")
            await blobs.write_document(session_id, data)
            # A reader in this very moment.
            assert await archive_of(sessions, blobs).read(session_id) == []

    await archive_of(sessions, Late()).archive(ID)

    assert files(blobs) == 0
    assert await sessions.page("default", None, 10) == []


async def test_an_unfinished_session_is_not_archived(sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis) -> None:
    """Redis was restored from a file in which it was not finished: it keeps all its images and does not expire."""
    source = await image(blobs, ID, b"source")
    limits = ev.Limits(deadline_at=time.time() + 60)
    created = ev.SessionCreated(at=1, source=source, instruction="x", editor="e", thinker="t", limits=limits)
    await sessions.create(ID, created, None)
    await blobs.put(ID, checked(b"in the making"))

    await archive_of(sessions, blobs).archive(ID)

    assert await redis_db.pttl(KEYS.log(ID)) == -1
    assert await blobs.read_document(ID) is None
    assert files(blobs) == 2


async def test_fields_of_a_later_version_are_archived_unchanged(
    sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis
) -> None:
    """They are in the document, and an image that they name stays."""
    await finished_session(sessions, blobs)
    extra = (await image(blobs, ID, b"of a later version")).sha256
    entry, fields = (await raw_log(redis_db, ID))[-1]
    await redis_db.xdel(KEYS.log(ID), entry)
    later = fields[b"e"][:-1] + b',"sketch":{"sha256":"%s"}}' % extra.encode()
    await redis_db.xadd(KEYS.log(ID), {"e": later}, id="6-0")

    await archive_of(sessions, blobs).archive(ID)

    assert extra.encode() in (await blobs.read_document(ID) or b"")
    assert await blobs.get(ID, extra) == b"of a later version"
    assert files(blobs) == 4


async def test_an_idempotency_key_is_deleted_with_its_session(
    sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis
) -> None:
    """Also when the log has left Redis: until then the key returns the archived session, afterwards it creates a new one."""
    log = await finished_session(sessions, blobs, key="k")
    assert isinstance(log[0], ev.SessionCreated)
    archive = archive_of(sessions, blobs, redis_s=0.001)
    await archive.archive(ID)
    async with asyncio.timeout(20):
        while await redis_db.exists(KEYS.log(ID)):
            await asyncio.sleep(0.005)

    again = await sessions.create(f"ses_{'2' * 32}", log[0], Idempotency("k", "f"))
    assert (again.session_id, again.fresh) == (ID, False)
    assert len(await archive.read(ID)) == 5

    assert await sessions.delete(ID, "default")
    again = await sessions.create(f"ses_{'3' * 32}", log[0], Idempotency("k", "f"))
    assert again.fresh


async def test_an_unreadable_document_is_an_error(sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis) -> None:
    """It does not stop a listing or an export of the others."""
    other = f"ses_{'2' * 32}"
    for session_id in (ID, other):
        await finished_session(sessions, blobs, session_id)
        await archive_of(sessions, blobs).archive(session_id)
        await expire(redis_db, session_id)
    archive = archive_of(sessions, blobs)

    for broken in (b"", b"[]", b"{}", b'{"tenant":"default","created_at":1,"events":[{"seq":1}]}'):
        await blobs.write_document(ID, broken)
        with pytest.raises(CorruptLogError):
            await archive.read(ID)
        assert [len(found) for found in await archive.read_many([ID, other])] == [0, 5]
    await blobs.write_document(ID, b"")
    assert [document["id"] async for document in archive.documents("default", 0, None)] == [other]


async def test_a_chore_of_a_later_version_is_left_to_it(sessions: RedisSessions, blobs: ObjectBlobs) -> None:
    """It stays due until a replica that knows it runs it."""
    with pytest.raises(PortError, match="'dance'"):
        await archive_of(sessions, blobs).chore(f"dance:{ID}")


async def test_documents_are_the_finished_sessions_of_a_tenant_oldest_first(
    sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis
) -> None:
    """From Redis and from the archive, also where many were created in one millisecond."""
    names = [f"ses_{number:032x}" for number in range(300)]
    await finished_session(sessions, blobs, names[0])
    raw = await raw_log(redis_db, names[0])
    for name in names[1:]:
        async with redis_db.pipeline() as pipe:
            for entry, fields in raw:
                pipe.xadd(KEYS.log(name), fields, id=entry)
            await pipe.execute()
    early, late = dict.fromkeys(names[:290], 1000), {names[n]: 5000 - n for n in range(290, 300)}
    await redis_db.zadd(KEYS.index("default"), early | late)
    await redis_db.xdel(KEYS.log(names[7]), "5-0")
    await archive_of(sessions, blobs).archive(names[3])
    await expire(redis_db, names[3])
    await finished_session(sessions, blobs, f"ses_{'f' * 32}", tenant="other")
    archive = archive_of(sessions, blobs)

    found = [document["id"] async for document in archive.documents("default", 0, None)]
    some = [document["id"] async for document in archive.documents("default", 4.702, 4.709)]

    assert found == [name for name in names[:290] if name != names[7]] + names[:289:-1]
    assert some == names[298:291:-1]
    assert all([document["created_at"] == 10 async for document in archive.documents("default", 0, None)])


async def test_the_sweep_finds_folders_without_a_session(sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis) -> None:
    """It keeps those of live and archived sessions, and recent ones."""
    archived, crashed = f"ses_{'2' * 32}", f"ses_{'3' * 32}"
    await finished_session(sessions, blobs)
    await finished_session(sessions, blobs, archived)
    await archive_of(sessions, blobs).archive(archived)
    await redis_db.delete(KEYS.log(archived), KEYS.meta(archived))
    await blobs.put(crashed, checked(b"source"))

    young = await sweep(sessions, blobs, before=time.time() - 60, remove=True)
    shown = await sweep(sessions, blobs, before=time.time() + 60, remove=False)
    swept = await sweep(sessions, blobs, before=time.time() + 60, remove=True)

    assert (young.folders, young.orphans) == (3, [])
    assert shown == swept
    assert (swept.folders, swept.orphans) == (3, [crashed])
    with pytest.raises(BlobNotFoundError):
        await blobs.get(crashed, "0" * 64)
    assert [files(blobs, name) for name in (ID, archived, crashed)] == [3, 3, 0]


@pytest.mark.parametrize("text", ["not JSON", '{"type":"from_the_future"}', '{"type":"turn_started","instruction_at":99}'])
async def test_a_log_that_cannot_be_read_stops_no_export(
    sessions: RedisSessions, blobs: ObjectBlobs, redis_db: Redis, text: str
) -> None:
    """It is exported with the others, and archived, as it is stored."""
    other = f"ses_{'2' * 32}"
    for session_id in (ID, other):
        await finished_session(sessions, blobs, session_id)
    entries = await raw_log(redis_db, ID)
    await redis_db.delete(KEYS.log(ID))
    for number, (seq, fields) in enumerate(entries):
        await redis_db.xadd(KEYS.log(ID), {"e": text} if number == 1 else fields, id=seq)
    archive = archive_of(sessions, blobs)
    exported = [document async for document in archive.documents("default", 0, None)]
    await archive.archive(ID)
    await expire(redis_db)
    again = [document async for document in archive.documents("default", 0, None)]

    assert {document["id"] for document in exported} == {ID, other} == {document["id"] for document in again}
    assert [document["id"] async for document in archive.documents("default", 0, None, "succeeded")] == [other]
    with pytest.raises(CorruptLogError):
        await archive.read(ID)
    found = await archive.readable(ID)
    assert found is not None
    assert [recorded.seq for recorded in found[1]] == [1]

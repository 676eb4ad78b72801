"""Sessions in Redis: a stream for each session, whose ids are the sequence numbers of its events, and queues of sessions.

Events are recorded exactly once, work is done at least once: an append names the expected end of the log and is refused if the
log has grown; a driver's append also carries its fencing token and is refused once another replica has taken over.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from redis.asyncio import Redis

from orchestrator.loop.events import (
    CancelRequested,
    Carried,
    Edited,
    EditFailed,
    EditStarted,
    Event,
    FeedbackGiven,
    Finished,
    ImageRef,
    Previewed,
    SessionCreated,
    TurnStarted,
    load,
)
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports.errors import AbandonedError, CallerLeftError, FencedError, PortError, StorageUnavailableError
from orchestrator.ports.stores import (
    Appended,
    Bounds,
    Claim,
    Created,
    Idempotency,
    QueuePosition,
    QueueStats,
    Recorded,
    SessionFacts,
    Silence,
    Taken,
    Wanted,
)
from orchestrator.store.connection import redis_call
from orchestrator.store.health import RedisMemory
from orchestrator.store.packing import pack, references, unpack
from orchestrator.store.pubsub import QUIET, PubSubFanout
from orchestrator.store.scripts import Append, KeySpace, NewSession, Scripts

log = logging.getLogger(__name__)
_Entry = tuple[int, bytes]
"""An event's number, and its JSON."""
# What `create.lua` refuses with; -1 is that there are too many sessions.
_PAST_DEADLINE: Final = -2
_TENANT_AT_ITS_LIMIT: Final = -3
_BUDGET_SPENT: Final = -4
_LOGS_FULL: Final = -5
_BLOBS_FULL: Final = -6
_MIB: Final = 1024 * 1024
_CALLERS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class SessionsOptions:
    """Limits and times of the store.

    Attributes:
        lease_s: seconds after which a silent replica's sessions are taken over, and a silent caller is gone.
        idempotency_ttl_s: seconds for which a caller's idempotency key is stored.
        most_unfinished: unfinished sessions above which new ones are refused.
        tenant_cap: sessions of one tenant that are driven at a time, for each editor.
        retention_s: seconds for which a finished session stays in Redis.
        replicas: of Redis, which must have a new session, and a result, before a caller is told of it.
        replicas_s: seconds that this may take.
    """

    lease_s: float = 10.0
    idempotency_ttl_s: float = 86_400.0
    most_unfinished: int = 100_000
    tenant_cap: int = 1000
    retention_s: float = 86_400.0
    replicas: int = 0
    replicas_s: float = 1.0


class RedisSessions:
    """`orchestrator.ports.stores.SessionStore` on Redis or Valkey.

    Attributes:
        scripts: shared with the other stores on the same keys.
    """

    def __init__(self, redis: Redis, pubsub: PubSubFanout, keys: KeySpace, options: SessionsOptions | None = None) -> None:
        self._redis = redis
        self._pubsub = pubsub
        self._keys = keys
        self._options = options or SessionsOptions()
        self.scripts = Scripts(redis, keys)

    async def create(
        self,
        session_id: str,
        event: SessionCreated,
        idempotency: Idempotency | None,
        bounds: Bounds | None = None,
        webhook: str = "",
    ) -> Created:
        """Record a new session and queue it.

        Raises:
            PortError: ``overloaded`` when too many sessions are queued, or it would be done only past its deadline;
                ``quota_exceeded`` when its tenant is at its limit of sessions or bytes, or has used its editor seconds of
                the day.
            StorageUnavailableError: when Redis cannot be reached, refuses to write, or its replicas did not confirm in time.
        """
        same = idempotency or Idempotency("", "")
        options, packed, bounds = self._options, pack(event), bounds or Bounds()
        new = NewSession(
            session_id,
            event.tenant,
            event.editor,
            packed.event,
            # Replicas of earlier versions compare this one.
            same.former or same.fingerprint,
            same.key,
            ttl_ms=int(options.idempotency_ttl_s * 1000),
            limit=options.most_unfinished,
            deadline_ms=int(event.limits.deadline_at * 1000) + 1,
            most_open=_text_or_empty(bounds.unfinished),
            most_spent=_text_or_empty(bounds.editor_s_per_day),
            most_log_bytes=_text_or_empty(bounds.log_bytes),
            most_blob_bytes=_text_or_empty(bounds.blob_bytes),
            digest=packed.digest,
            retention_ms=int(options.retention_s * 1000),
            blob_bytes=event.input_bytes,
            request=same.fingerprint,
            caller_ms=self._lease_ms if idempotency and not idempotency.key else "",
            webhook=webhook,
            thinker=event.thinker,
            judge=event.judge or "",
            created_ms=int(event.at * 1000),
        )
        async with redis_call(repeatable=True):
            created, name, known = await self.scripts.create(new)
        if created < 0:
            raise _refusal(created, int(name), event)
        if not await self.confirm():
            shown = "the session was recorded, but a replica of the session store did not confirm it in time"
            raise StorageUnavailableError(shown, shown=shown)
        return Created(name, bool(created), known)

    async def confirm(self) -> bool:
        """Wait until as many replicas of Redis as were asked for have what was written so far; False if they did not in time."""
        wanted, most_ms = self._options.replicas, int(self._options.replicas_s * 1000)
        if not wanted:
            return True
        async with redis_call(blocks_s=self._options.replicas_s), self._redis.pipeline(transaction=False) as pipe:
            # WAIT counts from the last write of its own connection, so there has to be one; replication is in order.
            pipe.set(f"{self._keys.prefix}confirmed", 1, px=60_000)
            pipe.wait(wanted, most_ms)
            _, confirmed = await pipe.execute()
        if confirmed < wanted:
            log.warning("%d of %d replicas of Redis confirmed within %d ms", confirmed, wanted, most_ms)
        return bool(confirmed >= wanted)

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        """The events after that sequence number; empty for an unknown session."""
        async with redis_call(repeatable=True):
            entries: Any = await self._redis.xrange(self._keys.log(session_id), min=f"{after + 1}-0")
        return [_recorded(entry) for entry in await self._whole(session_id, entries)]

    async def tail(self, session_id: str) -> Recorded | None:
        """The last event; None for an unknown session."""
        async with redis_call(repeatable=True):
            entries: Any = await self._redis.xrevrange(self._keys.log(session_id), count=1)
        found = await self._whole(session_id, entries)
        return _recorded(found[0]) if found else None

    async def read_many(self, session_ids: Sequence[str]) -> list[list[Recorded]]:
        """The whole logs of several sessions, in one round trip; empty for one that is gone or cannot be read."""
        return [_readable(log) for log in await self._logs(session_ids)]

    async def stored(self, session_id: str) -> list[_Entry]:
        """The entries of the log as they are stored, also where the events cannot be read."""
        async with redis_call(repeatable=True):
            return _entries(await self._redis.xrange(self._keys.log(session_id)))

    async def facts(self, session_id: str) -> SessionFacts | None:
        """What the store knows of a session without its log; None for one that is not in it."""
        async with redis_call(repeatable=True):
            found: Any = await self._redis.hmget(self._keys.meta(session_id), "tenant", "seq", "state", "created")
        tenant, seq, state, created = found
        return SessionFacts(tenant.decode(), int(seq), state == b"done", int(created) / 1000) if tenant else None

    async def raw_logs(self, session_ids: Sequence[str]) -> list[list[_Entry]]:
        """The whole logs of several sessions: each event's sequence number and its JSON as it was recorded.

        A log that lacks an instruction that its events refer to is returned as it is stored.
        """
        return [_unpacked_or_stored(_entries(log)) for log in await self._logs(session_ids)]

    async def page(self, tenant: str, before_ms: int | None, limit: int) -> list[tuple[str, int]]:
        """A tenant's sessions, newest first: (id, creation in Unix milliseconds), those before `before_ms` only."""
        top = "+inf" if before_ms is None else f"({before_ms}"
        async with redis_call(repeatable=True):
            rows: Any = await self._redis.zrevrangebyscore(
                self._keys.index(tenant), top, "-inf", start=0, num=limit, withscores=True
            )
        return [(name.decode(), int(score)) for name, score in rows]

    async def created_between(self, tenant: str, since_ms: float, until_ms: float | None, limit: int) -> list[tuple[int, str]]:
        """A tenant's sessions, oldest first: (creation in Unix milliseconds, id), from `since_ms` up to before `until_ms`."""
        top = "+inf" if until_ms is None else f"({until_ms}"
        async with redis_call(repeatable=True):
            rows: Any = await self._redis.zrangebyscore(
                self._keys.index(tenant), since_ms, top, start=0, num=limit, withscores=True
            )
        return [(int(score), name.decode()) for name, score in rows]

    async def append(self, session_id: str, expected: int, events: Sequence[Event], fence: int | None) -> Appended | None:
        """Record events if the log still ends at `expected`; None if it does not.

        Raises:
            FencedError: when another replica owns the session, or it was deleted.
            AbandonedError: when its caller is gone, unless these events end it.
            CallerLeftError: when its caller left and may come back, and these events begin a turn or an edit.
        """
        terminal = any(isinstance(event, Finished) for event in events)
        append = Append(
            session_id,
            expected,
            [pack(event) for event in events],
            fence,
            terminal,
            # They are what frees memory, and must not fail for want of it.
            ending=terminal or any(_ends(event) for event in events),
            spent=sum(event.editor_seconds for event in events if isinstance(event, Edited | EditFailed)),
            blob_bytes=sum(stored.bytes for event in events for stored in _stored(event)),
            begins=any(isinstance(event, TurnStarted | EditStarted) for event in events),
        )
        async with redis_call():
            outcome = await self.scripts.append(append)
        if outcome in {"fenced", "gone"}:
            raise FencedError(session_id)
        if outcome == "abandoned":
            raise AbandonedError(session_id)
        if outcome == "left":
            raise CallerLeftError(session_id)
        return outcome if outcome in {"ok", "full"} else None

    async def claim(self, replica: str, wanted: Wanted) -> Taken:
        """Claim queued sessions and due chores for a replica; see `Wanted`."""
        async with redis_call():
            return await self.scripts.claim(replica, wanted, lease_ms=self._lease_ms, cap=self._options.tenant_cap)

    async def complete_chore(self, chore: str) -> None:
        """Remove a chore that is done, which would be due again otherwise."""
        async with redis_call():
            await self._redis.zrem(self._keys.timers, chore)

    async def renew_lease(self, replica: str) -> bool:
        """Renew the lease on every session of this replica; False when it was taken for dead and lost them."""
        async with redis_call(repeatable=True):
            return await self.scripts.renew_lease(replica, self._lease_ms)

    async def report_durations(self, edits: Mapping[str, float], sessions: Mapping[str, float]) -> None:
        """Report by editor the seconds that an edit takes, and a session from its first turn to its end; `create` uses them."""
        if not edits and not sessions:
            return
        async with redis_call(repeatable=True), self._redis.pipeline(transaction=False) as pipe:
            for editor, seconds in edits.items():
                pipe.hset(self._keys.pace(editor), "edit", int(seconds * 1000))
            for editor, seconds in {**edits, **sessions}.items():
                pipe.hset(self._keys.pace(editor), "work", int(seconds * 1000))
            await pipe.execute()

    async def owned(self, replica: str) -> set[str]:
        """The sessions that this replica is to drive."""
        async with redis_call(repeatable=True):
            members: Any = await self._redis.smembers(self._keys.own(replica))
        return {member.decode() for member in members}

    async def release(self, replica: str, session_id: str, *, failed: bool = False) -> None:
        """Queue again a session that this replica owns without driving it; `failed`: its driver failed because of a bug."""
        async with redis_call():
            await self.scripts.release(replica, session_id, failed=failed)

    async def renew_callers(self, session_ids: Collection[str]) -> None:
        """Renew the lease of the callers who wait for these sessions without an idempotency key."""
        names = list(session_ids)
        for at in range(0, len(names), _CALLERS_AT_ONCE):
            async with redis_call(repeatable=True):
                await self.scripts.renew_callers(self._lease_ms, names[at : at + _CALLERS_AT_ONCE])

    async def hand_over(self, session_id: str, tenant: str, fingerprint: str, for_s: float, *, left: bool = False) -> None:
        """Let the next request of that tenant and fingerprint join the session, for so many seconds.

        Args:
            left: its caller left, and is not known to come back: it begins no turn and no edit until then.
        """
        async with redis_call(repeatable=True):
            await self.scripts.hand_over(session_id, tenant, fingerprint, int(for_s * 1000), left=left)

    async def take_back(self, session_id: str, tenant: str, fingerprint: str) -> bool:
        """Let nobody join the session any more whose caller did not come back in time; False if somebody did."""
        async with redis_call():
            return await self.scripts.take_back(session_id, tenant, fingerprint)

    async def queue_position(self, session_id: str) -> QueuePosition | None:
        """Where a session stands in its queue; None when it is not queued."""
        async with redis_call(repeatable=True):
            found = await self.scripts.queue_position(session_id)
        if found is None:
            return None
        ahead, wait_ms = found
        return QueuePosition(ahead, None if wait_ms is None else wait_ms / 1000)

    async def queue_stats(self) -> QueueStats:
        """How much there is to do."""
        keys = self._keys
        async with redis_call(repeatable=True), self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.waiting)
            pipe.get(keys.unfinished)
            pipe.zcard(keys.replicas)
            queued, unfinished, replicas = await pipe.execute()
        return QueueStats({editor.decode(): int(n) for editor, n in queued.items()}, int(unfinished or 0), int(replicas))

    async def suspend(self, claim: Claim, expected: int, until: float | None, *, untried: bool = False) -> bool:
        """Release a session until that time or until a caller writes to it; False if its log has grown.

        Args:
            untried: whether it was not driven; earlier attempts then still count.

        Raises:
            FencedError: when another replica owns it already.
        """
        until_ms = None if until is None else int(until * 1000) + 1
        async with redis_call():
            outcome = await self.scripts.suspend(claim, expected, until_ms, untried=untried)
        if outcome < 0:
            raise FencedError(claim.session_id)
        return outcome == 1

    async def delete(self, session_id: str, tenant: str) -> bool:
        """Delete a finished session; False while it is not finished."""
        async with redis_call():
            return await self.scripts.delete(session_id, tenant)

    async def expire(self, session_id: str, tenant: str, retention_s: float, forget_at: float | None) -> bool:
        """Let an archived session leave Redis after so many seconds; False if it was deleted in the meantime.

        Args:
            forget_at: when the chore ``forget`` is due for it, in Unix seconds.
        """
        forget_ms = None if forget_at is None else int(forget_at * 1000) + 1
        async with redis_call():
            return await self.scripts.expire(session_id, tenant, max(1, int(retention_s * 1000)), forget_ms)

    async def exists(self, tenant: str, session_id: str) -> bool:
        """Whether the tenant has this session, in Redis or archived; False once it was deleted."""
        async with redis_call(repeatable=True):
            return await self._redis.zscore(self._keys.index(tenant), session_id) is not None

    async def in_redis(self, session_ids: Sequence[str]) -> list[bool]:
        """Which of these sessions are in Redis."""
        async with redis_call(repeatable=True), self._redis.pipeline(transaction=False) as pipe:
            for session_id in session_ids:
                pipe.exists(self._keys.meta(session_id))
            return [bool(found) for found in await pipe.execute()]

    async def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            async with redis_call(repeatable=True):
                return bool(await self._redis.ping())
        except StorageUnavailableError:
            return False

    async def probe(self) -> RedisMemory:
        """Write something, and return how full Redis is.

        Raises:
            StorageUnavailableError: when it cannot be reached, or refuses to write.
        """
        async with redis_call(repeatable=True):
            info = await self.scripts.probe()
        lines = (line.partition(":") for line in info.decode().splitlines())
        fields = {name: value for name, _, value in lines}
        used = int(fields.get("used_memory", 0)) - int(fields.get("mem_not_counted_for_evict", 0))
        return RedisMemory(
            used,
            int(fields.get("maxmemory", 0)),
            fields.get("maxmemory_policy", "noeviction"),
            append_only=fields.get("aof_enabled", "1") == "1",
        )

    async def fsync(self) -> str | None:
        """When Redis writes its append-only file to disk (``appendfsync``); None where it does not tell."""
        try:
            async with redis_call(repeatable=True):
                found: Any = await self._redis.config_get("appendfsync")
        except StorageUnavailableError:  # often forbidden where somebody else runs it
            return None
        value = found.get("appendfsync", found.get(b"appendfsync"))
        return value.decode() if isinstance(value, bytes) else value

    async def listen(self, session_id: str) -> AsyncGenerator[Recorded | Silence]:
        """Events as they are recorded, and what may lie between them."""
        async with contextlib.aclosing(self._pubsub.listen(self._keys.live(session_id))) as messages:
            async for seq, payload in messages:
                yield _message(seq, payload)

    async def _whole(self, session_id: str, stored: Any) -> list[_Entry]:
        """Entries of a session's log as they were recorded, with instructions that only earlier events have."""
        entries = _entries(stored)
        missing = sorted(references(entries))
        if not missing:
            return _unpacked(entries)
        async with redis_call(repeatable=True), self._redis.pipeline(transaction=False) as pipe:
            for seq in missing:
                pipe.xrange(self._keys.log(session_id), min=f"{seq}-0", max=f"{seq}-0")
            found = await pipe.execute()
        return _unpacked(entries, dict(entry for one in found for entry in _entries(one)))

    async def _logs(self, session_ids: Sequence[str]) -> list[Any]:
        async with redis_call(repeatable=True), self._redis.pipeline(transaction=False) as pipe:
            for session_id in session_ids:
                pipe.xrange(self._keys.log(session_id))
            return await pipe.execute()

    @property
    def _lease_ms(self) -> int:
        return int(self._options.lease_s * 1000)


def _refusal(code: int, figure: int, event: SessionCreated) -> PortError:
    if code == _PAST_DEADLINE:
        wait_s, has_s = figure / 1000, event.limits.deadline_at - event.at
        message = f"it would be done in about {wait_s:.0f} s, beyond the deadline of {has_s:.0f} s; try again later"
        return PortError("overloaded", message, retryable=True, retry_after=min(300, max(1, round(wait_s - has_s))))
    if code == _TENANT_AT_ITS_LIMIT:
        message = f"{figure} of your sessions are not finished, and you may have no more; wait for one, or cancel one"
        return PortError("quota_exceeded", message, retryable=True, retry_after=5)
    if code == _BUDGET_SPENT:
        message = "your editor seconds of today are used up; there are new ones at midnight UTC"
        return PortError("quota_exceeded", message, retryable=True, retry_after=figure / 1000 + 1)
    if code == _LOGS_FULL:
        message = (
            f"the events of your sessions fill {figure / _MIB:,.0f} MiB of the session store, and may fill no more; delete "
            "finished sessions, or wait until they leave it"
        )
        return PortError("quota_exceeded", message, retryable=True, retry_after=60)
    if code == _BLOBS_FULL:
        message = f"your sessions' images fill {figure / _MIB:,.0f} MiB, and with this one more than they may; delete sessions"
        return PortError("quota_exceeded", message, retryable=True, retry_after=60)
    return PortError("overloaded", f"{figure} sessions are waiting; try again later", retryable=True, retry_after=5)


def _text_or_empty(bound: float | None) -> str:
    return "" if bound is None else str(bound)


def _message(seq: int, payload: bytes) -> Recorded | Silence:
    """A live message; a gap, which makes the listener read the log, for one that cannot be parsed."""
    if seq == QUIET:
        return Silence.QUIET
    try:
        return Recorded(seq, load(payload)) if payload else Silence.GAP
    except ValidationError:
        return Silence.GAP


def _stored(event: Event) -> Iterable[ImageRef | Carried]:
    """What was stored for an event: images, and what one said of its origin."""
    if isinstance(event, Edited):
        return [event.image, *([event.carried] if event.carried else [])]
    if isinstance(event, Previewed):
        return [event.image]
    return [image for image in event.scaled if image is not None] if isinstance(event, Finished) else []


def _ends(event: Event) -> bool:
    """Whether an event asks for the end of its session."""
    return isinstance(event, CancelRequested) or (isinstance(event, FeedbackGiven) and event.action in {"accept", "pick"})


def _entries(stored: Any) -> list[_Entry]:
    return [(int(entry_id.split(b"-")[0]), fields[b"e"]) for entry_id, fields in stored]


def _unpacked(entries: list[_Entry], others: Mapping[int, bytes] | None = None) -> list[_Entry]:
    try:
        return unpack(entries, others or {})
    except (KeyError, TypeError, ValueError) as exc:
        raise CorruptLogError(f"an event refers to an instruction that the log does not have: {exc}") from exc


def _unpacked_or_stored(entries: list[_Entry]) -> list[_Entry]:
    try:
        return _unpacked(entries)
    except CorruptLogError:
        return entries


def _readable(log: Any) -> list[Recorded]:
    """A log's events; none when one of them cannot be read, so that a listing shows the others."""
    try:
        return [_recorded(entry) for entry in _unpacked(_entries(log))]
    except CorruptLogError:
        return []


def _recorded(entry: _Entry) -> Recorded:
    seq, event = entry
    try:
        return Recorded(seq, load(event))
    except ValidationError as exc:
        raise CorruptLogError(f"event {seq} cannot be read: {exc}") from exc

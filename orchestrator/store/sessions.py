"""Sessions on Redis: one stream a session whose ids are its sequence numbers, and lines of those that wait.

Exactly-once record, at-least-once work: an append says where it believes the log ends, and is refused if it ends
elsewhere; a driver also shows its fence, and is refused when another replica has taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError

from orchestrator.loop.events import Edited, EditFailed, Event, Finished, SessionCreated, dump, load
from orchestrator.loop.session import CorruptLogError
from orchestrator.ports import (
    Bounds,
    Claim,
    Created,
    FencedError,
    Idempotency,
    PortError,
    QueuePosition,
    QueueStats,
    Recorded,
    Silence,
    StorageUnavailableError,
    Taken,
)
from orchestrator.store.pubsub import QUIET, PubSubFanout
from orchestrator.store.scripts import KeySpace, Making, Scripts

_ANSWER_S: Final = 5.0
_LINE_TOO_LONG: Final = -2
_TOO_MANY_OF_YOURS: Final = -3
_SPENT_ENOUGH: Final = -4


@dataclass(frozen=True, slots=True)
class SessionsOptions:
    """How the store behaves.

    Attributes:
        lease_s: seconds after which a silent replica's sessions are taken over.
        idempotency_ttl_s: seconds for which a caller's key is remembered.
        most_unfinished: unfinished sessions above which new ones are refused.
        tenant_cap: sessions of one tenant that are driven at a time, for each editor.
    """

    lease_s: float = 10.0
    idempotency_ttl_s: float = 86_400.0
    most_unfinished: int = 100_000
    tenant_cap: int = 1000


class RedisSessions:
    """`orchestrator.ports.Sessions` on Redis or Valkey.

    Attributes:
        scripts: for whatever else works on the same keys.
    """

    def __init__(self, redis: Redis, feed: PubSubFanout, keys: KeySpace, options: SessionsOptions | None = None) -> None:
        self._redis = redis
        self._feed = feed
        self._keys = keys
        self._options = options or SessionsOptions()
        self.scripts = Scripts(redis, keys)

    async def create(
        self, session_id: str, event: SessionCreated, idempotency: Idempotency | None, bounds: Bounds | None = None
    ) -> Created:
        """Record a new session and put it in line.

        Raises:
            PortError: ``overloaded`` when too many sessions wait, or it would wait beyond its deadline;
                ``quota_exceeded`` when its tenant has as many as it may, or has used up its day's editor seconds.
            StorageUnavailableError: when Redis cannot be reached.
        """
        key, fingerprint = (idempotency.key, idempotency.fingerprint) if idempotency else ("", "")
        options = self._options
        making = Making(
            session_id,
            event.tenant,
            event.editor,
            dump(event),
            fingerprint,
            key,
            ttl_ms=int(options.idempotency_ttl_s * 1000),
            limit=options.most_unfinished,
            deadline_ms=int(event.limits.deadline_at * 1000) + 1,
            most_open=_shown(bounds.unfinished if bounds else None),
            most_spent=_shown(bounds.editor_s_per_day if bounds else None),
        )
        async with asking():
            made, name, known = await self.scripts.create(making)
        if made < 0:
            raise _refusal(made, int(name), event)
        return Created(name, bool(made), known)

    async def read(self, session_id: str, after: int = 0) -> list[Recorded]:
        """The events after that sequence number; empty for an unknown session."""
        async with asking():
            entries: Any = await self._redis.xrange(self._keys.log(session_id), min=f"{after + 1}-0")
        return [_recorded(entry_id, fields) for entry_id, fields in entries]

    async def tail(self, session_id: str) -> Recorded | None:
        """The last event; None for an unknown session."""
        async with asking():
            entries: Any = await self._redis.xrevrange(self._keys.log(session_id), count=1)
        return _recorded(*entries[0]) if entries else None

    async def read_many(self, session_ids: Sequence[str]) -> list[list[Recorded]]:
        """The whole logs of several sessions, in one round trip; empty for one that is gone or cannot be read."""
        return [_readable(log) for log in await self._logs(session_ids)]

    async def raw(self, session_ids: Sequence[str]) -> list[list[tuple[int, bytes]]]:
        """The whole logs of several sessions as they were written: each event's number and its JSON."""
        logs = await self._logs(session_ids)
        return [[(int(entry_id.split(b"-")[0]), fields[b"e"]) for entry_id, fields in log] for log in logs]

    async def page(self, tenant: str, before_ms: int | None, limit: int) -> list[tuple[str, int]]:
        """A tenant's sessions, newest first: (id, creation in Unix milliseconds), those before `before_ms` only."""
        top = "+inf" if before_ms is None else f"({before_ms}"
        async with asking():
            rows: Any = await self._redis.zrevrangebyscore(
                self._keys.index(tenant), top, "-inf", start=0, num=limit, withscores=True
            )
        return [(name.decode(), int(score)) for name, score in rows]

    async def span(self, tenant: str, since_ms: float, until_ms: float | None, limit: int) -> list[tuple[int, str]]:
        """A tenant's sessions, oldest first: (creation in Unix milliseconds, id), from `since_ms` up to before `until_ms`."""
        top = "+inf" if until_ms is None else f"({until_ms}"
        async with asking():
            rows: Any = await self._redis.zrangebyscore(
                self._keys.index(tenant), since_ms, top, start=0, num=limit, withscores=True
            )
        return [(int(score), name.decode()) for name, score in rows]

    async def append(self, session_id: str, expected: int, events: Sequence[Event], fence: int | None) -> bool:
        """Record events if the log still ends at `expected`.

        Raises:
            FencedError: when another replica owns the session, or it was deleted.
        """
        terminal = any(isinstance(event, Finished) for event in events)
        spent = sum(event.editor_seconds for event in events if isinstance(event, Edited | EditFailed))
        async with asking():
            outcome = await self.scripts.append(
                session_id, expected, [dump(event) for event in events], fence=fence, terminal=terminal, spent=spent
            )
        if outcome in {"fenced", "gone"}:
            raise FencedError(session_id)
        return outcome == "ok"

    async def claim(
        self, replica: str, capacity: Mapping[str, int], *, urgent: int, chores: int, webhook_chores: int = 0
    ) -> Taken:
        """Claim queued sessions and due chores, see `orchestrator.ports.Sessions.claim`."""
        options = self._options
        async with asking():
            return await self.scripts.claim(
                replica,
                capacity,
                lease_ms=self._lease_ms,
                cap=options.tenant_cap,
                urgent=urgent,
                chores=chores,
                news=webhook_chores,
            )

    async def done(self, chore: str) -> None:
        """A chore need not come again."""
        async with asking():
            await self._redis.zrem(self._keys.timers, chore)

    async def beat(self, replica: str) -> bool:
        """Hold on to every session of this replica; False when it was taken for dead and has none any more."""
        async with asking():
            return await self.scripts.beat(replica, self._lease_ms)

    async def report_durations(self, edits: Mapping[str, float], sessions: Mapping[str, float]) -> None:
        """Report the seconds that an edit takes, and a session from its claim to its end, by editor."""
        if not edits and not sessions:
            return
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for editor, seconds in edits.items():
                pipe.hset(self._keys.pace(editor), "edit", int(seconds * 1000))
            for editor, seconds in {**edits, **sessions}.items():
                pipe.hset(self._keys.pace(editor), "work", int(seconds * 1000))
            await pipe.execute()

    async def owned(self, replica: str) -> set[str]:
        """The sessions that this replica is to drive."""
        async with asking():
            members: Any = await self._redis.smembers(self._keys.own(replica))
        return {member.decode() for member in members}

    async def release(self, replica: str, session_id: str) -> None:
        """Put back into line what this replica owns without driving it."""
        async with asking():
            await self.scripts.release(replica, session_id)

    async def queue_position(self, session_id: str) -> QueuePosition | None:
        """Where a session stands in its queue; None when it is not queued."""
        async with asking():
            found = await self.scripts.queue_position(session_id)
        if found is None:
            return None
        ahead, wait_ms = found
        return QueuePosition(ahead, None if wait_ms is None else wait_ms / 1000)

    async def queue_stats(self) -> QueueStats:
        """How much there is to do."""
        keys = self._keys
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.waiting)
            pipe.get(keys.unfinished)
            pipe.zcard(keys.replicas)
            queued, unfinished, replicas = await pipe.execute()
        return QueueStats({editor.decode(): int(n) for editor, n in queued.items()}, int(unfinished or 0), int(replicas))

    async def suspend(self, claim: Claim, expected: int, until: float | None) -> bool:
        """Let go of a session; False if its log has grown.

        Raises:
            FencedError: when another replica owns it already.
        """
        until_ms = None if until is None else int(until * 1000) + 1
        async with asking():
            outcome = await self.scripts.park(claim.session_id, claim.fence, expected, until_ms)
        if outcome < 0:
            raise FencedError(claim.session_id)
        return outcome == 1

    async def delete(self, session_id: str, tenant: str) -> bool:
        """Forget a finished session; False while it is not finished."""
        async with asking():
            return await self.scripts.delete(session_id, tenant)

    async def retain(self, session_id: str, tenant: str, retention_s: float, forget_at: float | None) -> bool:
        """A finished session is archived and may leave Redis after so many seconds; False if it was deleted meanwhile.

        Args:
            forget_at: when the chore ``forget`` is due for it, in Unix seconds.
        """
        forget_ms = None if forget_at is None else int(forget_at * 1000) + 1
        async with asking():
            return await self.scripts.retain(session_id, tenant, max(1, int(retention_s * 1000)), forget_ms)

    async def listed(self, tenant: str, session_id: str) -> bool:
        """Whether the tenant has this session, be it in Redis or archived; not once it was deleted."""
        async with asking():
            return await self._redis.zscore(self._keys.index(tenant), session_id) is not None

    async def known(self, session_ids: Sequence[str]) -> list[bool]:
        """Which of these sessions are in Redis."""
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for session_id in session_ids:
                pipe.exists(self._keys.meta(session_id))
            return [bool(found) for found in await pipe.execute()]

    async def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            async with asking():
                return bool(await self._redis.ping())
        except StorageUnavailableError:
            return False

    async def listen(self, session_id: str) -> AsyncGenerator[Recorded | Silence]:
        """Events as they are recorded, and what may lie between them."""
        async with contextlib.aclosing(self._feed.listen(self._keys.live(session_id))) as messages:
            async for seq, payload in messages:
                yield _heard(seq, payload)

    async def _logs(self, session_ids: Sequence[str]) -> list[Any]:
        async with asking(), self._redis.pipeline(transaction=False) as pipe:
            for session_id in session_ids:
                pipe.xrange(self._keys.log(session_id))
            return await pipe.execute()

    @property
    def _lease_ms(self) -> int:
        return int(self._options.lease_s * 1000)


def _refusal(made: int, figure: int, event: SessionCreated) -> PortError:
    if made == _LINE_TOO_LONG:
        wait_s, has_s = figure / 1000, event.limits.deadline_at - event.at
        message = f"it would be done in about {wait_s:.0f} s, beyond the deadline of {has_s:.0f} s; try again later"
        return PortError("overloaded", message, retryable=True, retry_after=min(300, max(1, round(wait_s - has_s))))
    if made == _TOO_MANY_OF_YOURS:
        message = f"{figure} of your sessions are not finished, and you may have no more; wait for one, or cancel one"
        return PortError("quota_exceeded", message, retryable=True, retry_after=5)
    if made == _SPENT_ENOUGH:
        message = "your editor seconds of today are used up; there are new ones at midnight UTC"
        return PortError("quota_exceeded", message, retryable=True, retry_after=figure / 1000 + 1)
    return PortError("overloaded", f"{figure} sessions are waiting; try again later", retryable=True, retry_after=5)


def _shown(bound: float | None) -> str:
    return "" if bound is None else str(bound)


def _heard(seq: int, payload: bytes) -> Recorded | Silence:
    """A live message; one that cannot be read is to be looked up in the log."""
    if seq == QUIET:
        return Silence.QUIET
    try:
        return Recorded(seq, load(payload)) if payload else Silence.GAP
    except ValidationError:
        return Silence.GAP


def _readable(log: Any) -> list[Recorded]:
    """A log's events; none when one of them cannot be read, so that a listing shows the others."""
    try:
        return [_recorded(entry_id, fields) for entry_id, fields in log]
    except CorruptLogError:
        return []


@contextlib.asynccontextmanager
async def asking() -> AsyncIterator[None]:
    """A command to Redis: bounded in time, its exceptions translated.

    The bound is ours because the client's own (`socket_timeout`) is an `asyncio.wait_for`, which on Python 3.11 can
    swallow a cancellation. A cluster without a node to ask raises what is no `RedisError`.
    """
    try:
        async with asyncio.timeout(_ANSWER_S):
            yield
    except (RedisError, RedisClusterException, TimeoutError, OSError) as exc:
        raise StorageUnavailableError(f"Redis did not answer: {exc}") from exc


def _recorded(entry_id: bytes, fields: dict[bytes, Any]) -> Recorded:
    try:
        return Recorded(int(entry_id.split(b"-")[0]), load(fields[b"e"]))
    except (ValidationError, KeyError) as exc:
        raise CorruptLogError(f"event {entry_id.decode()} cannot be read: {exc}") from exc

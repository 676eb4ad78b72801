"""What people prefer, in Redis: a hash of records for each tenant, their order, and for each session the ids of those about it.

They are kept for as long as the sessions that they are about: a pair whose pictures are gone is of no use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from orchestrator.ports.errors import PortError
from orchestrator.ports.stores import JudgedPicture, Preference, rating_id
from orchestrator.store.connection import redis_call
from orchestrator.store.scripts import KeySpace, Scripts

_MOST_BYTES: Final = 32 * 1024 * 1024
"""Of one tenant's records, about 40,000 comparisons without a reason: an eighth of what its sessions' logs may take."""
_GONE: Final = -1
_FULL: Final = -2


class PreferenceStore:
    """`orchestrator.ports.stores.Preferences` on Redis or Valkey."""

    def __init__(self, redis: Redis, keys: KeySpace, scripts: Scripts) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts

    async def add(self, tenant: str, preference: Preference) -> Preference:
        """Store a preference, and return what is stored under its id; see `Preferences.add`."""
        record = orjson.dumps({name: value for name, value in asdict(preference).items() if value is not None})
        at_ms, replace = int(preference.created_at * 1000), preference.rating is not None
        async with redis_call(repeatable=True):
            outcome, found = await self._scripts.add_preference(
                preference.id, tenant, record, at_ms, _MOST_BYTES, *preference.sessions, replace=replace
            )
        if outcome == _GONE:
            raise PortError("session_not_found", f"there is no session {found.decode()!r}")
        if outcome == _FULL:
            message = f"your preferences fill {int(found):,} bytes, and may fill no more; export and delete some"
            raise PortError("quota_exceeded", message)
        return _load(found)

    async def remove(self, tenant: str, preference_id: str) -> bool:
        """Remove one; False if there is none of that id."""
        async with redis_call():
            return await self._scripts.remove_preference(preference_id, tenant)

    async def page(self, tenant: str, before_ms: int | None, limit: int) -> list[tuple[int, Preference]]:
        """The newest first: (creation in Unix milliseconds, preference), those before `before_ms` only."""
        top = "+inf" if before_ms is None else f"({before_ms}"
        async with redis_call(repeatable=True):
            rows: Any = await self._redis.zrevrangebyscore(
                self._keys.preferred(tenant), top, "-inf", start=0, num=limit, withscores=True
            )
        return await self._records(tenant, rows)

    async def created_between(
        self, tenant: str, since_ms: float, until_ms: float | None, limit: int
    ) -> list[tuple[int, Preference]]:
        """The oldest first, as `page`: from `since_ms` up to before `until_ms`."""
        top = "+inf" if until_ms is None else f"({until_ms}"
        async with redis_call(repeatable=True):
            rows: Any = await self._redis.zrangebyscore(
                self._keys.preferred(tenant), since_ms, top, start=0, num=limit, withscores=True
            )
        return await self._records(tenant, rows)

    async def ratings(self, tenant: str, session_ids: Sequence[str]) -> list[int | None]:
        """The ratings of these sessions; None for one that was not rated."""
        found = await self._read(tenant, [rating_id(name) for name in session_ids])
        return [None if record is None else _load(record).rating for record in found]

    async def _records(self, tenant: str, rows: Sequence[tuple[bytes, float]]) -> list[tuple[int, Preference]]:
        found = await self._read(tenant, [name for name, _ in rows])
        # One may have been removed since its id was read.
        return [(int(at), _load(record)) for (_, at), record in zip(rows, found, strict=True) if record is not None]

    async def _read(self, tenant: str, ids: Sequence[str | bytes]) -> list[bytes | None]:
        if not ids:
            return []
        async with redis_call(repeatable=True):
            found: Any = await self._redis.hmget(self._keys.preferences(tenant), list(ids))
        return list(found)


def _load(record: bytes) -> Preference:
    stored = _known(Preference, orjson.loads(record))
    for name in stored.keys() & {"a", "b"}:
        stored[name] = JudgedPicture(**_known(JudgedPicture, stored[name]))
    stored["sessions"] = tuple(stored["sessions"])
    return Preference(**stored)


def _known(kind: type, stored: dict[str, Any]) -> dict[str, Any]:
    """Without fields of a newer version."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in stored.items() if name in names}

"""The Lua scripts as typed calls. Each is one atomic step on the keys of one partition (one cluster slot)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

AppendOutcome = Literal["ok", "conflict", "fenced", "gone"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names. The braces make every key of a partition fall into one cluster slot."""

    prefix: str = "et:{0}:"

    @property
    def agenda(self) -> str:
        """Sorted set: session id by the millisecond at which it may be claimed."""
        return f"{self.prefix}agenda"

    def meta(self, session_id: str) -> str:
        """Hash: seq, fence, owner, tenant."""
        return f"{self.prefix}s:{session_id}"

    def log(self, session_id: str) -> str:
        """Stream: the session's events, with ids 1-0, 2-0 …"""
        return f"{self.prefix}log:{session_id}"

    def index(self, tenant: str) -> str:
        """Sorted set: a tenant's session ids by the millisecond of creation."""
        return f"{self.prefix}index:{tenant}"

    def idempotency(self, tenant: str, key: str) -> str:
        """Hash: the session made under a caller's key, and the fingerprint of that request."""
        return f"{self.prefix}idem:{tenant}:{key}"

    def live(self, session_id: str) -> str:
        """Channel: "<seq> <event>" as recorded."""
        return f"{self.prefix}live:{session_id}"

    @property
    def wake(self) -> str:
        """Channel: a session became claimable."""
        return f"{self.prefix}wake"

    @property
    def signal(self) -> str:
        """Channel: somebody else wrote to a session that is being driven."""
        return f"{self.prefix}signal"


class Scripts:
    """The scripts, loaded once and called by digest."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._create = _script(redis, "create")
        self._append = _script(redis, "append")
        self._claim = _script(redis, "claim")
        self._renew = _script(redis, "renew")
        self._park = _script(redis, "park")
        self._delete = _script(redis, "delete")

    async def create(
        self, session_id: str, tenant: str, event: bytes, *, key: str, fingerprint: str, ttl_ms: int, limit: int
    ) -> tuple[int, str, str]:
        """See ``create.lua``; an empty `key` means no idempotency. A full agenda answers (-1, waiting, '')."""
        keys = self._keys
        meta = keys.meta(session_id)
        idempotency = keys.idempotency(tenant, key) if key else meta
        reply = await self._create(
            keys=[meta, keys.log(session_id), keys.agenda, keys.index(tenant), idempotency],
            args=[session_id, tenant, event, fingerprint, "1" if key else "0", ttl_ms, keys.prefix, limit],
        )
        rest = [_text(value) for value in reply[1:]]
        return int(reply[0]), rest[0], rest[1] if len(rest) > 1 else ""

    async def append(
        self, session_id: str, expected: int, events: Sequence[bytes], *, fence: int | None, terminal: bool
    ) -> AppendOutcome:
        """See ``append.lua``."""
        keys = self._keys
        reply = await self._append(
            keys=[keys.meta(session_id), keys.log(session_id), keys.agenda],
            args=[session_id, keys.prefix, expected, "" if fence is None else fence, int(terminal), *events],
        )
        outcome: AppendOutcome = _text(reply[0])  # type: ignore[assignment]  # the script answers these four words
        return outcome

    async def claim(self, replica: str, limit: int, lease_ms: int) -> list[tuple[str, int]]:
        """See ``claim.lua``."""
        reply = await self._claim(keys=[self._keys.agenda], args=[self._keys.prefix, replica, limit, lease_ms])
        return [(_text(session_id), int(fence)) for session_id, fence in reply]

    async def renew(self, claims: Sequence[tuple[str, int]], lease_ms: int) -> list[str]:
        """See ``renew.lua``."""
        flat = [part for claim in claims for part in claim]
        reply = await self._renew(keys=[self._keys.agenda], args=[self._keys.prefix, lease_ms, *flat])
        return [_text(session_id) for session_id in reply]

    async def park(self, session_id: str, fence: int, expected: int, until_ms: int | None) -> int:
        """See ``park.lua``."""
        until = "" if until_ms is None else until_ms
        reply = await self._park(
            keys=[self._keys.meta(session_id), self._keys.agenda],
            args=[session_id, fence, expected, until, self._keys.prefix],
        )
        return int(reply)

    async def delete(self, session_id: str, tenant: str) -> bool:
        """See ``delete.lua``."""
        keys = self._keys
        names = [keys.meta(session_id), keys.log(session_id), keys.agenda, keys.index(tenant)]
        return bool(await self._delete(keys=names, args=[session_id]))


def _script(redis: Redis, name: str) -> AsyncScript:
    text = resources.files("orchestrator.store").joinpath("lua", f"{name}.lua").read_text("utf-8")
    return redis.register_script(text)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

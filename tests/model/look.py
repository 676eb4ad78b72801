"""A snapshot of Redis as one value, and how to restore one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from redis import Redis

_DUMP = """
local out = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind, value = redis.call('TYPE', key).ok, nil
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  else
    local first, last = redis.call('XRANGE', key, '-', '+', 'COUNT', 1), redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
    value = {redis.call('XLEN', key), first[1][1], last[1][1]}
  end
  out[#out + 1] = {string.sub(key, #ARGV[1] + 1), value}
end
return cjson.encode(out)
"""
_SAVE = """
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do out[#out + 1] = {key, redis.call('DUMP', key)} end
return out
"""


@dataclass(frozen=True, slots=True)
class Look:
    """All keys at one moment; `lua/prelude.lua` documents them."""

    sessions: dict[str, dict[str, str]] = field(default_factory=dict)
    logs: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Length, first id and last id."""
    queues: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    turns: dict[str, dict[str, float]] = field(default_factory=dict)
    work: dict[str, dict[str, float]] = field(default_factory=dict)
    left: dict[str, dict[str, float]] = field(default_factory=dict)
    capped: dict[str, set[str]] = field(default_factory=dict)
    inflight: dict[str, dict[str, int]] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    urgent: dict[str, float] = field(default_factory=dict)
    own: dict[str, set[str]] = field(default_factory=dict)
    replicas: dict[str, float] = field(default_factory=dict)
    timers: dict[str, float] = field(default_factory=dict)
    unfinished: int = 0
    open: dict[str, dict[str, float]] = field(default_factory=dict)

    def state(self, session_id: str) -> str:
        """ready, owned, parked, done; gone for an unknown session."""
        return self.sessions.get(session_id, {}).get("state", "gone")

    def fence(self, session_id: str) -> int:
        """The latest fence; -1 for an unknown session."""
        return int(self.sessions.get(session_id, {}).get("fence", -1))


class Looking:
    """Reads and restores one database."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._dump = redis.register_script(_DUMP)
        self._save = redis.register_script(_SAVE)

    def look(self) -> Look:
        """A snapshot of now."""
        found: dict[str, Any] = {field_name: {} for field_name, _ in _PARTS.values()}
        for key, value in json.loads(self._dump(args=[self._prefix])):
            name, _, rest = key.partition(":")
            if name in {"urgent", "replicas", "timers"}:
                found[name] = _scores(value)
            elif name == "waiting":
                found[name] = {lane: int(n) for lane, n in _pairs(value).items()}
            elif name == "unfinished":
                found[name] = int(value)
            elif name in _PARTS:
                field_name, read = _PARTS[name]
                found[field_name][tuple(rest.split(":")) if field_name == "queues" else rest] = read(value)
        return Look(**found)

    def save(self) -> list[Any]:
        """Save everything for `restore`."""
        saved: list[Any] = self._save()
        return saved

    def restore(self, saved: list[Any]) -> None:
        """Restore it."""
        with self._redis.pipeline() as pipe:
            pipe.flushdb()
            for key, data in saved:
                pipe.restore(key, 0, data)
            pipe.execute()


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _scores(flat: list[str]) -> dict[str, float]:
    return {member: float(score) for member, score in _pairs(flat).items()}


_PARTS: Final[dict[str, tuple[str, Callable[[list[str]], Any]]]] = {
    "s": ("sessions", _pairs),
    "log": ("logs", tuple),
    "q": ("queues", _scores),
    "turns": ("turns", _scores),
    "work": ("work", _scores),
    "left": ("left", _scores),
    "capped": ("capped", set),
    "inflight": ("inflight", lambda flat: {tenant: int(n) for tenant, n in _pairs(flat).items()}),
    "own": ("own", set),
    "open": ("open", _scores),
}

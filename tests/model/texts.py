"""The scripts as the model check runs them: on its own clock, in small portions, and with deliberate bugs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from unittest.mock import patch

from redis.asyncio import Redis

from orchestrator.store import scripts
from orchestrator.store.pubsub import PubSubFanout
from orchestrator.store.sessions import RedisSessions, SessionsOptions

CLOCK = "test-clock"
"""The key, after the prefix, that holds the time in place of the server's own clock."""

_TIME = "local t = redis.call('TIME')\n  return t[1] * 1000 + math.floor(t[2] / 1000)"
_NOW = f"return tonumber(redis.call('GET', P .. '{CLOCK}'))"
# Lower limits, so that a handful of sessions reaches them, and portions that are the same when an example is repeated.
_SMALL = {
    "'LIMIT', 0, 200)": "'LIMIT', 0, 2)",
    "redis.call('SRANDMEMBER', P .. 'own:' .. dead, 200)": "redis.call('SORT', P .. 'own:' .. dead, 'ALPHA', 'LIMIT', 0, 2)",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to break the protocol: for each script, texts and their replacements."""

    name: str
    changes: Mapping[str, Mapping[str, str]]


BROKEN = (
    Variant(
        "append without the fence",
        {"append": {"if fence ~= '' and (fence ~= h[2] or h[4] ~= 'owned') then return {'fenced'} end\n": ""}},
    ),
    Variant(
        "append wherever the log ends",
        {"append": {"if h[1] ~= expected then return {'conflict', tonumber(h[1])} end\n": ""}},
    ),
    Variant(
        "a dead replica's fence stays good",
        {"claim": {"      next_fence(id)\n      disown(id, dead": "      disown(id, dead"}},
    ),
    Variant(
        "suspend without a look at the log",
        {"suspend": {"if h[1] ~= ARGV[3] then return 0 end\n": ""}},
    ),
    Variant(
        "a claim shows the fence of the claim before",
        {"claim": {"local fence = next_fence(id)": "local fence = redis.call('HGET', P .. 's:' .. id, 'fence')"}},
    ),
    Variant(
        "a word to a parked session wakes nobody",
        {"append": {"    enqueue(id, false)\n": ""}},
    ),
    Variant(
        "a tenant at its cap is forgotten when there is room again",
        {"prelude": {"if redis.call('SREM', P .. 'capped:' .. editor, tenant) == 1 then redis": "if false then redis"}},
    ),
    Variant(
        "a claim costs nothing",
        {"claim": {"    charge(h[2], h[3], advance)\n": ""}},
    ),
    Variant(
        "tenants are served by their names",
        {"claim": {"redis.call('ZRANGE', turns, 0, 0)[1]": "redis.call('SORT', turns, 'ALPHA', 'LIMIT', 0, 1)[1]"}},
    ),
    Variant(
        "a word that asks for more work jumps the queue",
        {"append": {"elseif h[4] ~= 'done' and ARGV[6] == '1' then": "elseif h[4] ~= 'done' then"}},
    ),
    Variant(
        "chores that nobody has room for stand in the way",
        {"claim": {"      redis.call('ZADD', P .. 'timers', now + math.max(1000, due_in_all), due)\n": ""}},
    ),
    Variant(
        "a create that arrives twice starts over",
        {"create": {"if redis.call('EXISTS', P .. 's:' .. id) == 1 then return {1, id, request} end\n": ""}},
    ),
    Variant(
        "a replica's lease ends though it drives something",
        {"claim": {"if redis.call('SCARD', P .. 'own:' .. dead) == 0 then ": "do "}},
    ),
)


def sessions(
    redis: Redis, keys: scripts.KeySpace, options: SessionsOptions, variant: Variant | None = None, *, small: bool = True
) -> RedisSessions:
    """The real store on altered scripts; with `small`, portions of 200 become portions of 2."""
    with patch.object(scripts, "_text_of", _altered(scripts._text_of, variant, small=small)):
        return RedisSessions(redis, PubSubFanout(lambda: redis), keys, options)


def _altered(original: Callable[[str], str], variant: Variant | None, *, small: bool) -> Callable[[str], str]:
    def text(name: str) -> str:
        source = original(name)
        if name == "prelude":
            source = _replaced(source, _TIME, _NOW)
        if name == "claim" and small:
            for old, new in _SMALL.items():
                source = _replaced(source, old, new)
        for old, new in (variant.changes.get(name, {}) if variant else {}).items():
            source = _replaced(source, old, new)
        assert "'TIME'" not in source, f"{name} has another clock"
        return source

    return text


def _replaced(source: str, old: str, new: str) -> str:
    assert source.count(old) == 1, f"the scripts have changed: {old!r} does not stand there once"
    return source.replace(old, new)

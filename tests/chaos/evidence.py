"""The evidence of a run: the clients' answers, the content of Redis and the blob store, and the API's state at the end.

No code of the orchestrator is imported: keys and fields are read as they are documented, not as its code reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

PREFIX = "et:{0}:"
MACHINE = "machine"
"""The source of a fault that is none of the network's: the harness, and its proxies, could not run."""


@dataclass(frozen=True)
class Route:
    """How a caller reached the replica that answered it.

    Attributes:
        door: the process that it called.
        replica: the one that answered.
        since: when that connection or call began; those before it may have gone anywhere.
    """

    door: str = ""
    replica: str = ""
    since: float = 0.0


@dataclass
class ListenerRecord:
    """One listener's events in their order of arrival, over all its connections."""

    session_id: str
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    connections: int = 0
    ended: bool = False
    """The stream ended after `finished`, or with 204."""
    finished_at: float | None = None
    """When `finished` arrived."""
    route: Route = field(default_factory=Route)
    """Of the last connection."""


@dataclass
class CallerRecord:
    """A caller's request and the answers that it got."""

    key: str
    ids: set[str] = field(default_factory=set)
    heard: list[ListenerRecord] = field(default_factory=list)
    cancelled_at: str | None = None
    """The status in the answer to its cancel, which was acknowledged."""
    refusals: list[str] = field(default_factory=list)
    """Invalid answers."""
    waited: tuple[str, float, bool] | None = None
    """Of a caller that waited for its picture: the session, when it was answered, and whether there was a picture."""
    route: Route = field(default_factory=Route)
    """Of the call that was answered."""


@dataclass(frozen=True)
class FaultRecord:
    """A fault of the network, from when to when, between which two processes."""

    began: float
    ended: float
    source: str
    target: str

    def meets(self, route: Route) -> bool:
        """Whether it may have kept an answer from a caller."""
        on_the_way = {("callers", route.door), (route.door, route.replica), (route.replica, "redis-1")}
        return self.source == MACHINE or self.began < route.since or (self.source, self.target) in on_the_way


@dataclass
class Evidence:
    """All evidence of a run."""

    told: list[CallerRecord]
    logs: dict[str, list[tuple[str, dict[str, Any]]]]
    """By session: (stream id, event)."""
    metas: dict[str, dict[str, str]]
    views: dict[str, dict[str, Any]]
    """By session: `GET /v1/sessions/{id}` at the end."""
    leftovers: dict[str, str]
    """Keys of the queues that should be empty, and their content."""
    blobs: Path
    finished_at: dict[str, float] = field(default_factory=dict)
    """By session: the last time at which `finished` was not yet seen in Redis; an append may come later than its event's time."""
    faults: list[FaultRecord] | None = None
    """Of links on the way from Redis to callers.

    None where processes were killed or paused, so that nothing can be said about how long callers waited.
    """
    may_wait_s: float = 2.0
    """How long after its session has finished, with a sound network, a caller may wait for the answer."""

    def events(self, session_id: str) -> list[dict[str, Any]]:
        return [event for _, event in self.logs[session_id]]

    def blob(self, session_id: str, sha256: str) -> bytes | None:
        """An image's bytes, stored by session or by content."""
        for path in (self.blobs / session_id / sha256, self.blobs / sha256[:2] / sha256):
            if path.is_file():
                return path.read_bytes()
        return None

    def archived(self, session_id: str) -> list[dict[str, Any]] | None:
        """The events in a session's document; None if it has none."""
        path = self.blobs / session_id / "session.json"
        found: list[dict[str, Any]] | None = json.loads(path.read_bytes())["events"] if path.is_file() else None
        return found


class Store:
    """Reads Redis directly."""

    def __init__(self, port: int) -> None:
        self._redis: Any = redis.Redis(port=port, decode_responses=True, socket_timeout=30)

    def close(self) -> None:
        self._redis.close()

    def logs(self) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        found = {}
        for key in self._keys("log:*"):
            rows = self._redis.xrange(key)
            found[key.removeprefix(f"{PREFIX}log:")] = [(name, json.loads(fields["e"])) for name, fields in rows]
        return found

    def metas(self) -> dict[str, dict[str, str]]:
        return {key.removeprefix(f"{PREFIX}s:"): self._redis.hgetall(key) for key in self._keys("s:*")}

    def unfinished(self, among: Iterable[str] | None = None) -> list[str]:
        """Sessions, or those of the given ones, whose log does not end with `finished`."""
        ids = [key.removeprefix(f"{PREFIX}log:") for key in self._keys("log:*")] if among is None else list(among)
        pipe = self._redis.pipeline(transaction=False)
        for name in ids:
            pipe.xrevrange(f"{PREFIX}log:{name}", count=1)
        last = pipe.execute()
        return [
            name for name, rows in zip(ids, last, strict=True) if not rows or json.loads(rows[0][1]["e"])["type"] != "finished"
        ]

    def leftovers(self) -> dict[str, str]:
        """What is still queued, owned or counted although every session is finished."""
        left: dict[str, str] = {}
        for pattern in (
            "own:*",
            "q:*",
            "turns:*",
            "work:*",
            "urgent",
            "capped:*",
            "inflight:*",
            "waiting",
            "unfinished",
            "timers",
        ):
            for key in self._keys(pattern):
                if content := self._content(key):
                    left[key] = content
        return left

    def _content(self, key: str) -> str:
        match self._redis.type(key):
            case "hash":  # of counts
                counts = {name: value for name, value in self._redis.hgetall(key).items() if value != "0"}
                return str(counts) if counts else ""
            case "zset":
                names = self._redis.zrange(key, 0, -1)
                # A finished session keeps its timer for expiry, but none to wake or archive it.
                return str(
                    [name for name in names if not key.endswith("timers") or name.startswith(("wake:", "archive:"))][:10] or ""
                )
            case "string":  # a count
                value = self._redis.get(key)
                return "" if value == "0" else str(value)
            case "set":
                return str(sorted(self._redis.smembers(key))[:10] or "")
            case "list":
                return str(self._redis.lrange(key, 0, 9) or "")
            case kind:
                return "" if kind == "none" else kind

    def _keys(self, pattern: str) -> list[str]:
        # Braces are plain characters in a pattern; brackets and stars of ids do not occur.
        return sorted(self._redis.scan_iter(f"{PREFIX}{pattern}", count=1000))


def gather(port: int, blobs: Path, told: list[CallerRecord], views: dict[str, dict[str, Any]]) -> Evidence:
    """Read all evidence."""
    store = Store(port)
    try:
        return Evidence(told, store.logs(), store.metas(), views, store.leftovers(), blobs)
    finally:
        store.close()

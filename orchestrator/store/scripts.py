"""The Lua scripts as typed calls. Each is one atomic step on keys of one cluster slot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, Literal

import orjson
from redis.asyncio import Redis

from orchestrator.ports.stores import Claim, Share, Taken, Wanted
from orchestrator.store.packing import Packed

_ANY: Final = 1_000_000
_PREFERENCES_A_CALL: Final = 1000
_MORE_PREFERENCES: Final = 2
"""More sessions than one claim can bring."""
AppendOutcome = Literal["ok", "full", "conflict", "fenced", "gone", "abandoned", "left"]


@dataclass(frozen=True, slots=True)
class KeySpace:
    """Names of the keys that are read without a script; ``lua/prelude.lua`` lists all of them.

    Attributes:
        prefix: of every key. The braces put all of them into one cluster slot, so that scripts may touch any.
    """

    prefix: str = "et:{0}:"

    def log(self, session_id: str) -> str:
        """Stream: the session's events, with ids 1-0, 2-0 …"""
        return f"{self.prefix}log:{session_id}"

    def meta(self, session_id: str) -> str:
        """Hash: seq, fence, owner, state, tenant, lane (the editor) …"""
        return f"{self.prefix}s:{session_id}"

    def index(self, tenant: str) -> str:
        """Sorted set: a tenant's session ids by the millisecond of creation."""
        return f"{self.prefix}index:{tenant}"

    def own(self, replica: str) -> str:
        """Set: the sessions that a replica drives."""
        return f"{self.prefix}own:{replica}"

    def pace(self, editor: str) -> str:
        """Hash: the pace of an editor (ms, at, since, n), and how long an edit (edit) and a session (work) take there."""
        return f"{self.prefix}pace:{editor}"

    def made(self, tenant: str) -> str:
        """Sorted set: digests of the pictures made for a tenant by the second, see `orchestrator.store.made`."""
        return f"{self.prefix}made:{tenant}"

    def preferences(self, tenant: str) -> str:
        """Hash: what a tenant's people prefer, by id."""
        return f"{self.prefix}preferences:{tenant}"

    def preferred(self, tenant: str) -> str:
        """Sorted set: their ids by the millisecond of creation."""
        return f"{self.prefix}preferred:{tenant}"

    @property
    def training(self) -> str:
        """Hash: the consent to training by tenant, see `orchestrator.store.training`."""
        return f"{self.prefix}training"

    def withheld(self, tenant: str) -> str:
        """Set: a tenant's sessions that are withheld from training."""
        return f"{self.prefix}withheld:{tenant}"

    def share(self, share_id: str) -> str:
        """String: a share of a session, see `orchestrator.store.shares`."""
        return f"{self.prefix}share:{share_id}"

    def shares(self, tenant: str) -> str:
        """Sorted set: ``<session id>/<share id>`` of a tenant's shares by the second at which they expire."""
        return f"{self.prefix}shares:{tenant}"

    @property
    def timers(self) -> str:
        """Sorted set: ``<kind>:<session id>`` by the millisecond at which it is due."""
        return f"{self.prefix}timers"

    @property
    def waiting(self) -> str:
        """Hash: queued sessions by editor."""
        return f"{self.prefix}waiting"

    @property
    def unfinished(self) -> str:
        """Counter: sessions that are not finished."""
        return f"{self.prefix}unfinished"

    @property
    def replicas(self) -> str:
        """Sorted set: replicas by the millisecond at which their lease ends."""
        return f"{self.prefix}replicas"

    def hooks(self, tenant: str) -> str:
        """Hash: a tenant's webhook endpoints by id."""
        return f"{self.prefix}hooks:{tenant}"

    def deliveries(self, session_id: str) -> str:
        """Hash: the webhook deliveries of a session by id."""
        return f"{self.prefix}deliveries:{session_id}"

    def live(self, session_id: str) -> str:
        """Channel: "<seq> <event>" as recorded."""
        return f"{self.prefix}live:{session_id}"

    @property
    def wake(self) -> str:
        """Channel: a session became claimable."""
        return f"{self.prefix}wake"

    @property
    def signal(self) -> str:
        """Channel: a caller wrote to a session that a replica drives."""
        return f"{self.prefix}signal"


@dataclass(frozen=True, slots=True)
class NewSession:
    """The arguments of ``create.lua``, in its order; an empty `key` means none, as an empty bound does."""

    session_id: str
    tenant: str
    editor: str
    event: bytes
    fingerprint: str
    key: str
    ttl_ms: int
    limit: int
    deadline_ms: int
    most_open: str = ""
    most_spent: str = ""
    most_log_bytes: str = ""
    most_blob_bytes: str = ""
    digest: str = ""
    retention_ms: int = 86_400_000
    blob_bytes: int = 0
    request: str = ""
    caller_ms: int | str = ""
    webhook: str = ""
    thinker: str = ""
    judge: str = ""
    created_ms: int = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Append:
    """The arguments of ``append.lua``; `fence` is None for a writer that is not the driver."""

    session_id: str
    expected: int
    events: Sequence[Packed]
    fence: int | None
    terminal: bool
    ending: bool
    spent: float
    blob_bytes: int
    begins: bool = False


@dataclass(frozen=True, slots=True)
class CompareAndSet:
    """The arguments of ``compare_and_set.lua``, in its order."""

    key: str
    field: str
    old: bytes
    new: bytes
    timer: str = ""
    due_ms: int | str = ""
    keep_ms: int | str = ""


class Scripts:
    """The scripts, loaded once and called by digest."""

    def __init__(self, redis: Redis, keys: KeySpace) -> None:
        self._redis = redis
        self._prefix = keys.prefix
        prelude = _text_of("prelude")
        names = (
            "create",
            "append",
            "claim",
            "renew_lease",
            "suspend",
            "release",
            "queue_position",
            "renew_callers",
            "hand_over",
            "take_back",
            "delete",
            "expire",
            "add_endpoint",
            "schedule_deliveries",
            "compare_and_set",
            "add_preference",
            "remove_preference",
            "probe",
            "clock",
        )
        self._scripts = {name: redis.register_script(prelude + _text_of(name)) for name in names}

    async def create(self, new: NewSession) -> tuple[int, str, str]:
        """See ``create.lua``: (1 created or 0 created before, id, fingerprint) or (-1 to -6, its number, '')."""
        reply = await self._call("create", *dataclasses.astuple(new))
        rest = [_text(value) for value in reply[1:]]
        return int(reply[0]), rest[0], rest[1] if len(rest) > 1 else ""

    async def append(self, append: Append) -> AppendOutcome:
        """See ``append.lua``."""
        fence = "" if append.fence is None else append.fence
        flags = (int(append.terminal), f"{append.spent:.6f}", int(append.ending), append.blob_bytes, int(append.begins))
        events = (part for packed in append.events for part in (packed.event, packed.digest, packed.head))
        reply = await self._call("append", append.session_id, append.expected, fence, *flags, *events)
        outcome: AppendOutcome = _text(reply[0])  # type: ignore[assignment]  # the script answers these words
        return outcome

    async def claim(self, replica: str, wanted: Wanted, *, lease_ms: int, cap: int) -> Taken:
        """See ``claim.lua``."""
        most = _ANY if wanted.most is None else wanted.most
        thinkers = "" if wanted.thinkers is None else orjson.dumps(sorted(wanted.thinkers))
        args: list[Any] = [replica, lease_ms, cap, wanted.urgent, wanted.chores, wanted.webhook_chores, most, thinkers]
        for editor in {**wanted.capacity, **wanted.shares}:
            share = wanted.shares.get(editor, Share())
            args += (editor, wanted.capacity.get(editor, 0), share.more, share.slots)
        claims, due, recovered, joined, timers_left = await self._call("claim", *args)
        return Taken(
            tuple(_claim(found) for found in claims),
            tuple(_text(chore) for chore in due),
            int(recovered),
            bool(joined),
            bool(timers_left),
        )

    async def renew_lease(self, replica: str, lease_ms: int) -> bool:
        """See ``renew_lease.lua``."""
        return bool(await self._call("renew_lease", replica, lease_ms))

    async def suspend(self, claim: Claim, expected: int, until_ms: int | None, *, untried: bool) -> int:
        """See ``suspend.lua``."""
        until = "" if until_ms is None else until_ms
        return int(await self._call("suspend", claim.session_id, claim.fence, expected, until, int(untried)))

    async def release(self, replica: str, session_id: str, *, failed: bool) -> bool:
        """See ``release.lua``."""
        return bool(await self._call("release", replica, session_id, int(failed)))

    async def renew_callers(self, caller_ms: int, session_ids: Sequence[str]) -> None:
        """See ``renew_callers.lua``."""
        await self._call("renew_callers", caller_ms, *session_ids)

    async def hand_over(self, session_id: str, tenant: str, fingerprint: str, ttl_ms: int, *, left: bool) -> None:
        """See ``hand_over.lua``."""
        await self._call("hand_over", session_id, tenant, fingerprint, ttl_ms, int(left))

    async def take_back(self, session_id: str, tenant: str, fingerprint: str) -> bool:
        """See ``take_back.lua``."""
        return bool(await self._call("take_back", session_id, tenant, fingerprint))

    async def queue_position(self, session_id: str) -> tuple[int, int | None] | None:
        """See ``queue_position.lua``: sessions ahead, and the wait in milliseconds if it is known; None: not queued."""
        reply = await self._call("queue_position", session_id)
        return (int(reply[0]), int(reply[1]) if reply[1] != b"" else None) if reply else None

    async def delete(self, session_id: str, tenant: str) -> bool:
        """See ``delete.lua``: each call removes some of the session's preferences, so that none keeps Redis for long."""
        while (outcome := await self._call("delete", session_id, tenant, _PREFERENCES_A_CALL)) == _MORE_PREFERENCES:
            pass
        return bool(outcome)

    async def expire(self, session_id: str, tenant: str, retention_ms: int, forget_ms: int | None) -> bool:
        """See ``expire.lua``."""
        return bool(await self._call("expire", session_id, tenant, retention_ms, "" if forget_ms is None else forget_ms))

    async def add_endpoint(self, tenant: str, endpoint_id: str, record: bytes, others: Sequence[str]) -> bool:
        """See ``add_endpoint.lua``."""
        return bool(await self._call("add_endpoint", tenant, endpoint_id, record, *others))

    async def schedule_deliveries(self, session_id: str, keep_ms: int, records: Mapping[str, bytes]) -> bool:
        """See ``schedule_deliveries.lua``."""
        parts = (part for record in records.items() for part in record)
        return bool(await self._call("schedule_deliveries", session_id, keep_ms, *parts))

    async def compare_and_set(self, change: CompareAndSet) -> bool:
        """See ``compare_and_set.lua``."""
        return bool(await self._call("compare_and_set", *dataclasses.astuple(change)))

    async def add_preference(
        self, preference_id: str, tenant: str, record: bytes, at_ms: int, most_bytes: int, *sessions: str, replace: bool
    ) -> tuple[int, bytes]:
        """See ``add_preference.lua``: (1 stored or 0 stored before, record) or (-1, session) or (-2, bytes)."""
        args = (preference_id, tenant, record, at_ms, most_bytes, int(replace), *sessions)
        outcome, found = await self._call("add_preference", *args)
        return int(outcome), found

    async def remove_preference(self, preference_id: str, tenant: str) -> bool:
        """See ``remove_preference.lua``."""
        return bool(await self._call("remove_preference", preference_id, tenant))

    async def clock(self) -> float:
        """See ``clock.lua``; in seconds."""
        return int(await self._call("clock")) / 1000

    async def probe(self) -> bytes:
        """See ``probe.lua``."""
        info: bytes = await self._call("probe")
        return info

    async def _call(self, name: str, *args: Any) -> Any:
        # Which keys a script touches depends on what it finds, so they cannot all be declared. While a cluster moves our slot to
        # another node, a script would make those again that have already left. Two declared keys that never exist prevent that:
        # of a slot on the move, both nodes refuse a command of several keys if one is missing (TRYAGAIN).
        return await self._scripts[name](keys=[self._prefix, f"{self._prefix}never"], args=args)


def _text_of(name: str) -> str:
    return resources.files("orchestrator.store").joinpath("lua", f"{name}.lua").read_text("utf-8")


def _claim(found: Sequence[Any]) -> Claim:
    """One of the claims that ``claim.lua`` answers."""
    session_id, fence, editor, attempts, seq, now_ms, deadline_ms = found
    deadline_at = int(deadline_ms) / 1000 if deadline_ms else None
    return Claim(_text(session_id), int(fence), _text(editor), int(attempts), int(seq), int(now_ms) / 1000, deadline_at)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

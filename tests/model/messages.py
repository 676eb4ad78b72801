"""The commands of replicas and people to the store: values that can be sent, lost, delayed and repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.loop.events import Event, SessionCreated
from orchestrator.ports.errors import FencedError, PortError
from orchestrator.ports.stores import Claim, Idempotency, Share, Wanted
from orchestrator.store.sessions import RedisSessions


@dataclass(frozen=True, slots=True)
class Create:
    """A person's new session."""

    session_id: str
    event: SessionCreated
    idempotency: Idempotency | None

    async def send(self, store: RedisSessions) -> Any:
        try:
            return await store.create(self.session_id, self.event, self.idempotency)
        except PortError as refusal:
            if refusal.code != "overloaded":
                raise
            return None


@dataclass(frozen=True, slots=True)
class Append:
    """A driver's events, with its knowledge of the log."""

    claim: Claim
    known: tuple[Event, ...]
    events: tuple[Event, ...]

    async def send(self, store: RedisSessions) -> Any:
        try:
            return await store.append(self.claim.session_id, len(self.known), self.events, self.claim.fence) is not None
        except FencedError:
            return "fenced"


@dataclass(frozen=True, slots=True)
class Speak:
    """A person's command, with the length of the log that the person saw."""

    session_id: str
    expected: int
    event: Event

    async def send(self, store: RedisSessions) -> Any:
        try:
            return await store.append(self.session_id, self.expected, (self.event,), None) is not None
        except FencedError:
            return "gone"


@dataclass(frozen=True, slots=True)
class Take:
    """A replica's round (the script ``claim``)."""

    replica: str
    room: Mapping[str, int]
    urgent: int
    chores: int
    shares: Mapping[str, Share] = field(default_factory=dict)

    async def send(self, store: RedisSessions) -> Any:
        return await store.claim(self.replica, Wanted(self.room, self.urgent, self.chores, shares=self.shares))


@dataclass(frozen=True, slots=True)
class Beat:
    """A replica's lease renewal."""

    replica: str

    async def send(self, store: RedisSessions) -> Any:
        return await store.renew_lease(self.replica)


@dataclass(frozen=True, slots=True)
class Park:
    """A driver releases a session: until a time, or at once."""

    claim: Claim
    expected: int
    until: float | None

    async def send(self, store: RedisSessions) -> Any:
        try:
            return await store.suspend(self.claim, self.expected, self.until)
        except FencedError:
            return "fenced"


@dataclass(frozen=True, slots=True)
class Release:
    """A replica releases sessions that it owns without driving them."""

    replica: str
    session_id: str

    async def send(self, store: RedisSessions) -> Any:
        return await store.release(self.replica, self.session_id)


@dataclass(frozen=True, slots=True)
class Delete:
    """A person deletes a session."""

    session_id: str
    tenant: str

    async def send(self, store: RedisSessions) -> Any:
        return await store.delete(self.session_id, self.tenant)


@dataclass(frozen=True, slots=True)
class Done:
    """A chore is done."""

    chore: str

    async def send(self, store: RedisSessions) -> Any:
        return await store.complete_chore(self.chore)


Message = Create | Append | Speak | Take | Beat | Park | Release | Delete | Done

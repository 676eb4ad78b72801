"""The real store on its own clock, with a witness: every command's effect is checked against the laws."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import redis
import redis.asyncio

from orchestrator.loop.events import Event, Finished, load
from orchestrator.loop.session import Session
from orchestrator.ports.errors import StorageUnavailableError
from orchestrator.ports.stores import Claim, Taken
from orchestrator.store.scripts import KeySpace
from orchestrator.store.sessions import SessionsOptions
from tests.model import laws, texts
from tests.model.look import Look, Looking
from tests.model.messages import Append, Message, Park, Speak, Take

LEASE_MS: Final = 10_000
CAP: Final = 2
MOST_UNFINISHED: Final = 7
_BEGAN_MS: Final = 1_700_000_000_000


class World:
    """One database, emptied for every example.

    Attributes:
        now: the server's clock in milliseconds, which may jump; `latest` is the highest it ever showed.
        sent: commands executed, in all examples.
        finished: sessions whose end was recorded, in all examples.
    """

    def __init__(self, port: int, db: int, variant: texts.Variant | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = redis.asyncio.Redis(port=port, db=db)
        self._raw = redis.Redis(port=port, db=db)
        self._keys = KeySpace()
        options = SessionsOptions(lease_s=LEASE_MS / 1000, most_unfinished=MOST_UNFINISHED, tenant_cap=CAP)
        self.store = texts.sessions(self._client, self._keys, options, variant)
        self._looking = Looking(self._raw, self._keys.prefix)
        self.sent = self.finished = 0
        self.begin()

    def begin(self) -> None:
        """Empty."""
        self._raw.flushdb()
        self._logs: dict[str, list[Event]] = {}
        self._folded: dict[str, Session] = {}
        self._issued: dict[str, int] = {}
        self._saved: list[Any] | None = None
        self._forgetful = False
        self.latest = self._floor = 0
        self.look = Look()
        self.set_clock(_BEGAN_MS)

    def close(self) -> None:
        """Disconnect."""
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()
        self._raw.close()

    # --- time and disasters -------------------------------------------------------------------------------------------

    def set_clock(self, now: int) -> None:
        """Set the server's time. It never repeats a time from before Redis lost data, because fences are times."""
        self.now = max(now, self._floor)
        self.latest = max(self.now, self.latest)
        self._raw.set(self._keys.prefix + texts.CLOCK, self.now)

    def save(self) -> None:
        """Save the state."""
        self._saved = self._looking.save()

    def roll_back(self) -> bool:
        """Restore the saved state, at a later time than anything that is lost; False if none is saved."""
        if self._saved is None:
            return False
        self._looking.restore(self._saved)
        self._forgetful = True
        self._floor = max(self.latest, *self._issued.values(), 0) + 1
        self.set_clock(self._floor)
        self._logs.clear()
        self._folded.clear()
        self.look = self._looking.look()
        self._witness()
        return True

    # --- commands -------------------------------------------------------------------------------------------------------

    def execute(self, message: Message) -> Any:
        """Execute a command on the server, and check its effect against the laws."""
        before = self.look
        try:
            reply = self._loop.run_until_complete(message.send(self.store))
        except StorageUnavailableError as exc:
            raise laws.InvariantError(f"no command fails half-way: {message}") from exc
        self.sent += 1
        self.look = self._looking.look()
        laws.of_a_command(message, reply, before, self.look)
        if isinstance(message, Append) and reply is True:
            known, log = list(message.known), self._logs[message.claim.session_id]
            laws.law(known == log, "a driver writes behind what it has read", message.claim, known, log)
        if isinstance(message, Take):
            self._claimed(message, reply, before)
        self._witness()
        if isinstance(message, Park) and reply is True and message.until is not None:
            laws.of_parking(self._folded[message.claim.session_id])
        if isinstance(message, Append | Speak) and reply is True:
            events = message.events if isinstance(message, Append) else (message.event,)
            name = message.claim.session_id if isinstance(message, Append) else message.session_id
            laws.law(self._logs[name][-len(events) :] == list(events), "what is recorded is what was sent", name)
            self.finished += isinstance(events[-1], Finished)
        return reply

    def read(self, session_id: str) -> list[Event]:
        """The log, through the store."""
        entries = self._loop.run_until_complete(self.store.read(session_id))
        laws.law([entry.seq for entry in entries] == list(range(1, len(entries) + 1)), "a log is dense", session_id)
        return [entry.event for entry in entries]

    def owned(self, replica: str) -> set[str]:
        """The sessions that a replica owns according to Redis."""
        return self._loop.run_until_complete(self.store.owned(replica))

    def session(self, session_id: str) -> Session:
        """The witness's state of the session."""
        return self._folded[session_id]

    def log(self, session_id: str) -> list[Event]:
        """The witness's log of the session."""
        return self._logs[session_id]

    # --- the witness ----------------------------------------------------------------------------------------------------

    def _claimed(self, message: Take, taken: Taken, before: Look) -> None:
        laws.of_a_round(message, taken, before, self.look, cap=CAP, now=self.now)
        for claim in taken.claims:
            self._issue(claim)

    def _issue(self, claim: Claim) -> None:
        last = self._issued.get(claim.session_id, -1)
        laws.law(claim.fence > last, "no fence is given out twice", claim, last)
        self._issued[claim.session_id] = claim.fence

    def _witness(self) -> None:
        """Read the new entries of the logs; earlier entries of a stream do not change."""
        laws.of_a_moment(self.look, CAP)
        for session_id in self._logs.keys() - self.look.sessions.keys():
            del self._logs[session_id], self._folded[session_id]
        for session_id, meta in self.look.sessions.items():
            log = self._logs.setdefault(session_id, [])
            if len(log) == int(meta["seq"]):
                continue
            rows: Any = self._raw.xrange(self._keys.log(session_id), min=f"{len(log) + 1}-0")
            new = [load(fields[b"e"]) for _, fields in rows]
            self._folded[session_id] = laws.of_events(self._folded.get(session_id), new, forgetful=self._forgetful)
            log.extend(new)
        for session_id, session in self._folded.items():
            done = self.look.state(session_id) == "done"
            laws.law(done == (session.finished is not None), "a session is done when its log says so", session_id)

"""The end of sessions that cannot be driven: one whose drivers die, or one whose log cannot be read.

A session that kills its driver (its picture crashes a library, its log exhausts the memory) would kill one replica after
another until its deadline. Redis counts its claims since a driver last recorded an event. At `MOST_ATTEMPTS` it is a suspect,
which a replica drives only while no other one is on trial there, so that those that were merely on the same replicas are told
apart. A trial ends with an event, and after a minute.
Above, it is finished as failed, with ``driver_crashed`` and its best candidate.

A log that cannot be read may be one of a newer version, whose replicas are starting. So it is given back for a while, and
finished as failed, with ``session_unreadable``, at its deadline or when it is cancelled.
"""

from __future__ import annotations

import logging
from typing import Final

import orjson

from orchestrator.loop.choosing import ranking
from orchestrator.loop.events import Failure, Finished, Totals
from orchestrator.loop.session import CorruptLogError, fold
from orchestrator.ports.stores import Claim, Sessions

log = logging.getLogger(__name__)
MOST_ATTEMPTS: Final = 3
TRIAL_S: Final = 60.0
_NEXT_TRIAL_S: Final = 2.0
_READ_AGAIN_S: Final = 60.0
CRASHED: Final = Failure(code="driver_crashed", message="it failed three times while the server worked on it; try another image")
UNREADABLE: Final = Failure(code="session_unreadable", message="the server could not read what it had recorded of this session")


class Quarantine:
    """Ends sessions that cannot be driven, or gives them back."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def end_crashed(self, claim: Claim) -> None:
        """Finish a session whose drivers died."""
        end = Finished(at=claim.at, reason="failed", best=None, error=CRASHED, totals=Totals())
        if claim.attempts == MOST_ATTEMPTS + 1:
            # Reading it may be what kills: the attempt after this one does without.
            end = await self._with_best(claim, end)
        await self._sessions.append(claim.session_id, claim.seq, [end], claim.fence)

    async def postpone(self, claim: Claim) -> None:
        """Give a suspect back while this replica drives another one."""
        await self._give_back(claim, claim.seq, _NEXT_TRIAL_S)

    async def end_unreadable(self, claim: Claim) -> bool:
        """Finish a session whose log cannot be read, if it is late or cancelled; False if it was given back."""
        entries = await self._sessions.stored(claim.session_id)
        # Not the claim's: somebody may have written since.
        seq = entries[-1][0] if entries else claim.seq
        cancelled = any(_type(text) == "cancel_requested" for _, text in entries)
        if not cancelled and (claim.deadline_at is None or claim.at < claim.deadline_at):
            await self._give_back(claim, seq, _READ_AGAIN_S)
            return False
        reason = "cancelled" if cancelled else "failed"
        end = Finished(at=claim.at, reason=reason, best=None, error=UNREADABLE, totals=Totals())  # type: ignore[arg-type]  # one of the two
        return await self._sessions.append(claim.session_id, seq, [end], claim.fence) is not None

    async def _with_best(self, claim: Claim, end: Finished) -> Finished:
        try:
            session = fold(recorded.event for recorded in await self._sessions.read(claim.session_id))
        except CorruptLogError:
            return end
        results = tuple(candidate.ref for candidate in ranking(session))[: session.created.results]
        return end.model_copy(update={"best": next(iter(results), None), "results": results, "totals": session.totals})

    async def _give_back(self, claim: Claim, seq: int, seconds: float) -> None:
        until = claim.at + seconds
        until = until if claim.deadline_at is None else min(until, claim.deadline_at)
        # If its log has grown in between, the session stays owned without being driven, and the audit queues it again.
        await self._sessions.suspend(claim, seq, until, untried=True)


def _type(text: bytes) -> object:
    """An event's type; None where it is not JSON."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found.get("type") if isinstance(found, dict) else None

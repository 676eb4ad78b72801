"""The laws: for the state of Redis at any moment, for the effect of one command, and for every log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from orchestrator.loop import events as ev
from orchestrator.loop.actions import Wait
from orchestrator.loop.policy import decide
from orchestrator.loop.session import Session, apply, fold
from orchestrator.ports.stores import Taken
from tests.model.look import Look
from tests.model.messages import Append, Beat, Create, Delete, Done, Message, Park, Release, Speak, Take

ADVANCE_MS: Final = 1000
"""What a claim is charged while nobody has reported how long an edit takes."""
_ROUNDING: Final = 1e-6
"""Redis adds milliseconds with a fraction one after the other."""


class InvariantError(AssertionError):
    """A law of the protocol was broken."""


def law(holds: object, sentence: str, *found: object) -> None:
    """Raise unless the condition holds."""
    if not holds:
        raise InvariantError(f"{sentence}: {', '.join(map(repr, found))}")


# --- at any moment -----------------------------------------------------------------------------------------------------


def of_a_moment(look: Look, cap: int) -> None:
    """Every session is exactly where its state says, and every count and ring agrees."""
    for session_id in look.sessions:
        _place(look, session_id)
    _members_exist(look)
    _counts(look)
    _turns(look, cap)


def _place(look: Look, session_id: str) -> None:
    meta = look.sessions[session_id]
    state, lane, tenant = meta["state"], meta["lane"], meta["tenant"]
    queued = [key for key, queue in look.queues.items() if session_id in queue]
    urgent, owners = session_id in look.urgent, [name for name, own in look.own.items() if session_id in own]
    timed = f"wake:{session_id}" in look.timers
    if state == "ready":
        law(queued == ([] if urgent else [(lane, tenant)]), "a ready session is in its queue or urgent", session_id, queued)
        law(urgent or timed, "a session in line becomes urgent at its deadline", session_id)
        law(not owners and not meta["owner"], "a ready session is nobody's", session_id, owners)
    else:
        law(not queued and not urgent, "only ready sessions are in line", session_id, state)
        law(owners == ([meta["owner"]] if state == "owned" else []), "an owned session has one owner", session_id, owners)
        law(timed == (state == "parked"), "a parked session, and no other of these, has a timer", session_id, state)
    if state == "owned":
        law(meta["owner"] in look.replicas, "an owner has a lease", session_id, meta["owner"])
    law(state in {"ready", "owned", "parked", "done"}, "there are four states", session_id, state)
    seq = int(meta["seq"])
    law(look.logs.get(session_id) == (seq, "1-0", f"{seq}-0"), "a log is dense", session_id, look.logs.get(session_id), seq)


def _members_exist(look: Look) -> None:
    members = [name for queue in look.queues.values() for name in queue] + [*look.urgent]
    members += [name for own in look.own.values() for name in own] + [*look.logs]
    members += [timer.partition(":")[2] for timer in look.timers if timer.startswith("wake:")]
    law(not set(members) - look.sessions.keys(), "only sessions are in line, owned or timed", members)


def _counts(look: Look) -> None:
    owned = Counter((meta["lane"], meta["tenant"]) for meta in look.sessions.values() if meta["state"] == "owned")
    inflight = {(lane, tenant): n for lane, tenants in look.inflight.items() for tenant, n in tenants.items()}
    law(inflight == owned, "inflight counts owned sessions", inflight, owned)
    waiting: Counter[str] = Counter()
    for (lane, _), queue in look.queues.items():
        waiting[lane] += len(queue)
    law({lane: n for lane, n in look.waiting.items() if n} == waiting, "waiting counts queues", look.waiting, waiting)
    unfinished = sum(meta["state"] != "done" for meta in look.sessions.values())
    law(look.unfinished == unfinished, "unfinished counts sessions", look.unfinished, unfinished)
    mine = {(meta["tenant"], name) for name, meta in look.sessions.items() if meta["state"] != "done"}
    law(
        {(tenant, name) for tenant, names in look.open.items() for name in names} == mine,
        "open is a tenant's unfinished",
        look.open,
    )


def _turns(look: Look, cap: int) -> None:
    for lane in {lane for lane, _ in look.queues} | look.turns.keys() | look.work.keys() | look.left.keys() | look.capped.keys():
        queued = sorted(tenant for of, tenant in look.queues if of == lane)
        turns, capped, work = look.turns.get(lane, {}), look.capped.get(lane, set()), look.work.get(lane, {})
        law(sorted([*turns, *capped]) == queued, "who has sessions in line has a turn or is capped, once", turns, capped, queued)
        here = {*queued, *look.inflight.get(lane, {})}
        law(work.keys() == here, "work is counted of those who have sessions in line or in flight", lane, work, here)
        left = look.left.get(lane, {})
        law(not left.keys() & here and (here or not left), "who left is not here, and is forgotten when all have", left, here)
        law(all(work[tenant] == due for tenant, due in turns.items()), "turns are in the order of work", turns, work)
        for tenant in capped:
            law(look.inflight.get(lane, {}).get(tenant, 0) >= cap, "a capped tenant is at its cap", lane, tenant)


# --- of a command ------------------------------------------------------------------------------------------------------


def of_a_command(message: Message, reply: object, before: Look, after: Look) -> None:
    """A command does what its answer says, and nothing else."""
    if reply is False or reply in {"fenced", "gone"}:
        law(before == after, "what is refused changes nothing", message, reply)
    for session_id, meta in before.sessions.items():
        same = after.sessions.get(session_id)
        if same is None:
            law(isinstance(message, Delete), "only deleting forgets a session", session_id, message)
            continue
        law(after.fence(session_id) >= before.fence(session_id), "fences never fall", session_id)
        mine = isinstance(message, Append | Park) and message.claim.session_id == session_id
        lost = meta["state"] == "owned" and (same["state"], same["owner"]) != ("owned", meta["owner"])
        if lost and not mine:
            law(after.fence(session_id) > before.fence(session_id), "who loses a session loses its fence", session_id, message)
        if meta["seq"] != same["seq"]:
            wrote = mine or (isinstance(message, Speak) and message.session_id == session_id)
            law(wrote and not isinstance(message, Park), "only an append changes a log", session_id, message)
        if meta["state"] == "done":
            law(same["state"] == "done" and same["seq"] == meta["seq"], "nothing follows the end", session_id, message)
    match message:
        case Append():
            _appended(message, reply, before)
        case Park():
            law(reply is not True or before.fence(message.claim.session_id) == message.claim.fence, "a stale claim parks")
        case Speak() if reply is True:
            _heard(message, before, after)
        case Beat():
            law(reply is (message.replica in before.replicas), "a beat tells whether the replica is known", message)
        case Release() if message.session_id not in before.own.get(message.replica, set()):
            law(before == after, "a replica releases its own", message)
        case Delete():
            law(not reply or before.state(message.session_id) in {"done", "gone"}, "only what is done is deleted", message)
        case Done():
            law(message.chore not in after.timers, "what is done does not come again", message)
        case Create():
            made = after.sessions.keys() - before.sessions.keys()
            law(made <= {message.session_id}, "a create makes its session at most", made)
            law(reply is not None or before == after, "what is refused leaves nothing behind", message)


def _appended(message: Append, reply: object, before: Look) -> None:
    if reply is not True:
        return
    session_id, fence = message.claim.session_id, message.claim.fence
    law(before.state(session_id) == "owned", "who writes owns", session_id, before.state(session_id))
    law(before.fence(session_id) == fence, "only the latest claimant writes", session_id, fence, before.fence(session_id))


def _heard(message: Speak, before: Look, after: Look) -> None:
    meta = after.sessions[message.session_id]
    state, was_urgent = before.state(message.session_id), message.session_id in before.urgent
    ends = isinstance(message.event, ev.CancelRequested) or getattr(message.event, "action", "") in {"accept", "pick"}
    if state == "owned":
        law(meta.get("spoken") == "1" or not ends, "the word that ends a driven session is remembered", message)
    elif ends:
        law(message.session_id in after.urgent, "the word that ends a session that nobody drives makes it urgent", message)
    else:
        law(meta["state"] == "ready", "a word to a session that nobody drives makes it ready", message)
        law((message.session_id in after.urgent) == was_urgent, "a word that asks for more work jumps no queue", message)


def of_a_round(message: Take, taken: Taken, before: Look, after: Look, *, cap: int, now: int) -> None:
    """Claims respect the cap, tenants take turns, and no capacity is left unused."""
    law(taken.joined is (message.replica not in before.replicas), "joined tells whether the replica was known", message)
    law(message.replica in after.replicas, "who claims has a lease", message)
    law(len(taken.chores) <= message.chores, "no more chores than wanted", taken.chores)
    for claim in taken.claims:
        meta = after.sessions[claim.session_id]
        law((meta["state"], meta["owner"]) == ("owned", message.replica), "who is given a session owns it", claim)
        law(meta["fence"] == str(claim.fence) and meta["lane"] == claim.editor, "a claim says what Redis says", claim)
        law(claim.fence > before.fence(claim.session_id), "every claim has a fence of its own", claim)
    if taken.recovered or any(timer.startswith("wake:") and due <= now for timer, due in before.timers.items()):
        return  # sessions that became urgent in this round cannot be distinguished from those that were next
    in_turn = [claim for claim in taken.claims if claim.session_id not in before.urgent]
    urgent = len(taken.claims) - len(in_turn)
    law(urgent == min(message.urgent, len(before.urgent)), "urgent sessions go first", before.urgent, taken)
    for lane, room in message.room.items():
        got = Counter(after.sessions[claim.session_id]["tenant"] for claim in in_turn if claim.editor == lane)
        more = message.shares[lane].more if lane in message.shares else 0
        law(got.total() <= room + more, "no more sessions than there is room for", lane, got)
        law(got.total() >= room or not after.turns.get(lane), "what there is room for is given", lane, after.turns)
        for tenant, n in got.items():
            law(after.inflight[lane][tenant] <= cap, "a cap holds", lane, tenant)
            known = before.work.get(lane, {}).get(tenant)
            charged = known is None or math.isclose(after.work[lane][tenant], known + ADVANCE_MS * n, abs_tol=_ROUNDING)
            law(charged, "a claim is charged", lane, tenant, n)
            for other, work in {} if more else after.turns.get(lane, {}).items():
                had = after.work[lane][tenant] - ADVANCE_MS
                law(had <= work + _ROUNDING, "who got least comes next", lane, tenant, other, after.work)
        if got.total() > room:
            of = {tenant: before.inflight.get(lane, {}).get(tenant, 0) for tenant in got}
            law(len(after.inflight[lane]) > 1, "nobody gets more without others", lane, got)
            law(min(of.values()) < max(1, 2 * message.shares[lane].slots * len(after.replicas)), "a share is kept", lane, of)


# --- of a log ------------------------------------------------------------------------------------------------------------


def of_events(session: Session | None, new: Sequence[ev.Event], *, forgetful: bool) -> Session:
    """Check that every step is recorded once and in order, with one end; return the session.

    Args:
        forgetful: Redis came back older once. Then a driver still records the outcome of a step that Redis forgot.
    """
    if session is None:
        return of_events(fold(new[:1]), new[1:], forgetful=forgetful)
    for event in new:
        law(session.finished is None, "nothing follows the end", event)
        _follows(session, event, forgetful=forgetful)
        session = apply(session, event)
    return session


def _follows(session: Session, event: ev.Event, *, forgetful: bool) -> None:
    if isinstance(event, ev.TurnStarted):
        law(event.turn == len(session.turns) + 1, "turns are counted", event)
    if not isinstance(event, ev.EditStarted | ev.Edited | ev.EditFailed | ev.Critiqued):
        return
    candidate = session.candidate(ev.CandidateRef(turn=event.turn, candidate=event.candidate))
    law(candidate is not None, "a step belongs to a turn", event)
    assert candidate is not None
    if isinstance(event, ev.EditStarted):
        law(event.attempt == candidate.attempts + 1 and not candidate.editing, "an attempt begins once", event)
    elif isinstance(event, ev.Critiqued):
        law(candidate.scores is None and (candidate.image or forgetful), "a candidate is critiqued once", event)
    else:
        law(candidate.editing or (forgetful and candidate.image is None), "an attempt ends once", event)


def of_parking(session: Session) -> None:
    """A driver that releases a session has read all its events."""
    law(isinstance(decide(session, session.created.at), Wait), "a parked session has nothing to do but wait", session)

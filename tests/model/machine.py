"""The machine: replicas, people, a network that loses, delays and repeats, clocks that differ and jump, a Redis that forgets.

Every rule is one thing that happens. Every command is compared with the laws at once, see `tests.model.world`; at the end
of an example the faults stop, and one fresh replica must bring everything to its end.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Literal, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orchestrator.loop import events as ev
from orchestrator.ports.stores import Idempotency, Share
from tests.model.laws import law
from tests.model.messages import Beat, Create, Delete, Done, Message, Park, Release, Speak, Take
from tests.model.replica import IMAGE, LOST, Drive, Replica
from tests.model.world import LEASE_MS, World

TENANTS: Final = ("ann", "bob", "cy")
LANES: Final = ("fast", "slow")
_SESSIONS: Final = 8
_REPLICAS: Final = 4
_SLOWLY: Final = 8
_TO_THE_END: Final = 32
"""Rounds that a new replica may take at the end: first time passes all leases, then all deadlines."""
_COMMANDS: Final = 40
"""Most commands that an undisturbed session needs."""


Word = Literal["cancel", "accept", "go_on", "instruct"]


class SessionRequest(NamedTuple):
    """A person's request for a session."""

    tenant: str
    lane: str
    review: ev.Review
    key: str
    deadline_s: int


some = st.integers(0, 11)
"""An index into the existing ones, modulo their number."""
luck = st.sampled_from([True, True, True, False])
words: st.SearchStrategy[Word] = st.sampled_from(["instruct", "go_on", "accept", "cancel"])
rarely = st.sampled_from([False, False, False, True])
fates = st.sampled_from(["arrives"] * 5 + ["answer lost", "lost", "delayed", "twice"])
skews = st.sampled_from([0, -3_000, 3_000])
reviews: list[ev.Review] = ["never", "each_turn", "before_finish"]
requests = st.builds(
    SessionRequest,
    st.sampled_from(TENANTS),
    st.sampled_from(LANES),
    st.sampled_from(reviews),
    st.sampled_from(["", "", "k"]),
    st.sampled_from([60, 5, 600]),
)


def one(those: list[Any], which: int) -> Any:
    """The one at that index."""
    return those[which % len(those)]


class Protocol(RuleBasedStateMachine):
    """Everything that can happen to the sessions of a few replicas."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.begin()
        self.replicas: list[Replica] = []
        self.started = self.made = 0
        self.on_the_way: list[Message] = []
        """Commands that arrive later; their senders no longer wait for an answer."""

    # --- the network ----------------------------------------------------------------------------------------------------

    def send(self, message: Message, fate: str) -> Any:
        """A command's answer, or `LOST`."""
        if fate in {"delayed", "twice"}:
            self.on_the_way.append(message)
        if fate in {"delayed", "lost"}:
            return LOST
        reply = self.world.execute(message)
        return LOST if fate == "answer lost" else reply

    @precondition(lambda self: self.on_the_way)
    @rule(which=some, lost=st.booleans())
    def arrive(self, which: int, lost: bool) -> None:  # noqa: FBT001
        """A delayed command reaches Redis, or is lost."""
        message = self.on_the_way.pop(which % len(self.on_the_way))
        if not lost:
            self.world.execute(message)

    # --- time and disasters ---------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 250, LEASE_MS // 3, LEASE_MS, LEASE_MS, 3 * LEASE_MS, -500, -3_000]))
    def time_passes(self, ms: int) -> None:
        """The clock may jump back: another server, with another clock, replaced the first one."""
        self.world.set_clock(self.world.now + ms)

    @precondition(lambda self: self.world.look.sessions)
    @rule(back=st.booleans())
    def redis_is_copied_or_comes_back_older(self, back: bool) -> None:  # noqa: FBT001
        """Every connection breaks and no command is in flight; on reconnecting, `PubSubFanout` makes drivers read their logs.

        Without that, a driver could not tell a log that was forgotten from one that others have grown to the same length.
        """
        if not back:
            self.world.save()
        elif self.world.roll_back():
            self.on_the_way.clear()
            for drive in [drive for replica in self.replicas for drive in replica.drives.values()]:
                drive.pending, drive.stale = None, True

    # --- people -----------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.made < _SESSIONS)
    @rule(request=requests, fate=fates)
    def create(self, request: SessionRequest, fate: str) -> None:
        self.made += 1
        at = self.world.now / 1000
        event = ev.SessionCreated(
            at=at,
            source=IMAGE,
            instruction="x",
            editor=request.lane,
            thinker="t",
            review=request.review,
            limits=ev.Limits(max_turns=2, deadline_at=at + request.deadline_s),
            tenant=request.tenant,
        )
        self.send(Create(f"s{self.made}", event, Idempotency(request.key, "f") if request.key else None), fate)

    @precondition(lambda self: self.world.look.sessions)
    @rule(which=some, word=words, fate=fates)
    def speak(self, which: int, word: Word, fate: str) -> None:
        done = {name for name in self.world.look.sessions if self.world.look.state(name) == "done"}
        self._say(one(sorted(self.world.look.sessions, key=lambda name: (name in done, name)), which), word, fate)

    def _say(self, session_id: str, word: Word, fate: str) -> None:
        session, seen = self.world.session(session_id), len(self.world.log(session_id))
        if session.finished or (word == "accept" and session.review is None):
            return
        at = self.world.now / 1000
        event = ev.CancelRequested(at=at) if word == "cancel" else ev.FeedbackGiven(at=at, action=word, instruction=f"at {at}")
        self.send(Speak(session_id, seen, event), fate)

    # --- replicas ---------------------------------------------------------------------------------------------------------

    @initialize(
        first=skews, second=skews, those=st.lists(requests, min_size=2, max_size=4), fate=st.sampled_from(["arrives", "twice"])
    )
    def begin(self, first: int, second: int, those: list[SessionRequest], fate: str) -> None:
        self.start(first)
        self.start(second)
        for request in those:
            self.create(request, fate)

    @precondition(lambda self: len(self.replicas) < _REPLICAS)
    @rule(skew=skews)
    def start(self, skew: int) -> None:
        self.started += 1
        self.replicas.append(Replica(f"r{self.started}", skew))

    @precondition(lambda self: self.replicas)
    @rule(which=some, sent=st.booleans())
    def crash(self, which: int, sent: bool) -> None:  # noqa: FBT001
        replica = self.replicas.pop(which % len(self.replicas))
        if sent:
            self.on_the_way += [drive.pending for drive in replica.drives.values() if drive.pending]

    @precondition(lambda self: self.replicas)
    @rule(which=some)
    def pause_or_go_on(self, which: int) -> None:
        replica = self.replicas[which % len(self.replicas)]
        replica.awake = not replica.awake

    @precondition(lambda self: self._awake())
    @rule(which=some, fast=st.integers(1, 3), slow=st.integers(0, 2), urgent=st.integers(0, 3), fate=fates, late=rarely)
    def claim(self, which: int, fast: int, slow: int, urgent: int, fate: str, late: bool) -> None:  # noqa: FBT001
        replica = one(self._awake(), which)
        before = list(replica.drives.values())
        room = {"fast": fast, "slow": slow} if slow else {"fast": fast}
        shares = {"fast": Share(urgent, 2)} if slow else {}
        taken = self.send(Take(replica.name, room, urgent, 2 - min(2, len(replica.chores)), shares), fate)
        if taken != LOST and late:
            replica.mail.append((taken, before))
        elif taken != LOST:
            self.on_the_way += replica.begin(taken, before)

    @precondition(lambda self: any(replica.mail for replica in self._awake()))
    @rule(which=some)
    def late_answer(self, which: int) -> None:
        replica = one([replica for replica in self._awake() if replica.mail], which)
        self.on_the_way += replica.begin(*replica.mail.pop(0))

    @precondition(lambda self: self._awake())
    @rule(which=some, fate=fates, look=st.booleans())
    def beat_and_audit(self, which: int, fate: str, look: bool) -> None:  # noqa: FBT001
        replica = one(self._awake(), which)
        before = list(replica.drives.values())
        if self.send(Beat(replica.name), fate) is False:
            self.on_the_way += replica.lost(before)
        if look:
            sent, strays = replica.audit(self.world.owned(replica.name))
            self.on_the_way += sent
            for stray in strays:
                self.send(Release(replica.name, stray), fate)

    @precondition(lambda self: any(replica.chores for replica in self._awake()))
    @rule(which=some, fate=fates, forget=st.booleans())
    def chore(self, which: int, fate: str, forget: bool) -> None:  # noqa: FBT001
        """A chore such as archiving; sometimes the owner deletes the session."""
        chore = one([replica for replica in self._awake() if replica.chores], which).chores.pop(0)
        session_id = chore.partition(":")[2]
        if forget and session_id in self.world.look.sessions:
            self.send(Delete(session_id, self.world.session(session_id).created.tenant), fate)
        self.send(Done(chore), fate)

    @rule(which=some, luck=luck)
    def think(self, which: int, luck: bool) -> None:  # noqa: FBT001
        """A driver computes its next command without sending it."""
        self._think(which, luck=luck)

    @precondition(lambda self: any(drive.pending for _, drive in self._driving()))
    @rule(which=some, fate=fates)
    def act(self, which: int, fate: str) -> None:
        """A driver sends its pending command."""
        replica, drive = one([pair for pair in self._driving() if pair[1].pending], which)
        drive.answered(self.send(drive.pending, fate))
        replica.forget_gone()

    @rule(which=some, commands=st.integers(1, 6), luck=luck)
    def work(self, which: int, commands: int, luck: bool) -> None:  # noqa: FBT001
        """A driver works undisturbed for a while, and stops before it suspends."""
        for _ in range(commands):
            replica, drive = self._think(which, luck=luck)
            if replica is None or drive is None or isinstance(drive.pending, Park):
                break
            self._advance(replica, drive, luck=luck)

    @rule(which=some, word=words, luck=luck)
    def interrupted(self, which: int, word: Word, luck: bool) -> None:  # noqa: FBT001
        """A person's command arrives after a driver computed its command and before it sends it."""
        replica, drive = self._think(which, luck=luck)
        if replica and drive and drive.claim.session_id in self.world.look.sessions:
            self._say(drive.claim.session_id, word, "arrives")
            self._advance(replica, drive, luck=luck)

    @rule(which=some, other=some, luck=luck)
    def overtaken(self, which: int, other: int, luck: bool) -> None:  # noqa: FBT001
        """A replica pauses for longer than its lease just before it sends; then others claim."""
        self._think(which, luck=luck)
        self.world.set_clock(self.world.now + LEASE_MS + 1)
        self._come_round(other)

    def _think(self, which: int, *, luck: bool) -> tuple[Replica, Drive] | tuple[None, None]:
        """A driver with a pending command, if there is one; if no session is driven, a replica claims first."""
        if not self._driving():
            self._come_round(which)
        if not self._driving():
            return None, None
        replica, drive = one(self._driving(), which)
        if not drive.pending:
            drive.think(self.world, (self.world.now + replica.skew) / 1000, luck=luck)
        replica.forget_gone()
        return (None, None) if drive.gone else (replica, drive)

    def _come_round(self, which: int) -> None:
        if self._awake():
            self.claim(which, 3, 2, 3, "arrives", late=False)

    def _advance(self, replica: Replica, drive: Drive, *, luck: bool) -> None:
        if not drive.pending:
            drive.think(self.world, (self.world.now + replica.skew) / 1000, luck=luck)
        if drive.pending:
            drive.answered(self.world.execute(drive.pending))
        replica.forget_gone()

    def _awake(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.awake]

    def _driving(self) -> list[tuple[Replica, Drive]]:
        return [(replica, drive) for replica in self._awake() for drive in (*replica.drives.values(), *replica.leavers)]

    # --- the end ----------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self._all_ends_well()

    def _all_ends_well(self) -> None:
        """All other replicas are gone. Rounds without capacity for chores must not delay sessions."""
        fresh = Replica("fresh", -1_000)
        for number in range(_TO_THE_END):
            if self._ended():
                return
            chores = 0 if self.world.look.unfinished else 2
            taken = self.world.execute(Take(fresh.name, dict.fromkeys(LANES, 2), 2, chores))
            law(not fresh.begin(taken, []), "a driver is not replaced before it ends", taken)
            for chore in fresh.chores:
                self.world.execute(Done(chore))
            fresh.chores.clear()
            for _ in range(_COMMANDS):
                for drive in [*fresh.drives.values()]:
                    self._advance(fresh, drive, luck=True)
            law(not fresh.drives, "a driver comes to an end or parks", fresh.drives)
            law(self.world.execute(Beat(fresh.name)), "who claims every round is not taken for dead")
            self.world.set_clock(self.world.now + (LEASE_MS // 2 if number < _SLOWLY else 12 * LEASE_MS))
        law(self._ended(), "every session finishes, and every chore is done", self.world.look)

    def _ended(self) -> bool:
        look = self.world.look
        left = (
            look.queues,
            look.urgent,
            look.own,
            look.turns,
            look.work,
            look.capped,
            look.inflight,
            look.timers,
            look.unfinished,
        )
        return not any(left)

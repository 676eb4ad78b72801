"""The reward's editor and judge: a running server, through its public API.

A sample is a session with ``review=each_turn``: the first turn is the caller's instruction, and each reply's instruction is
another turn, edited from the source, judged by the caller's instruction. A session tries every new instruction with its own
seed, so that replies to one sample are compared under equal noise, and an instruction that it has tried is not edited again.
Turns of one session follow each other; sessions are in parallel.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from editthinker.client import (
    APIStatusError,
    AsyncEditThinker,
    AuthenticationError,
    EditThinkerError,
    PermissionDeniedError,
    Session,
    Turn,
)
from training.rewards import FailedEditError, RefusedEditError, RewardFunction, Scores, Weights
from training.samples import Sample, seeds_of

_WAIT_S: Final = 900.0
_DEADLINE_S: Final = 7200.0
_REFUSED: Final = "editor_refused"
_UNBOUNDED: Final = 1 << 20
"""Of the reward function: here edits wait for their session before they count as in flight, so the bound is the editor's."""


@dataclass(frozen=True, slots=True)
class ScoredPicture:
    """An edited picture by its place on the server, with the scores that the session's judge gave it."""

    session: str
    turn: int
    scores: Scores


@dataclass(frozen=True, slots=True)
class Rollouts:
    """How rollouts are run.

    Attributes:
        judge: the name of the server's judge, or of a thinker that judges.
        thinker: of the sessions, where the server is not to take its default; it writes nothing that counts.
        editor: in place of the one that made a row's candidate, where the server does not have that.
        parallel: edits in flight.
        sessions: that are kept open for further instructions.
        run: names this run: one that is killed and started again finds its own sessions, and edits nothing twice.
        options: more options of the sessions, such as ``num_inference_steps`` or ``deadline_s``.
    """

    judge: str
    thinker: str | None = None
    editor: str | None = None
    parallel: int = 8
    sessions: int = 256
    run: str = "rollouts"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Open:
    """A session that takes instructions, one at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    session: Session | None = None
    number: int = 0


class SessionEditor:
    """An editor and a judge (`training.rewards.Editor`, `Judge`) over one server.

    Args:
        client: of the server; not closed here.
        rollouts: how.
    """

    def __init__(self, client: AsyncEditThinker, rollouts: Rollouts) -> None:
        self._client, self._rollouts = client, rollouts
        self._slots = asyncio.Semaphore(rollouts.parallel)
        self._open: OrderedDict[tuple[str, int], _Open] = OrderedDict()

    @property
    def name(self) -> str:
        """The judge."""
        return self._rollouts.judge

    async def edit(self, sample: Sample, instruction: str, seed: int) -> ScoredPicture:
        """Edit the sample's source, and have it judged.

        Raises:
            RefusedEditError: the editor does not do what the instruction says.
            FailedEditError: there is no picture, or no score, for another reason.
            APIStatusError: the key, the judge, the thinker or the editor is wrong: every edit would fail, and each be masked.
        """
        entry = self._entry(sample, seed)
        async with entry.lock, self._slots:
            try:
                session, turn = await self._turn(entry, sample, instruction, seed)
            except EditThinkerError as exc:
                # The session may be lost; the next instruction gets a new one.
                entry.session = None
                if _is_a_setting(exc):
                    raise
                raise FailedEditError(str(exc)) from exc
        return _scored(session, turn)

    async def score(self, sample: Sample, picture: ScoredPicture | None) -> Scores:
        """The judge's scores of an edited picture; for None of the row's candidate, which is made again if another judged it.

        Raises:
            FailedEditError: the candidate could not be made again.
        """
        if picture is not None:
            return picture.scores
        if sample.scores is not None and sample.judge == self.name:
            return sample.scores
        try:
            return (await self.edit(sample, sample.turn_instruction, sample.seed)).scores
        except RefusedEditError as exc:
            raise FailedEditError(str(exc)) from exc

    async def release(self) -> None:
        """End every session that no edit waits for."""
        idle = [key for key, entry in self._open.items() if not entry.lock.locked()]
        await asyncio.gather(*(self._end(self._open.pop(key)) for key in idle))

    def _entry(self, sample: Sample, seed: int) -> _Open:
        key = (sample.id, seed)
        entry = self._open.setdefault(key, _Open())
        self._open.move_to_end(key)
        return entry

    async def _turn(self, entry: _Open, sample: Sample, instruction: str, seed: int) -> tuple[Session, Turn]:
        """The turn of an instruction; made now, unless the session has tried it."""
        while True:
            if entry.session is None:
                await self._make_room()
                entry.session = await self._begun(sample, seed, entry.number)
                entry.number += 1
            session = entry.session
            if found := _tried(session, instruction):
                return session, found
            if not session.ended:
                break
            # A session of this run from before a kill, or from an earlier epoch.
            entry.session = None
            if not session.turns:
                raise FailedEditError(f"{session.id} ended without an edit: {session.finish_reason}")
        await self._client.sessions.feedback(session.id, action="instruct", instruction=instruction)
        entry.session = session = await self._reviewed(session.id, len(session.turns))
        if found := _tried(session, instruction):
            return session, found
        entry.session = None
        raise FailedEditError(f"{session.id} ended without the edit: {session.finish_reason}")

    async def _begun(self, sample: Sample, seed: int, number: int) -> Session:
        rollouts = self._rollouts
        named = {"editor": rollouts.editor or sample.editor, "thinker": rollouts.thinker}
        told = f"{rollouts.run}\0{sample.id}\0{seed}\0{number}\0{rollouts.judge}"
        options: dict[str, Any] = {
            "strategy": "think",
            "candidates": 1,
            "review": "each_turn",
            "prepare": False,
            # Nothing is good enough to stop, or to be asked about again.
            "semantic_threshold": 10,
            "quality_threshold": 10,
            # The policy's own instructions are not what the next data set is made of.
            "training": "denied",
            # Of a trainer that was killed and does not come back.
            "deadline_s": _DEADLINE_S,
            **{name: value for name, value in named.items() if value},
            **rollouts.options,
            "judge": rollouts.judge,
            "seed": seed,
            "idempotency_key": hashlib.sha256(told.encode()).hexdigest(),
        }
        made = await self._client.sessions.create(sample.source, sample.instruction, **options)
        return await self._reviewed(made.id, 0)

    async def _reviewed(self, session_id: str, turns: int) -> Session:
        """The session once it waits with more than so many turns, or has ended."""
        session = await self._client.sessions.review(session_id, timeout=_WAIT_S)
        while len(session.turns) <= turns and not session.ended:
            async for event in self._client.sessions.events(session_id, session.last_event, timeout=_WAIT_S):
                if event.type == "review_requested":
                    break
            session = await self._client.sessions.review(session_id, timeout=_WAIT_S)
        return session

    async def _make_room(self) -> None:
        """End the sessions that were used least recently, beyond those that may be kept."""
        extra = len(self._open) - self._rollouts.sessions
        idle = [key for key, entry in self._open.items() if not entry.lock.locked()]
        for key in idle[: max(0, extra)]:
            await self._end(self._open.pop(key))

    async def _end(self, entry: _Open) -> None:
        if entry.session is None or entry.session.ended:
            return
        with suppress(EditThinkerError):
            if entry.session.best is None:
                await self._client.sessions.cancel(entry.session.id)
            else:
                await self._client.sessions.feedback(entry.session.id, action="accept")


def _is_a_setting(exc: EditThinkerError) -> bool:
    if isinstance(exc, AuthenticationError | PermissionDeniedError):
        return True
    return isinstance(exc, APIStatusError) and exc.param in {"model", "thinker", "judge"}


def _tried(session: Session, instruction: str) -> Turn | None:
    return next((turn for turn in session.turns if turn.instruction == instruction and turn.candidates), None)


def _scored(session: Session, turn: Turn) -> ScoredPicture:
    candidate = turn.candidates[0]
    if candidate.error is not None:
        kind = RefusedEditError if candidate.error.code == _REFUSED else FailedEditError
        raise kind(candidate.error.message)
    if candidate.scores is None:
        raise FailedEditError(f"turn {turn.turn} of {session.id} was not judged")
    return ScoredPicture(session.id, turn.turn, Scores(candidate.scores.semantic, candidate.scores.quality))


def served_rewards(
    client: AsyncEditThinker, rollouts: Rollouts, *, thinker: str, seeds: int = 2, weights: Weights | None = None
) -> tuple[RewardFunction[Sample, ScoredPicture], Callable[[], Any]]:
    """The reward function over a server, and what ends its sessions.

    Args:
        client: of the server.
        rollouts: how edits are made.
        thinker: the name of the model that is trained, as the server knows it.
        seeds: edits that are averaged for each instruction.
        weights: of the reward's parts.

    Raises:
        ValueError: the judge is the thinker.
    """
    editor = SessionEditor(client, rollouts)
    function = RewardFunction[Sample, ScoredPicture](
        editor,
        editor,
        thinker=thinker,
        seeds_of=lambda sample: seeds_of(sample, seeds),
        weights=weights,
        parallel=_UNBOUNDED,
    )
    return function, editor.release

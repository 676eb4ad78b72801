"""A session as an environment for reinforcement learning of a thinker: instructions in, pictures and scores out.

    env = EditEnvironment("http://127.0.0.1:8080")
    seen = env.reset("photo.jpg", "make it feel like golden hour")   # the caller's instruction makes the first edit
    seen = env.step("warmer light from the left, keep the faces")    # and each step another one, from the source again
    seen.images, seen.text, seen.reward

The server edits and judges, so a policy is rewarded by the same judge that serves. `docs/training-data.md` has it in TRL's
`environment_factory` and in verl's agent loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias, TypeVar, cast

from editthinker.client import AsyncEditThinker, EditThinker, Picture, Session
from editthinker.client.sync import Sessions
from evaluation.trajectories.critiques import reward as published_reward
from evaluation.trajectories.pictures import stripped

_WAIT_S: Final = 600.0
_REVIEW: Final = "review_requested"
T = TypeVar("T")


class EpisodeError(RuntimeError):
    """A call that does not fit the episode, or a session that ended before its edit was scored."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a step shows.

    Attributes:
        images: the source and the edited picture, without metadata: PNG, JPEG or WebP.
        text: the judge's reasons and scores, for a policy to read.
        reward: of this step, as published (`evaluation.trajectories.critiques.reward`), against the score of the turn before.
            None for `reset`, and where the edit or its critique failed: a server that is down is not the policy's fault.
        semantic, quality: the judge's scores, 0 to 10; None where there are none.
        turn: counted from 1.
        done: whether both scores reached the session's thresholds, or the steps are used up.
        error: why there is no picture or no score.
    """

    images: list[bytes]
    text: str
    reward: float | None
    semantic: float | None
    quality: float | None
    turn: int
    done: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _UntilReview:
    """Wait until a session asks for a review, from an event on."""

    session: str
    after: int


_Call: TypeAlias = Callable[[Sessions], Any] | _UntilReview
"""What an environment asks its client for: a call of its sessions, or to wait."""
_Flow: TypeAlias = Generator[_Call, Any, T]
"""Calls whose results are sent back, as httpx's `auth_flow`: a blocking client and one for asyncio make the same ones."""


@dataclass
class _Episode:
    """The session of an episode. No I/O."""

    session: str
    instruction: str
    source: bytes
    semantic: float | None = None
    thresholds: tuple[float, float] = (8.0, 8.0)
    rewards: list[float] = field(default_factory=list)

    def observe(self, session: Session, picture: bytes | None, most_steps: int) -> Observation:
        turn = session.turns[-1]
        candidate = turn.candidates[0]
        scores = candidate.scores
        error = candidate.error.message if candidate.error else None
        reward = None
        if scores is None:
            text = f"The edit has no score: {error or 'it was not judged'}."
        else:
            found = f"Instruction {scores.semantic:g} of 10, picture {scores.quality:g} of 10."
            text = f"{candidate.reasoning}\n{found}" if candidate.reasoning else found
            if turn.turn > 1 and self.semantic is not None:
                reward = published_reward(scores.semantic - self.semantic)
                self.rewards.append(reward)
            self.semantic = scores.semantic
        enough = scores is not None and scores.semantic >= self.thresholds[0] and scores.quality >= self.thresholds[1]
        return Observation(
            [self.source] if picture is None else [self.source, picture],
            text,
            reward,
            scores.semantic if scores else None,
            scores.quality if scores else None,
            turn.turn,
            enough or turn.turn > most_steps or session.ended,
            error,
        )


class _Episodes:
    """The episodes of an environment, one after the other, as the calls that they take. No I/O.

    Args:
        steps: of an episode.
        options: of the sessions.
    """

    def __init__(self, steps: int, options: dict[str, Any]) -> None:
        self._steps = steps
        self._options = options
        self.current: _Episode | None = None

    def running(self) -> _Episode:
        """The current one.

        Raises:
            EpisodeError: when none runs.
        """
        if self.current is None:
            raise EpisodeError("no episode runs; call reset first")
        return self.current

    def reset(self, image: Picture, instruction: str, options: dict[str, Any]) -> _Flow[Observation]:
        """End the current one, and begin another."""
        yield from self.end()
        given = {**self._options, **options}
        # The session waits after each turn, for an instruction. A policy that is trained must not be stopped by what stops a
        # session that serves.
        asked = {"review": "each_turn", "strategy": "think", "candidates": 1, **given}
        session = yield lambda sessions: sessions.create(image, instruction, **asked)
        thresholds = (given.get("semantic_threshold", 8.0), given.get("quality_threshold", 8.0))
        episode = self.current = _Episode(session.id, instruction, b"", thresholds=thresholds)
        episode.source = stripped((yield lambda sessions: sessions.source(session.id)))
        return (yield from self._observed(episode, 0))

    def step(self, instruction: str) -> _Flow[Observation]:
        """Another turn.

        Raises:
            EpisodeError: when none runs, or its session has ended.
        """
        episode = self.running()
        session = yield lambda sessions: sessions.get(episode.session)
        before = len(session.turns)
        yield lambda sessions: sessions.feedback(episode.session, action="instruct", instruction=instruction)
        return (yield from self._observed(episode, before))

    def end(self) -> _Flow[None]:
        """End the current one: its session ends with the best picture so far."""
        episode, self.current = self.current, None
        if episode is None:
            return
        session = yield lambda sessions: sessions.get(episode.session)
        if session.ended:
            return
        if session.best is None:
            yield lambda sessions: sessions.cancel(session.id)
        else:
            yield lambda sessions: sessions.feedback(session.id, action="accept")

    def _observed(self, episode: _Episode, before: int) -> _Flow[Observation]:
        """What is seen once a turn beyond so many waits for its review."""
        session: Session = yield lambda sessions: sessions.review(episode.session, timeout=_WAIT_S)
        while len(session.turns) <= before and not session.ended:
            yield _UntilReview(session.id, session.last_event)
            session = yield lambda sessions: sessions.review(episode.session, timeout=_WAIT_S)
        if len(session.turns) <= before:
            raise EpisodeError(f"the session ended without the edit: {session.finish_reason}")
        turn = session.turns[-1].turn
        picture = None
        if session.turns[-1].candidates[0].image is not None:
            picture = stripped((yield lambda sessions: sessions.image(episode.session, turn=turn)))
        return episode.observe(session, picture, self._steps)


class EditEnvironment:
    """An environment over one server, blocking. An instance runs one episode at a time.

    Args:
        server: its URL, or a client, which is then not closed.
        api_key: its key.
        steps: steps of an episode.
        **options: of the sessions: `model`, `thinker`, `judge`, `seed`, thresholds …
    """

    def __init__(
        self, server: str | EditThinker | None = None, api_key: str | None = None, *, steps: int = 4, **options: Any
    ) -> None:
        self._own = not isinstance(server, EditThinker)
        self._client = server if isinstance(server, EditThinker) else EditThinker(server, api_key)
        self._episodes = _Episodes(steps, options)

    def reset(self, image: Picture, instruction: str, **options: Any) -> Observation:
        """Begin an episode: the first edit is made with the caller's instruction.

        Args:
            image: the source.
            instruction: what is wanted; all critiques measure against it.
            **options: of this session, in addition.
        """
        return self._run(self._episodes.reset(image, instruction, options))

    def step(self, instruction: str) -> Observation:
        """Edit the source with another instruction.

        Raises:
            EpisodeError: before `reset`, and after the session has ended.
        """
        return self._run(self._episodes.step(instruction))

    @property
    def rewards(self) -> list[float]:
        """Those of this episode's steps so far."""
        return _rewards(self._episodes)

    @property
    def session_id(self) -> str:
        """The session of this episode.

        Raises:
            EpisodeError: before `reset`.
        """
        return self._episodes.running().session

    def close_episode(self) -> None:
        """End the episode: its session ends with the best picture so far."""
        self._run(self._episodes.end())

    def close(self) -> None:
        """End the episode and, if it is the environment's own, the client."""
        self.close_episode()
        if self._own:
            self._client.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _run(self, flow: _Flow[T]) -> T:
        result = None
        while True:
            try:
                call = flow.send(result)
            except StopIteration as done:
                return cast("T", done.value)
            if isinstance(call, _UntilReview):
                self._wait(call)
                result = None
            else:
                result = call(self._client.sessions)

    def _wait(self, wait: _UntilReview) -> None:
        for event in self._client.sessions.events(wait.session, wait.after, timeout=_WAIT_S):
            if event.type == _REVIEW:
                return


class AsyncEditEnvironment:
    """`EditEnvironment` for asyncio; its arguments are the same."""

    def __init__(
        self, server: str | AsyncEditThinker | None = None, api_key: str | None = None, *, steps: int = 4, **options: Any
    ) -> None:
        self._own = not isinstance(server, AsyncEditThinker)
        self._client = server if isinstance(server, AsyncEditThinker) else AsyncEditThinker(server, api_key)
        self._episodes = _Episodes(steps, options)

    async def reset(self, image: Picture, instruction: str, **options: Any) -> Observation:
        """As `EditEnvironment.reset`."""
        return await self._run(self._episodes.reset(image, instruction, options))

    async def step(self, instruction: str) -> Observation:
        """As `EditEnvironment.step`."""
        return await self._run(self._episodes.step(instruction))

    @property
    def rewards(self) -> list[float]:
        """Those of this episode's steps so far."""
        return _rewards(self._episodes)

    @property
    def session_id(self) -> str:
        """As `EditEnvironment.session_id`."""
        return self._episodes.running().session

    async def close_episode(self) -> None:
        """As `EditEnvironment.close_episode`."""
        await self._run(self._episodes.end())

    async def aclose(self) -> None:
        """As `EditEnvironment.close`."""
        await self.close_episode()
        if self._own:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def _run(self, flow: _Flow[T]) -> T:
        # Its sessions have the same methods, which return what is to be awaited.
        sessions = cast("Sessions", self._client.sessions)
        result = None
        while True:
            try:
                call = flow.send(result)
            except StopIteration as done:
                return cast("T", done.value)
            made = self._wait(call) if isinstance(call, _UntilReview) else cast("Awaitable[Any]", call(sessions))
            result = await made

    async def _wait(self, wait: _UntilReview) -> None:
        async for event in self._client.sessions.events(wait.session, wait.after, timeout=_WAIT_S):
            if event.type == _REVIEW:
                return


def _rewards(episodes: _Episodes) -> list[float]:
    return [] if episodes.current is None else list(episodes.current.rewards)

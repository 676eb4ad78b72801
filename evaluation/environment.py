"""A session as an environment for reinforcement learning of a thinker: instructions in, pictures and scores out.

    env = EditEnvironment("http://127.0.0.1:8080")
    seen = env.reset("photo.jpg", "make it feel like golden hour")   # the caller's instruction makes the first edit
    seen = env.step("warmer light from the left, keep the faces")    # and each step another one, from the source again
    seen.images, seen.text, seen.reward

The server edits and judges, so a policy is rewarded by the same judge that serves. `docs/training-data.md` has it in TRL's
`environment_factory` and in verl's agent loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

from editthinker.client import AsyncEditThinker, EditThinker, Picture, Session, Turn
from evaluation.trajectories.critiques import reward as published_reward
from evaluation.trajectories.pictures import stripped

_WAIT_S: Final = 600.0


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


@dataclass
class _Episode:
    """What both environments know of their session. No I/O."""

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


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Of the session: it waits after each turn, for an instruction."""
    # A policy that is trained must not be stopped by what stops a session that serves.
    return {"review": "each_turn", "strategy": "think", "candidates": 1, **options}


def _turns(session: Session) -> int:
    return len(session.turns)


def _picture_of(turn: Turn) -> bool:
    return turn.candidates[0].image is not None


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
        self._steps = steps
        self._options = options
        self._episode: _Episode | None = None

    def reset(self, image: Picture, instruction: str, **options: Any) -> Observation:
        """Begin an episode: the first edit is made with the caller's instruction.

        Args:
            image: the source.
            instruction: what is wanted; all critiques measure against it.
            **options: of this session, in addition.
        """
        self.close_episode()
        given = {**self._options, **options}
        session = self._client.sessions.create(image, instruction, **_options(given))
        thresholds = (given.get("semantic_threshold", 8.0), given.get("quality_threshold", 8.0))
        self._episode = _Episode(session.id, instruction, b"", thresholds=thresholds)
        self._episode.source = stripped(self._client.sessions.source(session.id))
        return self._observed(0)

    def step(self, instruction: str) -> Observation:
        """Edit the source with another instruction.

        Raises:
            EpisodeError: before `reset`, and after the session has ended.
        """
        episode = self._running()
        before = _turns(self._client.sessions.get(episode.session))
        self._client.sessions.feedback(episode.session, action="instruct", instruction=instruction)
        return self._observed(before)

    @property
    def rewards(self) -> list[float]:
        """Those of this episode's steps so far."""
        return [] if self._episode is None else list(self._episode.rewards)

    @property
    def session_id(self) -> str:
        """The session of this episode.

        Raises:
            EpisodeError: before `reset`.
        """
        return self._running().session

    def close_episode(self) -> None:
        """End the episode: its session ends with the best picture so far."""
        episode, self._episode = self._episode, None
        if episode is not None:
            session = self._client.sessions.get(episode.session)
            if session.ended:
                return
            if session.best is None:
                self._client.sessions.cancel(session.id)
            else:
                self._client.sessions.feedback(session.id, action="accept")

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

    def _running(self) -> _Episode:
        if self._episode is None:
            raise EpisodeError("no episode runs; call reset first")
        return self._episode

    def _observed(self, before: int) -> Observation:
        """What is seen once a turn beyond so many waits for its review."""
        episode = self._running()
        session = self._client.sessions.review(episode.session, timeout=_WAIT_S)
        while _turns(session) <= before and not session.ended:
            for event in self._client.sessions.events(episode.session, session.last_event, timeout=_WAIT_S):
                if event.type == "review_requested":
                    break
            session = self._client.sessions.review(episode.session, timeout=_WAIT_S)
        if _turns(session) <= before:
            raise EpisodeError(f"the session ended without the edit: {session.finish_reason}")
        turn = session.turns[-1]
        picture = stripped(self._client.sessions.image(session.id, turn=turn.turn)) if _picture_of(turn) else None
        return episode.observe(session, picture, self._steps)


class AsyncEditEnvironment:
    """`EditEnvironment` for asyncio; its arguments are the same."""

    def __init__(
        self, server: str | AsyncEditThinker | None = None, api_key: str | None = None, *, steps: int = 4, **options: Any
    ) -> None:
        self._own = not isinstance(server, AsyncEditThinker)
        self._client = server if isinstance(server, AsyncEditThinker) else AsyncEditThinker(server, api_key)
        self._steps = steps
        self._options = options
        self._episode: _Episode | None = None

    async def reset(self, image: Picture, instruction: str, **options: Any) -> Observation:
        """As `EditEnvironment.reset`."""
        await self.close_episode()
        given = {**self._options, **options}
        session = await self._client.sessions.create(image, instruction, **_options(given))
        thresholds = (given.get("semantic_threshold", 8.0), given.get("quality_threshold", 8.0))
        self._episode = _Episode(session.id, instruction, b"", thresholds=thresholds)
        self._episode.source = stripped(await self._client.sessions.source(session.id))
        return await self._observed(0)

    async def step(self, instruction: str) -> Observation:
        """As `EditEnvironment.step`."""
        episode = self._running()
        before = _turns(await self._client.sessions.get(episode.session))
        await self._client.sessions.feedback(episode.session, action="instruct", instruction=instruction)
        return await self._observed(before)

    @property
    def rewards(self) -> list[float]:
        """Those of this episode's steps so far."""
        return [] if self._episode is None else list(self._episode.rewards)

    @property
    def session_id(self) -> str:
        """As `EditEnvironment.session_id`."""
        return self._running().session

    async def close_episode(self) -> None:
        """As `EditEnvironment.close_episode`."""
        episode, self._episode = self._episode, None
        if episode is not None:
            session = await self._client.sessions.get(episode.session)
            if session.ended:
                return
            if session.best is None:
                await self._client.sessions.cancel(session.id)
            else:
                await self._client.sessions.feedback(session.id, action="accept")

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

    def _running(self) -> _Episode:
        if self._episode is None:
            raise EpisodeError("no episode runs; call reset first")
        return self._episode

    async def _observed(self, before: int) -> Observation:
        episode = self._running()
        session = await self._client.sessions.review(episode.session, timeout=_WAIT_S)
        while _turns(session) <= before and not session.ended:
            async for event in self._client.sessions.events(episode.session, session.last_event, timeout=_WAIT_S):
                if event.type == "review_requested":
                    break
            session = await self._client.sessions.review(episode.session, timeout=_WAIT_S)
        if _turns(session) <= before:
            raise EpisodeError(f"the session ended without the edit: {session.finish_reason}")
        turn = session.turns[-1]
        picture = stripped(await self._client.sessions.image(session.id, turn=turn.turn)) if _picture_of(turn) else None
        return episode.observe(session, picture, self._steps)

"""The reward of a thinker's reply: the form, what its instruction does to the picture, and how well it scored the last one.

As published (arXiv 2512.05965): ``w_form x form + w_edit x edit + w_critic x critic``, where

    form    1 for a reply in the taught form, else the whole reward is 0
    edit    ((semantic after - semantic before) / 10 + 1) / 2, the source edited with the refined instruction
    critic  1 - mean |its score - the judge's| / 10, over semantic and quality of the candidate that it was shown

The released code has the critic term commented out, and traps that pay for doing nothing. What is different here:

- An edit that failed through no fault of the reply (the editor is down) has no reward at all: None, which trainers mask. The
  released code pays .5, the same as for no change, so an editor that is down teaches that all instructions are equal.
- An edit that the editor *refused* earns 0 for its edit, not None: to write what cannot be done is the reply's fault.
- A reply that cannot be read earns 0 and is not edited. Where a missing instruction falls back to the caller's, as in serving,
  garbage earns what the caller's words are worth; an RL run of this project found that within 40 updates.
- An empty instruction earns 0 for its edit. In serving it means "keep this one", which says nothing that could be judged.
- Each instruction is edited under several seeds, and the mean counts: with one fixed seed for a group, what is learned is the
  seed.
- The judge is another model than the thinker, and is shown pictures and the caller's instruction, never a word of the reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from training.replies import ParsedReply, parse

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)
P_contra = TypeVar("P_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Scores:
    """A judge's scores of one picture, 0-10."""

    semantic: float
    quality: float


class RefusedEditError(Exception):
    """The editor does not do what the instruction says: the instruction's fault."""


class FailedEditError(Exception):
    """The edit, or its judgement, came to nothing through no fault of the instruction."""


class Editor(Protocol[S_contra, P_co]):
    """Edits the source of a sample."""

    async def edit(self, sample: S_contra, instruction: str, seed: int) -> P_co:
        """The edited source.

        Raises:
            RefusedEditError: the instruction's fault.
            FailedEditError: not the instruction's fault.
        """
        ...


class Judge(Protocol[S_contra, P_contra]):
    """Scores pictures by the caller's instruction; it gets nothing that the thinker wrote."""

    @property
    def name(self) -> str:
        """The model that judges."""
        ...

    async def score(self, sample: S_contra, picture: P_contra | None) -> Scores:
        """The scores of an edited source; of the candidate that the thinker was shown for None.

        Raises:
            FailedEditError: there is no judgement.
        """
        ...


Outcome = Literal["edited", "failed", "refused", "empty", "unreadable"]


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the parts; they add up to 1, so that a reward is between 0 and 1."""

    form: float = 0.2
    edit: float = 0.6
    critic: float = 0.2

    def __post_init__(self) -> None:
        parts = (self.form, self.edit, self.critic)
        if min(parts) < 0 or abs(sum(parts) - 1) > 1e-9:  # noqa: PLR2004 - rounding
            raise ValueError(f"the weights {parts} are not shares of 1")


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward of one reply, by part.

    Attributes:
        total: 0-1; None where the reply cannot be rewarded, and must be masked.
        form, edit, critic: the parts, 0-1, before their weights; None where a part could not be measured.
        outcome: of the instruction.
        seeds: of the edits that count.
    """

    total: float | None
    form: float
    edit: float | None
    critic: float | None
    outcome: Outcome
    seeds: int = 0


class RewardFunction(Generic[S, P]):
    """Rewards replies through an editor and a judge, a bounded number at a time.

    Args:
        editor: edits sources.
        judge: scores pictures.
        thinker: name of the model that is trained.
        seeds: how many edits are averaged for each instruction.
        seeds_of: the seeds of a sample's edits; the same for each reply to it, so that replies are compared fairly.
        weights: of the parts.
        parallel: edits in flight.

    Raises:
        ValueError: the judge is the thinker, or no seed is asked for.
    """

    def __init__(
        self,
        editor: Editor[S, P],
        judge: Judge[S, P],
        *,
        thinker: str,
        seeds_of: Callable[[S], Sequence[int]],
        weights: Weights | None = None,
        parallel: int = 8,
    ) -> None:
        if judge.name == thinker:
            raise ValueError(f"{thinker} cannot judge itself: a thinker that judges learns to please itself")
        if parallel < 1:
            raise ValueError(f"at least one edit at a time, not {parallel}")
        self._editor, self._judge = editor, judge
        self._seeds_of = seeds_of
        self._weights = weights or Weights()
        self._parallel = parallel

    async def __call__(self, replies: Sequence[str], samples: Sequence[S]) -> list[Reward]:
        """The rewards of replies, one to each sample. Equal instructions to one sample are edited once."""
        slots = asyncio.Semaphore(self._parallel)
        edits: dict[tuple[int, str], Awaitable[tuple[Outcome, float | None, int]]] = {}
        before: dict[int, Awaitable[Scores | None]] = {}

        async def rewarded(reply: str, sample: S) -> Reward:
            parsed = parse(reply)
            if parsed is None:
                return Reward(0.0, 0.0, None, None, "unreadable")
            key = id(sample)
            if key not in before:
                before[key] = asyncio.ensure_future(self._judged(sample, None, slots))
            judged = await before[key]
            if judged is None:
                return Reward(None, 1.0, None, None, "failed")
            if not parsed.instruction:
                return self._weighed(parsed, judged, "empty", 0.0, 0)
            if (key, parsed.instruction) not in edits:
                edits[key, parsed.instruction] = asyncio.ensure_future(self._edited(sample, parsed.instruction, judged, slots))
            outcome, edit, seeds = await edits[key, parsed.instruction]
            return self._weighed(parsed, judged, outcome, edit, seeds)

        return list(await asyncio.gather(*(rewarded(reply, sample) for reply, sample in zip(replies, samples, strict=True))))

    def _weighed(self, parsed: ParsedReply, judged: Scores, outcome: Outcome, edit: float | None, seeds: int) -> Reward:
        critic = 1 - (abs(parsed.semantic - judged.semantic) + abs(parsed.quality - judged.quality)) / 20
        if edit is None:
            return Reward(None, 1.0, None, critic, outcome)
        total = self._weights.form + self._weights.edit * edit + self._weights.critic * critic
        return Reward(total, 1.0, edit, critic, outcome, seeds)

    async def _judged(self, sample: S, picture: P | None, slots: asyncio.Semaphore) -> Scores | None:
        async with slots:
            try:
                return await self._judge.score(sample, picture)
            except FailedEditError:
                return None

    async def _edited(
        self, sample: S, instruction: str, judged: Scores, slots: asyncio.Semaphore
    ) -> tuple[Outcome, float | None, int]:
        async def one(seed: int) -> float | None:
            async with slots:
                try:
                    picture = await self._editor.edit(sample, instruction, seed)
                except FailedEditError:
                    return None
            scores = await self._judged(sample, picture, slots)
            return None if scores is None else ((scores.semantic - judged.semantic) / 10 + 1) / 2

        seeds = self._seeds_of(sample)
        if not seeds:
            raise ValueError("a sample has no seed to edit with")
        try:
            values = [value for value in await asyncio.gather(*(one(seed) for seed in seeds)) if value is not None]
        except RefusedEditError:
            return "refused", 0.0, 0
        return ("edited", sum(values) / len(values), len(values)) if values else ("failed", None, 0)


def trl_reward(
    rewards: RewardFunction[S, Any], sample_of: Callable[[int], S], log: Callable[[dict[str, Any]], None]
) -> Callable[..., Awaitable[list[float | None]]]:
    """The reward function that TRL's `GRPOTrainer` calls, over rows with a column ``sample``, the number of the sample.

    `log` gets each reply's parts as one flat dict.
    """

    async def edit_outcome(completions: Sequence[Any], sample: Sequence[int], **_: Any) -> list[float | None]:
        replies = [text if isinstance(text, str) else _content(text) for text in completions]
        results = await rewards(replies, [sample_of(number) for number in sample])
        for number, result in zip(sample, results, strict=True):
            log({"sample": number, **asdict(result)})
        return [result.total for result in results]

    return edit_outcome


def _content(completion: Sequence[dict[str, Any]]) -> str:
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)

"""GRPO with the edit's own outcome as reward. A stage as the others (`training.stage`): it goes on where it was killed.

Where the literature differs, this is what is done, and why:

- One gradient step for each batch of replies: the policy that is trained is the one that sampled, so there is no ratio to clip.
- No KL term, hence no reference model. A KL term guards against a judge that can be flattered; this judge knows the target and
  reads no text (`tests/unit/training/test_reward_hacking.py`). What is logged instead is the entropy, which shows a collapse.
- An advantage is a reward minus the mean of its group, divided by the group's deviation (Shao et al., arXiv 2402.03300), at
  least `FLOOR`: replies that do equally well are not told apart by the last digit.
- Credit by part. The tokens of the score block get the critic's advantage, those of the instruction the edit's, the thoughts,
  which both are read from, the mean of both. Exact for the critic, which no later token can change; for the edit it leaves out
  that the instruction could be read from the scores.
- A reply without a reward (its edit failed through no fault of its own) is masked: no loss, no part in its group's mean.
- The loss is the mean over all tokens of the batch, so long replies count by their length (Yu et al., arXiv 2503.14476).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from training.metrics import MetricsFile
from training.miniature import batches
from training.miniature.photographs import Pixels
from training.miniature.rows import TaughtTurn
from training.miniature.turns import TargetJudge, Turn, WorldEditor, seeds_of
from training.rewards import Reward, RewardFunction, Weights
from training.stage import Plan, Stage

F64 = NDArray[np.float64]

FLOOR: Final = 0.02
"""Least deviation of a group that rewards are divided by; .02 of the edit's share is a third of a point of 10."""
SEEDS: Final = 2
"""Edits of each instruction."""
MAX_TOKENS: Final = 96
"""Of a reply: taught ones have at most 80. A longer one is cut, cannot be read, and earns nothing."""


@dataclass(frozen=True)
class Rollouts:
    """Replies that were sampled for turns, `group` for each, those of a turn side by side.

    Attributes:
        inputs: the model's inputs with prompt and reply, (turns x group, tokens), padded on the left.
        replies: (turns x group, tokens), True at the tokens that were sampled, the end among them.
        texts: the replies.
    """

    inputs: dict[str, torch.Tensor]
    replies: torch.Tensor
    texts: list[str]


def advantages(rewards: F64) -> F64:
    """Advantages (groups, group) of rewards of the same shape; NaN is a masked reply, and gets 0.

    A group with fewer than two rewards says nothing: all 0.
    """
    known = ~np.isnan(rewards)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    centred = np.where(known, np.nan_to_num(rewards) - np.nansum(rewards, axis=1, keepdims=True) / count, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    return np.asarray(centred / np.maximum(deviation, FLOOR), dtype=np.float64)


def by_part(rewards: Sequence[Reward], group: int, weights: Weights) -> tuple[F64, F64]:
    """Advantages of the instruction's tokens and of the score's, (replies,) each; 0 for masked replies."""
    masked = [reward.total is None for reward in rewards]
    edit = [
        math.nan if gone else weights.form * reward.form + weights.edit * (reward.edit or 0.0)
        for gone, reward in zip(masked, rewards, strict=True)
    ]
    critic = [
        math.nan if gone else weights.form * reward.form + weights.critic * (reward.critic or 0.0)
        for gone, reward in zip(masked, rewards, strict=True)
    ]
    first, second = (advantages(np.array(part, dtype=np.float64).reshape(-1, group)).ravel() for part in (edit, critic))
    return first, second


def credited(ids: torch.Tensor, tags: tuple[int, int], edit: F64, critic: F64) -> torch.Tensor:
    """The advantage of each token, (replies, tokens).

    Args:
        ids: (replies, tokens), prompts and replies; no prompt holds a tag.
        tags: the ids of ``<score>`` and ``</score>``.
        edit, critic: (replies,).
    """
    begun, ended = ((ids == tag).cumsum(dim=1) > 0 for tag in tags)
    for_edit, for_critic = (torch.from_numpy(part).float()[:, None].expand(ids.shape) for part in (edit, critic))
    both = (for_edit + for_critic) / 2
    return torch.where(ended, for_edit, torch.where(begun, for_critic, both))


def policy_loss(log_probabilities: torch.Tensor, weights: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Minus the mean of advantage x log-probability over the tokens that count; all arguments (replies, tokens)."""
    return -(log_probabilities * weights * counted).sum() / counted.sum().clamp(min=1)


@torch.no_grad()
def sampled(thinker: Any, processor: Any, turns: Sequence[Turn], group: int, seed: int) -> Rollouts:
    """`group` replies to each turn at temperature 1, all of one kind (with or without a reference)."""
    torch.manual_seed(seed)
    known = processor.tokenizer.convert_tokens_to_ids
    end = known(batches.END)
    inputs = batches.asked(processor, [turn for turn in turns for _ in range(group)])
    length = inputs["input_ids"].shape[1]
    thinker.eval()
    ids = thinker.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=True, temperature=1.0, top_k=0, eos_token_id=end)
    thinker.train()
    replied = ids[:, length:]
    before_end = (replied == end).cumsum(dim=1) - (replied == end).int() == 0
    texts = processor.tokenizer.batch_decode(
        [row[kept] for row, kept in zip(replied, before_end, strict=True)], skip_special_tokens=True
    )
    grown = {
        "input_ids": ids,
        "attention_mask": torch.cat([inputs["attention_mask"], before_end.to(inputs["attention_mask"].dtype)], dim=1),
        "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(replied)], dim=1),
    }
    replies = torch.cat([torch.zeros_like(inputs["input_ids"], dtype=torch.bool), before_end], dim=1)
    return Rollouts({**inputs, **grown}, replies, texts)


class GRPO:
    """Improves a thinker on turns by the outcome of its instructions.

    Args:
        folder: of the checkpoint, of ``metrics.jsonl`` and of ``NAME-rewards.jsonl``, one line a reply.
        name: of the stage.
        thinker, processor: the model, as SFT left it.
        rows: the turns; what they teach is not looked at.
        plan: `Plan.batch` counts turns.
        group: replies to each.
        rewards: of replies; the world's editor and its judge where there is none.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        model: tuple[Any, Any],
        rows: Sequence[TaughtTurn],
        plan: Plan,
        *,
        group: int = 8,
        rewards: RewardFunction[Turn, Pixels] | None = None,
    ) -> None:
        self._thinker, self._processor = model
        self._plan, self._group, self._weights = plan, group, Weights()
        self._rewards = rewards or RewardFunction(WorldEditor(), TargetJudge(), thinker="miniature", seeds_of=seeds_of(SEEDS))
        kinds = [[row.turn for row in rows if (row.turn.scene.reference is not None) == referring] for referring in (False, True)]
        self._kinds = [kind for kind in kinds if kind]
        self._shares = np.array([len(kind) for kind in self._kinds]) / len(rows)
        known = self._processor.tokenizer.convert_tokens_to_ids
        self._tags = (int(known("<score>")), int(known("</score>")))
        self.stage = Stage(folder, name, self._thinker, plan)
        self._log = MetricsFile(folder / f"{name}-rewards.jsonl")

    def run(self) -> None:
        """Train until the plan's steps are done."""
        self.stage.run(self._loss)

    def _loss(self, rng: np.random.Generator) -> torch.Tensor:
        kind = self._kinds[int(rng.choice(len(self._kinds), p=self._shares))]
        turns = [kind[index] for index in rng.integers(0, len(kind), self._plan.batch)]
        rollouts = sampled(self._thinker, self._processor, turns, self._group, int(rng.integers(2**31)))
        asked = [turn for turn in turns for _ in range(self._group)]
        rewards = asyncio.run(self._rewards(rollouts.texts, asked))
        edit, critic = by_part(rewards, self._group, self._weights)
        weights = credited(rollouts.inputs["input_ids"], self._tags, edit, critic)
        masked = torch.tensor([reward.total is None for reward in rewards])
        counted = rollouts.replies & ~masked[:, None]
        log_probabilities, entropy = self._scored(rollouts)
        self._record(rewards, entropy, float(rollouts.replies.sum(dim=1).float().mean()))
        return policy_loss(log_probabilities, weights[:, 1:], counted[:, 1:].float())

    def _scored(self, rollouts: Rollouts) -> tuple[torch.Tensor, float]:
        """Log-probabilities of each token but the first, 0 where none was sampled, and the mean entropy of those that were."""
        hidden = self._thinker.model(**rollouts.inputs).last_hidden_state
        chosen = rollouts.replies[:, 1:]
        every = torch.log_softmax(self._thinker.lm_head(hidden[:, :-1][chosen]), dim=-1)
        told = every.gather(1, rollouts.inputs["input_ids"][:, 1:][chosen][:, None])[:, 0]
        placed = torch.zeros(chosen.shape).masked_scatter(chosen, told)
        entropy = -(every.detach().exp() * every.detach()).sum(dim=-1).mean()
        return placed, float(entropy)

    def _record(self, rewards: Sequence[Reward], entropy: float, tokens: float) -> None:
        step = self.stage.step + 1
        for number, reward in enumerate(rewards):
            self._log({"stage": self.stage.name, "step": step, "turn": number // self._group, **asdict(reward)})
        summary: dict[str, float | None] = {
            part: _mean([getattr(reward, part) for reward in rewards]) for part in ("total", "form", "edit", "critic")
        }
        outcomes = [reward.outcome for reward in rewards]
        shares = {name: round(outcomes.count(name) / len(outcomes), 4) for name in ("failed", "refused", "empty")}
        seen = {"entropy": round(entropy, 4), "tokens": round(tokens, 1)}
        self.stage.metrics({"stage": f"{self.stage.name}-rewards", "step": step, **summary, **shares, **seen})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None

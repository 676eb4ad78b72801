"""GRPO's advantage for verl, with rewards that are missing: ``algorithm.adv_estimator=grpo_masked``.

A reply whose edit failed through no fault of its own has the score `training.verl_reward.MASKED`. It is no part of its group's
mean, and its advantage is 0. With verl's own ``grpo`` it would count as the worst reply.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

NAME: Final = "grpo_masked"
_EPSILON: Final = 1e-6
_FEWEST: Final = 2


def masked_advantage(scores: torch.Tensor, groups: np.ndarray[Any, Any], *, scaled: bool = True) -> torch.Tensor:
    """Scores less the mean of their group, over the group's deviation.

    Args:
        scores: (replies,); negative where a reply has no reward.
        groups: (replies,); replies to one prompt share a value.
        scaled: divide by the deviation (GRPO), or not (Dr. GRPO).

    Returns:
        (replies,); 0 where there is no reward, and where a group has fewer than two.
    """
    advantages = torch.zeros_like(scores)
    for group in dict.fromkeys(groups.tolist()):
        members = torch.from_numpy(groups == group).to(scores.device) & (scores >= 0)
        if int(members.sum()) < _FEWEST:
            continue
        found = scores[members]
        advantages[members] = (found - found.mean()) / ((found.std() + _EPSILON) if scaled else 1.0)
    return advantages


def grpo_masked(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray[Any, Any],
    config: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Verl's form of it: (replies, tokens) in, advantages and returns of that shape out."""
    scaled = True if config is None else bool(config.get("norm_adv_by_std_in_grpo", True))
    with torch.no_grad():
        advantages = masked_advantage(token_level_rewards.sum(dim=-1), index, scaled=scaled)
        spread = advantages.unsqueeze(-1) * response_mask
    return spread, spread


def register() -> None:
    """Make it known to verl."""
    from verl.trainer.ppo.core_algos import register_adv_est  # noqa: PLC0415 - the arithmetic is tested without verl

    register_adv_est(NAME)(grpo_masked)

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.verl_advantage import grpo_masked, masked_advantage
from training.verl_reward import MASKED, compute_score

GROUPS = np.array(["a", "a", "a", "b", "b"], dtype=object)
ROW = {"id": "x", "instruction": "warmer", "turn_instruction": "warmer", "seed": 1, "editor": "", "judge": "j", "pictures": 2}
ROW |= {"scores": {"semantic": 4.0, "quality": 8.0}, "source": b"none is asked for"}


def test_a_reply_without_a_reward_is_no_part_of_its_group() -> None:
    with_failure = masked_advantage(torch.tensor([0.2, MASKED, 0.6, 0.3, 0.5]), GROUPS)
    without = masked_advantage(torch.tensor([0.2, 0.6, 0.3, 0.5]), GROUPS[[0, 2, 3, 4]])
    assert with_failure[1] == 0
    assert torch.equal(with_failure[[0, 2, 3, 4]], without)
    assert float(with_failure[0]) == pytest.approx(-float(with_failure[2])) and with_failure[0] < 0


def test_one_reward_says_nothing() -> None:
    assert masked_advantage(torch.tensor([0.2, MASKED, MASKED, 0.3, 0.3]), GROUPS).tolist() == [0] * 5


def test_unscaled_is_the_difference_alone() -> None:
    found = masked_advantage(torch.tensor([0.1, 0.2, 0.6, 0.3, 0.5]), GROUPS, scaled=False)
    assert found.tolist() == pytest.approx([-0.2, -0.1, 0.3, -0.1, 0.1])


def test_advantages_lie_on_the_replys_tokens() -> None:
    rewards = torch.tensor([[0.0, 0.4, 0.0], [0.0, 0.0, 0.8]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    advantages, returns = grpo_masked(rewards, mask, np.array(["a", "a"], dtype=object), {"norm_adv_by_std_in_grpo": False})
    assert torch.allclose(advantages, torch.tensor([[-0.2, -0.2, 0.0], [0.2, 0.2, 0.2]]))
    assert returns is advantages


async def test_garbage_earns_nothing_and_asks_nobody() -> None:
    found = await compute_score("editthinker", "a fine edit", "", ROW, judge="j", server="http://127.0.0.1:9", api_key="")
    assert found == {"score": 0.0, "form": 0.0, "edit": MASKED, "critic": MASKED, "failed": 0.0}


async def test_references_are_masked() -> None:
    row = {**ROW, "id": "y", "pictures": 3}
    found = await compute_score("editthinker", "a fine edit", "", row, judge="j", server="http://127.0.0.1:9", api_key="")
    assert (found["score"], found["failed"]) == (MASKED, 1.0)


async def test_the_dataset_class_is_missed() -> None:
    row = {name: value for name, value in ROW.items() if name != "source"} | {"id": "z"}
    with pytest.raises(KeyError, match="EditThinkerDataset"):
        await compute_score("editthinker", "", "", row, judge="j", server="http://127.0.0.1:9", api_key="")


async def test_a_model_does_not_judge_itself() -> None:
    with pytest.raises(ValueError, match="cannot judge itself"):
        await compute_score("", "", "", ROW, judge="j", thinker="j", server="http://127.0.0.1:9", api_key="")

"""GRPO: advantages, masks, credit of tokens, and a run that goes on where it was killed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.metrics import MetricsFile
from training.miniature import batches, grpo, model
from training.miniature.grpo import GRPO, advantages, by_part, credited, policy_loss
from training.miniature.photographs import Pixels
from training.miniature.rows import TaughtTurn, taught
from training.miniature.turns import TargetJudge, Turn, WorldEditor, seeds_of
from training.miniature.world import scene
from training.rewards import FailedEditError, Reward, RewardFunction, Weights
from training.stage import Plan

NAN = math.nan


def reward(edit: float, critic: float) -> Reward:
    return Reward(0.2 + 0.6 * edit + 0.2 * critic, 1.0, edit, critic, "edited", 2)


UNREADABLE = Reward(0.0, 0.0, None, None, "unreadable")
MASKED = Reward(None, 1.0, None, 0.9, "failed")


def test_an_advantage_is_relative_to_the_replys_own_group() -> None:
    found = advantages(np.array([[0.0, 1.0], [5.0, 6.0]]))
    assert np.allclose(found, [[-1, 1], [-1, 1]])


def test_a_masked_reply_has_no_advantage_and_does_not_move_the_others() -> None:
    found = advantages(np.array([[0.2, NAN, 0.6, NAN], [0.2, 0.6, 0.2, 0.6]]))
    assert np.allclose(found[0], [-1, 0, 1, 0])
    assert np.allclose(found[1], [-1, 1, -1, 1])


def test_a_group_that_was_masked_but_for_one_says_nothing() -> None:
    assert np.array_equal(advantages(np.array([[0.9, NAN, NAN], [NAN, NAN, NAN]])), np.zeros((2, 3)))


def test_replies_that_do_nearly_equally_well_are_not_blown_up() -> None:
    found = advantages(np.array([[0.5, 0.5002]]))
    assert np.abs(found).max() < 0.01
    assert np.abs(advantages(np.array([[0.7, 0.7, 0.7]]))).max() < 1e-9


def test_the_score_is_credited_with_the_critics_part_and_the_instruction_with_the_edits() -> None:
    edit, critic = by_part([reward(0.9, 0.1), reward(0.1, 0.9)], 2, Weights())
    assert edit[0] > 0 > edit[1]
    assert critic[0] < 0 < critic[1]


def test_an_unreadable_reply_is_worse_in_every_part_and_a_failed_edit_in_none() -> None:
    edit, critic = by_part([reward(0.5, 0.5), UNREADABLE, MASKED, reward(0.5, 0.5)], 4, Weights())
    for part in (edit, critic):
        assert part[1] < 0 < part[0]
        assert part[2] == 0


def test_tokens_before_the_score_get_the_mean_and_the_answer_the_edits_share() -> None:
    opened, closed = 7, 8
    ids = torch.tensor([[1, 2, opened, 3, closed, 4, 5]])
    found = credited(ids, (opened, closed), np.array([1.0]), np.array([-3.0]))
    assert found.tolist() == [[-1, -1, -3, -3, 1, 1, 1]]


def test_the_loss_makes_good_tokens_likelier_and_leaves_those_that_do_not_count() -> None:
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    chosen = torch.log_softmax(logits, -1)[..., 1]
    weights = torch.tensor([[1.0, 1.0, 1.0], [-2.0, -2.0, -2.0]])
    counted = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    policy_loss(chosen, weights, counted).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    pushed = -logits.grad[..., 1]
    assert pushed[0, 0] > 0 > pushed[1, 0]
    assert pushed[0, 2] == pushed[1, 1] == 0
    assert torch.isclose(pushed[1, 0], -2 * pushed[0, 0])


def test_nothing_that_counts_is_no_loss() -> None:
    assert policy_loss(torch.ones(2, 2), torch.ones(2, 2), torch.zeros(2, 2)) == 0


# --- the stage ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products are slower on several threads, and much slower where cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def turns() -> list[TaughtTurn]:
    made = []
    for index, intent in enumerate(("exposure", "order")):
        rng = np.random.default_rng(index)
        made += taught(scene(intent, rng), rng)  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torchvision", reason="the processor needs the extra train")
    folder = tmp_path_factory.mktemp("model")
    model.build(folder, 0)
    return folder


class KilledError(Exception):
    """The process ended here."""


class TaughtReplies:
    """Instead of sampling: the taught replies, every second one with its instruction dropped to nothing useful."""

    def __init__(self, turns: list[TaughtTurn]) -> None:
        self._reply = {id(row.turn): row.reply for row in turns}

    def __call__(self, thinker: Any, processor: Any, asked: list[Turn], group: int, seed: int) -> grpo.Rollouts:
        rows = [TaughtTurn(turn, self._said(turn, number), 0.0) for turn in asked for number in range(group)]
        batch = batches.taught(processor, rows)
        return grpo.Rollouts(batch.inputs, batch.weights > 0, [row.reply for row in rows])

    def _said(self, turn: Turn, number: int) -> str:
        reply = self._reply[id(turn)]
        return reply if number % 2 == 0 else reply.split("<answer>")[0] + "<answer>exposure +100%</answer>"


def trained(folder: Path, untrained: Path, turns: list[TaughtTurn], monkeypatch: pytest.MonkeyPatch, **options: Any) -> GRPO:
    monkeypatch.setattr(grpo, "sampled", TaughtReplies(turns))
    plan = Plan(3, batch=2, rate=1e-3, save_every_s=-1.0)
    return GRPO(folder, "grpo", model.load(untrained), turns, plan, group=2, **options)


def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, untrained: Path, turns: list[TaughtTurn], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", untrained, turns, monkeypatch)
    whole.run()

    killed = trained(tmp_path / "killed", untrained, turns, monkeypatch)
    loss = killed._loss

    def until_the_second(rng: np.random.Generator) -> torch.Tensor:
        if killed.stage.step == 1:
            raise KilledError
        return loss(rng)

    monkeypatch.setattr(killed, "_loss", until_the_second)
    with pytest.raises(KilledError):
        killed.run()
    resumed = trained(tmp_path / "killed", untrained, turns, monkeypatch)
    assert resumed.stage.step == 1
    resumed.run()

    for one, other in zip(whole._thinker.parameters(), resumed._thinker.parameters(), strict=True):
        assert torch.equal(one, other)
    steps = [row["step"] for row in resumed.stage.metrics.read() if row["stage"] == "grpo"]
    assert steps == [1, 2, 3]


def test_every_reply_leaves_its_reward_by_part(
    tmp_path: Path, untrained: Path, turns: list[TaughtTurn], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, untrained, turns, monkeypatch).run()
    rows = MetricsFile(tmp_path / "grpo-rewards.jsonl").read()
    assert len(rows) == 3 * 2 * 2
    assert {"form", "edit", "critic", "total", "outcome", "seeds"} <= set(rows[0])
    assert {row["seeds"] for row in rows} == {grpo.SEEDS}
    taught_ones = [row["edit"] for row in rows[::2]]
    others = [row["edit"] for row in rows[1::2]]
    assert np.mean(taught_ones) > np.mean(others)


def test_an_editor_that_is_down_teaches_nothing(
    tmp_path: Path, untrained: Path, turns: list[TaughtTurn], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Down(WorldEditor):
        async def edit(self, sample: Turn, instruction: str, seed: int) -> Pixels:
            raise FailedEditError("down")

    rewards: RewardFunction[Turn, Pixels] = RewardFunction(Down(), TargetJudge(), thinker="miniature", seeds_of=seeds_of(2))
    stage = trained(tmp_path, untrained, turns, monkeypatch, rewards=rewards)
    loss = stage._loss(np.random.default_rng(0))
    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in stage._thinker.parameters())


def test_rewarded_replies_become_likelier(
    tmp_path: Path, untrained: Path, turns: list[TaughtTurn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two replies to a turn, the one whose edit comes nearer to the target gains on the other."""
    stage = trained(tmp_path, untrained, turns, monkeypatch)
    exposure = turns[:1]
    rollouts = TaughtReplies(turns)(stage._thinker, stage._processor, [exposure[0].turn], 2, 0)

    def lead() -> float:
        told, _ = stage._scored(rollouts)
        sums = told.detach().sum(dim=1)
        return float(sums[0] - sums[1])

    before = lead()
    stage.run()
    assert lead() > before


def test_sampled_replies_end_at_their_end_and_are_what_the_ids_say(untrained: Path, turns: list[TaughtTurn]) -> None:
    thinker, processor = model.load(untrained)
    rollouts = grpo.sampled(thinker, processor, [row.turn for row in turns[:2]], 2, 5)
    ids, replies = rollouts.inputs["input_ids"], rollouts.replies
    assert ids.shape == replies.shape == rollouts.inputs["attention_mask"].shape == rollouts.inputs["mm_token_type_ids"].shape
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for row, kept, text in zip(ids, replies, rollouts.texts, strict=True):
        assert 0 < int(kept.sum()) <= grpo.MAX_TOKENS
        assert (row[kept] == end).sum() <= 1
        assert processor.tokenizer.decode(row[kept], skip_special_tokens=True) == text
    again = grpo.sampled(thinker, processor, [row.turn for row in turns[:2]], 2, 5)
    assert again.texts == rollouts.texts
    assert len(set(rollouts.texts)) > 1

"""A stage of training: what it leaves behind, and how it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.stage import Plan, Stage


class KilledError(Exception):
    """The process ended here."""


def net() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Linear(4, 1)


def train(folder: Path, plan: Plan, *, killed_at: int | None = None) -> tuple[torch.nn.Module, list[int]]:
    trained, seen = net(), []
    stage = Stage(folder, "toy", trained, plan)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        if stage.step == killed_at:
            raise KilledError
        seen.append(stage.step)
        pixels = torch.from_numpy(rng.normal(size=(plan.batch, 4)).astype(np.float32))
        loss: torch.Tensor = ((trained(pixels) - pixels.sum(dim=1, keepdim=True)) ** 2).mean()
        return loss

    stage.run(loss_of)
    return trained, seen


def test_a_killed_stage_goes_on_to_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    plan = Plan(12, batch=8, save_every_s=-1.0)
    whole, _ = train(tmp_path / "whole", plan)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", plan, killed_at=7)

    resumed, seen = train(tmp_path / "killed", plan)

    assert seen == [7, 8, 9, 10, 11]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    plan = Plan(3, batch=8)
    first, _ = train(tmp_path, plan)
    second, seen = train(tmp_path, plan)
    assert seen == []
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


def test_every_step_leaves_a_line_of_metrics(tmp_path: Path) -> None:
    train(tmp_path, Plan(3, batch=8))
    stage = Stage(tmp_path, "toy", net(), Plan(3))
    assert [(row["stage"], row["step"]) for row in stage.metrics.read()] == [("toy", 1), ("toy", 2), ("toy", 3)]


def test_a_thread_in_which_gradients_are_off_trains_all_the_same(tmp_path: Path) -> None:
    with torch.no_grad():
        trained, seen = train(tmp_path, Plan(3, batch=8))
    assert seen == [0, 1, 2]
    assert not torch.equal(next(trained.parameters()), next(net().parameters()))

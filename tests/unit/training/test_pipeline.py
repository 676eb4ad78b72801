"""The stages of the miniature in order: gates, and sizes that stay what they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.miniature.pipeline import Miniature, Sizes, tiny
from training.stage import Plan, Stage


def test_the_first_gate_that_is_not_passed_ends_the_run(tmp_path: Path) -> None:
    run = Miniature(tmp_path, 0, tiny())
    done: list[str] = []

    def stage(name: str) -> bool:
        done.append(name)
        return name != "sft"

    run.stages = {name: lambda name=name: stage(name) for name in run.stages}  # type: ignore[misc]
    assert not run.run()
    assert done == ["gap", "rows", "read-out", "sft"]
    done.clear()
    assert not run.run(past_gates=True)
    assert done == list(run.stages)
    done.clear()
    assert run.run(["grpo", "report"])
    assert done == ["grpo", "report"]


def test_a_run_keeps_its_sizes(tmp_path: Path) -> None:
    Miniature(tmp_path, 0, Sizes(sft_steps=10))
    Miniature(tmp_path, 0, Sizes(sft_steps=10))
    Miniature(tmp_path, 1, Sizes(sft_steps=11))
    with pytest.raises(SystemExit, match="other sizes"):
        Miniature(tmp_path, 0, Sizes(sft_steps=11))


@pytest.mark.parametrize("stage", ["read-out", "sft", "grpo", "evaluation"])
def test_a_stage_without_what_it_needs_says_which_one_makes_it(tmp_path: Path, stage: str) -> None:
    with pytest.raises(SystemExit, match="run the stage"):
        Miniature(tmp_path, 0, tiny()).stages[stage]()


def test_sft_goes_on_for_as_long_as_rl_took_and_a_resumed_one_for_as_many_steps(tmp_path: Path) -> None:
    run = Miniature(tmp_path, 0, tiny())
    for name, steps, spent in (("sft", 20, 10.0), ("grpo", 3, 25.0)):
        stage = Stage(run.folder, name, torch.nn.Linear(1, 1), Plan(steps))
        stage.step, stage.cpu_s = steps, spent
        stage.save()
    assert run._longer_steps() == 50
    stage = Stage(run.folder, "sft", torch.nn.Linear(1, 1), Plan(20))
    stage.cpu_s = 99.0
    stage.save()
    assert run._longer_steps() == 50

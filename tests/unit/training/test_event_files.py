"""Metrics as TensorBoard reads them."""

from __future__ import annotations

import math
from pathlib import Path

from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from training import event_files

ROWS = [
    {"stage": "sft", "step": 1, "loss": 9.0, "cpu_s": 1},
    {"stage": "sft", "step": 2, "loss": 8.0, "cpu_s": 2},
    # A resumed run did this step again.
    {"stage": "sft", "step": 2, "loss": 7.0, "cpu_s": 2},
    {"stage": "grpo", "step": 1, "loss": math.nan, "reward": 0.5, "outcome": "edited"},
]


def curves(folder: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    read = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    names = {run: found["scalars"] for run, found in read.Runs().items()}
    return {run: {name: [(one.step, one.value) for one in read.Scalars(run, name)] for name in names[run]} for run in names}


def test_each_stage_is_a_run_with_its_numbers_by_step(tmp_path: Path) -> None:
    event_files.write(tmp_path / "tb", ROWS)
    found = curves(tmp_path / "tb")
    assert found == {"sft": {"loss": [(1, 9.0), (2, 7.0)]}, "grpo": {"reward": [(1, 0.5)]}}


def test_a_second_writing_replaces_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        event_files.write(tmp_path / "tb", ROWS)
    assert len(list((tmp_path / "tb").rglob("events.*"))) == 2

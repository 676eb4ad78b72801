"""Metrics of a run as TensorBoard's files: one run for each stage, so that their curves lie over each other."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from training.plots import NOT_CURVES, latest


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write every stage's numbers by step; what the folder held is replaced.

    Args:
        folder: for ``tensorboard --logdir``.
        rows: of `training.metrics.MetricsFile`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for stage in dict.fromkeys(str(row["stage"]) for row in rows):
        with SummaryWriter(str(folder / stage)) as writer:
            for row in latest(rows, stage):
                for name, value in row.items():
                    if name not in NOT_CURVES and isinstance(value, int | float) and math.isfinite(value):
                        writer.add_scalar(name, value, row["step"])

"""The folder of a run: its options, its last whole checkpoint, and metrics that agree with it. Needs neither torch nor TRL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from training import whole_files
from training.metrics import MetricsFile

METRICS: Final = "metrics.jsonl"
REWARDS: Final = "rewards.jsonl"
FINAL: Final = "final"
_OPTIONS: Final = "options.json"
_STATE: Final = "trainer_state.json"
"""The file of a checkpoint that transformers' trainer writes last."""


class OtherRunError(ValueError):
    """The folder holds a run with other options."""


def claim(folder: Path, options: Mapping[str, Any]) -> None:
    """Write the options into a new folder, or hold them against those of the run that is to be continued.

    Raises:
        OtherRunError: they differ.
    """
    path = folder / _OPTIONS
    given = json.loads(json.dumps(options, default=str))
    if not path.exists():
        whole_files.write(path, json.dumps(given, indent=1) + "\n")
        return
    kept = json.loads(path.read_text("utf-8"))
    names = sorted(name for name in {*kept, *given} if kept.get(name) != given.get(name))
    if names:
        told = ", ".join(f"{name} was {kept.get(name)!r} and is {given.get(name)!r}" for name in names)
        raise OtherRunError(f"{folder} holds a run with other options ({told}); continue that one, or name another folder")


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; later ones, which a kill cut short, are removed."""
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for path in sorted(numbered, key=_step, reverse=True):
        if _whole(path):
            return path
        shutil.rmtree(path)
    return None


def rewind(metrics: MetricsFile, checkpoint: Path | None) -> None:
    """Forget metrics of steps that a resumed run will take once more."""
    step = 0 if checkpoint is None else _step(checkpoint)
    metrics.replace([row for row in metrics.read() if row["step"] <= step])


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _whole(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / _STATE).read_text("utf-8"))["global_step"] == _step(checkpoint))
    except (OSError, ValueError, KeyError):
        return False

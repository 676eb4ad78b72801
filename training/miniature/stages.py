"""The stages of the miniature: vision read-out, then SFT of whole replies. Each resumes after a kill, and prints its gate.

A plain loop (`training.stage`): tokens are weighted, which TRL's trainer does not offer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from training.miniature import batches
from training.miniature import model as models
from training.miniature.prompts import pictures
from training.miniature.rows import TaughtTurn
from training.stage import Plan, Stage

READ_OUT_GATE: Final = 0.1
"""Mean squared error of the read-out, in units of its targets; 1 would be no better than their mean."""


class ReadOut(torch.nn.Module):
    """The vision tower with a linear layer that tells the statistics of a picture."""

    def __init__(self, thinker: Any) -> None:
        super().__init__()
        self.visual = thinker.model.visual
        tokens = 4
        self.head = torch.nn.Linear(tokens * thinker.config.text_config.hidden_size, 9)

    def forward(self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor) -> torch.Tensor:
        """(pictures, 9)."""
        seen = self.visual(pixel_values, grid_thw=image_grid_thw).pooler_output
        told: torch.Tensor = self.head(seen.reshape(len(image_grid_thw), -1))
        return told


def read_out(folder: Path, thinker: Any, processor: Any, rows: Sequence[TaughtTurn], plan: Plan) -> float:
    """Train the vision tower to tell what the thoughts say of a picture; returns the mean of the last losses."""
    torch.manual_seed(plan.seed)
    net = ReadOut(thinker)
    stage = Stage(folder, "read-out", net, plan)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        seen = [pixels for index in rng.integers(0, len(rows), plan.batch) for pixels in pictures(rows[index].turn)[-1:]]
        inputs = processor.image_processor(images=seen, return_tensors="pt")
        return functional.mse_loss(net(inputs["pixel_values"], inputs["image_grid_thw"]), batches.measured(seen))

    stage.run(loss_of)
    losses = [row["loss"] for row in stage.metrics.read() if row["stage"] == "read-out"]
    return float(np.mean(losses[-20:]))


def sft(folder: Path, name: str, model: tuple[Any, Any], rows: Sequence[TaughtTurn], plan: Plan) -> None:
    """Train whole replies of (thinker, processor); `name` is the stage's."""
    thinker, processor = model
    stage = Stage(folder, name, thinker, plan)
    # A reference makes a prompt half as long again: batches of one kind need no padding for the other.
    kinds = [
        [row for row in rows if (row.turn.scene.reference is not None) == with_reference] for with_reference in (False, True)
    ]
    shares = np.array([len(kind) for kind in kinds]) / len(rows)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        kind = kinds[int(rng.choice(2, p=shares))]
        batch = batches.taught(processor, [kind[index] for index in rng.integers(0, len(kind), plan.batch)], blind=plan.blind)
        return reply_loss(thinker, batch)

    stage.run(loss_of)


def reply_loss(thinker: Any, batch: batches.Batch) -> torch.Tensor:
    """Mean weighted cross-entropy of the replies; logits are computed where they are needed."""
    hidden = thinker.model(**batch.inputs).last_hidden_state
    weights = batch.weights[:, 1:]
    chosen = weights > 0
    logits = thinker.lm_head(hidden[:, :-1][chosen])
    losses = functional.cross_entropy(logits, batch.inputs["input_ids"][:, 1:][chosen], reduction="none")
    return (losses * weights[chosen]).sum() / weights.sum()


def thinker_of(folder: Path, seed: int) -> tuple[Any, Any]:
    """(model, processor) of a run, made the first time."""
    made = folder / "random"
    if not made.is_dir():
        models.build(made, seed)
    return models.load(made)

"""One stage of training that goes on where it was killed: weights, optimiser and step in one file, metrics in another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from training.metrics import MetricsFile

_CLIP: Final = 1.0
_WARM_UP: Final = 20  # steps


@dataclass(frozen=True)
class Plan:
    """How a stage trains.

    Attributes:
        steps: of the optimiser.
        batch: examples a step.
        rate: highest learning rate.
        seed: of weights and batches.
        blind: grey pictures, as a control.
        save_every_s: CPU-seconds between checkpoints: what a kill loses.
    """

    steps: int
    batch: int = 16
    rate: float = 1.5e-3
    seed: int = 0
    blind: bool = False
    save_every_s: float = 20.0


class Stage:
    """Trains `net` by a plan. Batches are drawn by (seed, step), so a resumed run sees what an uninterrupted one would have seen.

    Args:
        folder: of ``NAME.pt``, which is replaced as a whole, and of ``metrics.jsonl``.
        name: of the stage.
        net: what is trained; it gets the checkpoint's weights, where there is one.
        plan: how.
    """

    def __init__(self, folder: Path, name: str, net: torch.nn.Module, plan: Plan) -> None:
        self._path = folder / f"{name}.pt"
        self._net, self._plan, self.name = net, plan, name
        self._optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.step, self.cpu_s = 0, 0.0
        self.metrics = self.metrics_of(folder)
        if self._path.exists():
            kept = torch.load(self._path, weights_only=True)
            net.load_state_dict(kept["net"])
            self._optimiser.load_state_dict(kept["optimiser"])
            self.step, self.cpu_s = kept["step"], kept["cpu_s"]

    @staticmethod
    def metrics_of(folder: Path) -> MetricsFile:
        """The metrics of a folder's stages."""
        return MetricsFile(folder / "metrics.jsonl")

    @staticmethod
    def cost(folder: Path, name: str) -> tuple[int, float]:
        """(steps, CPU-seconds) of a stage's checkpoint."""
        kept = torch.load(folder / f"{name}.pt", weights_only=True, mmap=True)
        return int(kept["step"]), float(kept["cpu_s"])

    def save(self) -> None:
        """Write the checkpoint."""
        kept = {"net": self._net.state_dict(), "optimiser": self._optimiser.state_dict(), "step": self.step, "cpu_s": self.cpu_s}
        torch.save(kept, self._path.with_suffix(".tmp"))
        self._path.with_suffix(".tmp").replace(self._path)

    # The thread that trains may have run an edit before, which leaves gradients off.
    @torch.enable_grad()
    def run(self, loss_of: Callable[[np.random.Generator], torch.Tensor], seconds: float = math.inf) -> None:
        """Train until the plan's steps are done, or `seconds` CPU-seconds in all are spent."""
        self._net.train()
        saved = self.cpu_s
        while self.step < self._plan.steps and self.cpu_s < seconds:
            started = time.process_time()
            for group in self._optimiser.param_groups:
                group["lr"] = self._plan.rate * self._share()
            loss = loss_of(np.random.default_rng((self._plan.seed, self.step)))
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._net.parameters(), _CLIP)
            self._optimiser.step()
            self.step += 1
            self.cpu_s += time.process_time() - started
            self.metrics({"stage": self.name, "step": self.step, "loss": round(loss.item(), 4), "cpu_s": round(self.cpu_s, 2)})
            if self.cpu_s - saved > self._plan.save_every_s:
                self.save()
                saved = self.cpu_s
        self.save()

    def _share(self) -> float:
        warm = min(1.0, (self.step + 1) / _WARM_UP)
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self.step / self._plan.steps)))

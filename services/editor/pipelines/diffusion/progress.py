"""An edit's progress, observed at its noise scheduler: steps, previews and timings."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch

OnPreview = Callable[[torch.Tensor], None]
"""Called with the predicted clean latents, in the form of the pipeline's loop."""


class Progress:
    """Counts one edit's steps and keeps its times.

    Args:
        steps: denoise steps in all.
        previews: number of unfinished pictures, spread evenly over the steps.
        began: when the edit started (`time.perf_counter`).
    """

    def __init__(self, steps: int, previews: int, began: float) -> None:
        self.step = 0
        self.passes = 0
        self._steps = steps
        self._due = {round(steps * index / (previews + 1)) for index in range(1, previews + 1)}
        self._began = began
        self._first_call: float | None = None
        self._scheduler: Any = None
        self._last_step = began

    def watch(self, scheduler: Any, on_preview: OnPreview | None) -> None:
        """Count the steps of an edit's own scheduler."""
        step = scheduler.step

        # Pipelines inspect the signature for the parameters a scheduler takes; `wraps` keeps it.
        @functools.wraps(step)
        def counting(model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            sigma = None if on_preview is None else _sigma(scheduler, timestep)
            answer = step(model_output, timestep, sample, *args, **kwargs)
            self.passes += 1
            before, self.step = self.step, self._done(scheduler)
            self._last_step = time.perf_counter()
            if on_preview is not None and self.step in self._due and self.step != before:
                if isinstance(answer, tuple) and len(answer) > 1:
                    on_preview(answer[1])  # Stable Diffusion's schedulers predict the clean picture themselves
                elif sigma is not None:
                    # Flow matching: the sample is the clean picture plus sigma times the prediction.
                    on_preview(sample - sigma * model_output)
            return answer

        scheduler.step = counting
        self._scheduler = scheduler

    def _done(self, scheduler: Any) -> int:
        """Denoise steps that are done: a scheduler of order 2 (Heun) is stepped twice for each, and once for the last."""
        order = getattr(scheduler, "order", 1)
        if order > 1 and self.passes >= len(scheduler.timesteps):
            return self._steps
        # PNDM makes one pass more than steps.
        return min(self._steps, int(self.passes // order))

    def close(self) -> None:
        """Restore the scheduler, which breaks the reference cycle with the edit."""
        if self._scheduler is not None:
            del self._scheduler.step
            self._scheduler = None

    def called(self) -> None:
        """The pipeline has reached a call of the denoiser."""
        self._first_call = self._first_call or time.perf_counter()

    def timings(self) -> dict[str, float]:
        """Seconds of each stage of a finished edit; the pauses between its calls count as denoising."""
        first = self._first_call or self._last_step
        end = time.perf_counter()
        return {"encode": first - self._began, "denoise": self._last_step - first, "decode": end - self._last_step}


def _sigma(scheduler: Any, timestep: Any) -> Any:
    """The noise level of the next step; None for schedulers without sigmas."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:
        return None
    if scheduler.step_index is None:
        scheduler._init_step_index(timestep)  # noqa: SLF001 - as its own step() would
    return sigmas[scheduler.step_index]

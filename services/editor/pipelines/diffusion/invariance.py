"""Batch invariance on a CPU: an edit's picture has the same bits in any batch.

torch's CPU kernels compute a sample of a batch bit-identically to the sample alone, with one exception: a linear layer with one
vector a sample (a timestep, a pooled text) uses another kernel for one vector than for several, and they round differently.
Such layers, a small part of the work, are computed call by call. A GPU chooses kernels by the size of the whole batch, and
pictures agree to rounding only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


class BatchInvariance:
    """Makes a model's linear layers compute each call of a pass as they would compute it alone.

    Args:
        model: its linear layers are patched permanently.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._sizes: Sequence[int] = ()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                setattr(module, "forward", self._by_call(module.forward))  # noqa: B010 - a method, to mypy

    @contextlib.contextmanager
    def batch(self, sizes: Sequence[int]) -> Iterator[None]:
        """The context of one pass over calls of so many samples each."""
        self._sizes = sizes
        try:
            yield
        finally:
            self._sizes = ()

    def _by_call(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def linear(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: A002 - torch's name
            total = sum(self._sizes)
            rows = input.numel() // input.shape[-1]
            if len(self._sizes) < 2 or rows != input.shape[0] or rows % total > 1:  # noqa: PLR2004 - several calls
                return forward(input, *args, **kwargs)
            if rows % total:
                # One row more, for all samples (Qwen-Image-2.1: the timestep 0 of text and pictures): each call has it, alone.
                calls = [torch.cat([part, input[-1:]]) for part in input[:-1].split(list(self._sizes))]  # type: ignore[no-untyped-call]
                outputs = [forward(part) for part in calls]
                return torch.cat([*(output[:-1] for output in outputs), outputs[0][-1:]])
            # (k x samples, C): some models stack k vectors for each sample, the k-th ones behind each other.
            stacked = input.reshape(rows // total, total, -1).split(list(self._sizes), dim=1)  # type: ignore[no-untyped-call]
            answers = [forward(part.reshape(-1, input.shape[-1]), *args, **kwargs) for part in stacked]
            parts = [answer.reshape(rows // total, -1, answer.shape[-1]) for answer in answers]
            return torch.cat(parts, dim=1).reshape(*input.shape[:-1], -1)

        return linear

"""Counts a denoiser's floating-point operations while it runs, to compare them with the device's peak."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

PEAKS_TFLOPS = {"H100": 989.0, "H200": 989.0, "H800": 989.0, "B200": 2250.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}
"""Dense bfloat16, as the vendor publishes it (SXM where there are several), by a part of the device's name."""


def peak_tflops(name: str) -> float | None:
    """The published peak of a device; None if it is not listed."""
    return next((peak for part, peak in PEAKS_TFLOPS.items() if part in name), None)


@dataclass(slots=True)
class Count:
    """Floating-point operations. ``linear``: 2 x weights x rows; ``attention``: 4 x layers x queries x keys x width a sample."""

    linear: float = 0.0
    attention: float = 0.0
    calls: int = 0

    @property
    def total(self) -> float:
        """Both."""
        return self.linear + self.attention


@contextmanager
def counted(model: Any) -> Iterator[Count]:
    """Count the operations of a diffusers transformer within the context (a transformer block skipped by a cache does none)."""
    count = Count()
    config = model.config
    width = config.num_attention_heads * config.attention_head_dim
    layers = config.num_layers + config.get("num_single_layers", 0)

    def linear(module: nn.Linear, args: tuple[torch.Tensor, ...], _: Any) -> None:
        count.linear += 2.0 * module.in_features * module.out_features * (args[0].numel() // module.in_features)

    def call(_: nn.Module, __: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        samples, picture, *_rest = kwargs["hidden_states"].shape
        keys = picture + _text(kwargs)
        # Where keys and values of the prefix are kept, only the edited picture's tokens are computed.
        queries = math.prod(kwargs["img_shapes"][0][-1]) if kwargs.get("kv_cache_mode") == "cached" else keys
        count.attention += 4.0 * layers * samples * queries * keys * width
        count.calls += 1

    hooks = [module.register_forward_hook(linear) for module in model.modules() if isinstance(module, nn.Linear)]
    hooks.append(model.register_forward_pre_hook(call, with_kwargs=True))
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def _text(kwargs: dict[str, Any]) -> int:
    """Tokens of a call's text, without the slots that stand for pictures (Qwen-Image-2.1)."""
    mask = kwargs.get("img_mask")
    return int(kwargs["encoder_hidden_states"].shape[1] if mask is None else (~mask[0]).sum())

"""Attention backends of diffusers: which of them work here, found by running each on one token."""

from __future__ import annotations

import logging
from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry, dispatch_attention_fn

from services.editor.pipelines.diffusion.device import Device

log = logging.getLogger(__name__)

_HOPPER = 9
"""The major compute capability of Hopper, for which FlashAttention 3 is written."""
_HEADS, _HEAD_DIM = 2, 64


def candidates(capability: tuple[int, int] | None) -> tuple[str, ...]:
    """The backends to choose from on a device of this compute capability (None: not CUDA), the fastest first.

    All compute attention to rounding; sage is not among them, because it computes in int8.
    """
    if capability is None:
        return ("native",)
    return ("_flash_3", "_native_cudnn", "flash", "native") if capability[0] == _HOPPER else ("flash", "_native_cudnn", "native")


def has_choice(model: Any) -> bool:
    """Whether the model's attention goes through diffusers' dispatch (U-Nets and foreign models do not)."""
    modules = model.modules() if hasattr(model, "set_attention_backend") else ()
    return any(hasattr(getattr(module, "processor", None), "_attention_backend") for module in modules)


def best(model: Any, device: Device, *, masked: bool, split: bool = False) -> str | None:
    """The fastest backend that works for a model; None where it has no choice. The others are logged with the reason.

    Args:
        model: a diffusers transformer.
        device: where it will run.
        masked: whether it attends with masks.
        split: whether its passes are split over processes.
    """
    if not has_choice(model):
        return None
    for name in candidates(device.capability):
        if split and not _AttentionBackendRegistry._is_context_parallel_available(AttentionBackendName(name)):  # noqa: SLF001
            continue
        try:
            probe(name, device, model.dtype, head_dim(model), masked=masked)
        except ValueError as exc:
            log.info("%s", exc)
        else:
            return name
    return None


def head_dim(model: Any) -> int:
    """Channels of one attention head of a model."""
    size = getattr(model.config, "attention_head_dim", None)
    return size if isinstance(size, int) else _HEAD_DIM


def probe(name: str, device: Device, dtype: torch.dtype, size: int, *, masked: bool) -> None:
    """Attend to one token of heads of ``size`` channels with a backend.

    Raises:
        ValueError: when the backend does not work here, with its reason.
    """
    token = torch.ones(1, 1, _HEADS, size, device=device.device, dtype=dtype)
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device.device) if masked else None
    try:
        answer = dispatch_attention_fn(token, token, token, attn_mask=mask, backend=AttentionBackendName(name))
        right = bool((answer.float() - 1).abs().max() < 0.01)  # noqa: PLR2004 - one key: its value, in any dtype
    # A missing package leaves None where the kernel would be; kernels raise what they like.
    except Exception as exc:
        reason = (str(exc) or type(exc).__name__).splitlines()[0]
        raise ValueError(f"the attention backend {name} does not work here: {reason}") from exc
    if not right:
        raise ValueError(f"the attention backend {name} does not work here: it computes wrong values")

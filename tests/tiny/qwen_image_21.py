"""A tiny Qwen-Image-2.1, and its Turbo."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage21,
    FlowMatchEulerDiscreteScheduler,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
)

from tests.tiny.tokenizers import qwen3_processor, qwen3_vl, qwen_tokenizer

_CHANNELS = 8
_WIDTH = 16
TURBO_SIGMAS = [1.0, 0.9, 0.75, 0.4]
"""A schedule as the Turbo's ``model_index.json`` has one, with half its steps."""


def build(*, sample_sigmas: list[float] | None = None, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU.

    Args:
        sample_sigmas: the schedule of a Turbo.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = QwenImage21Transformer2DModel(
            in_channels=_CHANNELS,
            out_channels=_CHANNELS,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=_WIDTH,
            axes_dims_rope=(4, 6, 6),
        ).eval()
        for weight in transformer.parameters():
            if weight.ndim == 2:
                # With torch's initial weights the text and the source change the picture too little for the tests.
                weight.detach().mul_(2)
        tokenizer = qwen_tokenizer()
        pipeline = QwenImage21Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
            ),
            vae=_vae(),
            text_encoder=qwen3_vl(_WIDTH),
            processor=qwen3_processor(tokenizer),
            transformer=transformer,
            sample_sigmas=sample_sigmas,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _vae() -> Any:
    """A factor of 16, and four channels: red, green, blue and alpha."""
    return AutoencoderKLQwenImage21(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=_CHANNELS,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1 * channel - 0.2 for channel in range(_CHANNELS)],
        latents_std=[1.0 + 0.25 * channel for channel in range(_CHANNELS)],
    ).eval()

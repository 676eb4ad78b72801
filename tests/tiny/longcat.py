"""A tiny LongCat-Image-Edit."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LongCatImageEditPipeline, LongCatImageTransformer2DModel

from tests.tiny.tokenizers import qwen_processor, qwen_tokenizer, qwen_vl
from tests.tiny.vaes import flux_vae

_CHANNELS = 16  # hard-coded in the pipeline


def build(*, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU, with weights of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = LongCatImageTransformer2DModel(
            patch_size=1,
            in_channels=4 * _CHANNELS,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 6, 6),
        ).eval()
        tokenizer = qwen_tokenizer()
        pipeline = LongCatImageEditPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, max_image_seq_len=4096, shift=3.0
            ),
            vae=flux_vae(_CHANNELS),
            text_encoder=qwen_vl(),
            tokenizer=tokenizer,
            text_processor=qwen_processor(tokenizer),
            transformer=transformer,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

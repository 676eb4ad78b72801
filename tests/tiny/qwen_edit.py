"""A tiny Qwen-Image-Edit."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageEditPipeline, QwenImageTransformer2DModel

from tests.tiny.tokenizers import qwen_processor, qwen_tokenizer, qwen_vl
from tests.tiny.vaes import qwen_vae

_CHANNELS = 4


def build(pipeline_class: type = QwenImageEditPipeline, *, zero_cond_t: bool = False, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU.

    Args:
        pipeline_class: another class with the same components.
        zero_cond_t: whether the source's tokens get timestep 0, as in the 2511 release.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=4 * _CHANNELS,
            out_channels=_CHANNELS,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
            zero_cond_t=zero_cond_t,
        ).eval()
        for weight in transformer.parameters():
            if weight.ndim == 2:
                # With torch's initial weights the text and the source change the picture too little for the tests.
                weight.detach().mul_(2)
        tokenizer = qwen_tokenizer()
        pipeline = pipeline_class(
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
            ),
            vae=qwen_vae(_CHANNELS),
            text_encoder=qwen_vl(),
            tokenizer=tokenizer,
            processor=qwen_processor(tokenizer),
            transformer=transformer,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

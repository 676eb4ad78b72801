"""A tiny Z-Image from picture to picture: its transformer takes and returns lists of pictures without a batch axis."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageImg2ImgPipeline, ZImageTransformer2DModel

from tests.tiny.tokenizers import qwen3, qwen_tokenizer
from tests.tiny.vaes import flux_vae

_CHANNELS = 4
_WIDTH = 16
_TEMPLATE = "{% for turn in messages %}<|im_start|>{{ turn.content }}<|im_end|>{% endfor %}"


def build(*, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU, with weights of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = ZImageTransformer2DModel(
            in_channels=_CHANNELS,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=_WIDTH,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 64, 64],
        ).eval()
        for weight in transformer.parameters():
            if weight.ndim == 1 and not weight.any():
                # Padding tokens, which are made empty, would be NaN after their normalisation.
                weight.detach().normal_(std=0.02)
        tokenizer = qwen_tokenizer()
        tokenizer.chat_template = _TEMPLATE
        pipeline = ZImageImg2ImgPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=flux_vae(_CHANNELS),
            text_encoder=qwen3(_WIDTH),
            tokenizer=tokenizer,
            transformer=transformer,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

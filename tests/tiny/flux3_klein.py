"""A tiny FLUX 3 Image [klein], step-distilled: the text embeddings come from eight layers, so the text encoder is deep."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import Flux3Transformer2DModel

from services.editor.pipelines.flux3_klein import blocks
from tests.tiny.flux2 import LATENT_CHANNELS, vae
from tests.tiny.tokenizers import qwen3_processor, qwen3_vl, qwen_tokenizer

_WIDTH = 16


def build(*, seed: int = 0) -> Any:
    """The modular pipeline without its prompt upsampler, in float32 on the CPU, with weights of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = Flux3Transformer2DModel(
            in_channels=4 * LATENT_CHANNELS,
            cond_in_channels=4 * LATENT_CHANNELS,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8 * _WIDTH,
            timestep_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            flow_map=True,
        ).eval()
        for weight in transformer.parameters():
            if weight.ndim == 2:
                # With torch's initial weights the text and the source change the picture too little for the tests.
                weight.detach().mul_(2)
        pipeline = blocks().init_pipeline()
        pipeline.update_components(
            transformer=transformer,
            vae=vae(),
            text_encoder=qwen3_vl(_WIDTH, layers=32),
            tokenizer=qwen3_processor(qwen_tokenizer()),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

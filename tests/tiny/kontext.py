"""A FLUX.1 Kontext of any size."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel

from tests.tiny.tokenizers import clip_text_encoder, clip_tokenizer, t5_encoder, t5_tokenizer
from tests.tiny.vaes import flux_vae


def build(
    *,
    layers: int = 1,
    single_layers: int = 2,
    heads: int = 2,
    head_dim: int = 16,
    text_width: int = 32,
    latent_channels: int = 4,
    seed: int = 0,
) -> Any:
    """The pipeline, in float32 on the CPU.

    Args:
        layers: double-stream blocks (FLUX.1: 19).
        single_layers: single-stream blocks (38).
        heads: attention heads (24).
        head_dim: channels of each (128); a multiple of 16.
        text_width: channels of both text encoders (4096 and 768).
        latent_channels: of the VAE (16).
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=4 * latent_channels,
            num_layers=layers,
            num_single_layers=single_layers,
            attention_head_dim=head_dim,
            num_attention_heads=heads,
            joint_attention_dim=text_width,
            pooled_projection_dim=text_width,
            axes_dims_rope=(head_dim // 4, head_dim * 3 // 8, head_dim * 3 // 8),
            guidance_embeds=True,
        ).eval()
        pipeline = FluxKontextPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, max_image_seq_len=4096, shift=3.0
            ),
            vae=flux_vae(latent_channels),
            text_encoder=clip_text_encoder(text_width),
            tokenizer=clip_tokenizer(),
            text_encoder_2=t5_encoder(text_width),
            tokenizer_2=t5_tokenizer(),
            transformer=transformer,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

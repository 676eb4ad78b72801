"""A tiny InstructPix2Pix on Stable Diffusion."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)

from tests.tiny.tokenizers import clip_text_encoder, clip_tokenizer


def build(*, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU, with weights of this seed and no safety checker."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionInstructPix2PixPipeline(
            vae=vae(),
            text_encoder=clip_text_encoder(),
            tokenizer=clip_tokenizer(),
            unet=UNet2DConditionModel(**UNET, cross_attention_dim=32).eval(),
            scheduler=EulerAncestralDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_img2img(*, seed: int = 0) -> Any:
    """Stable Diffusion's pipeline from picture to picture, with its published scheduler, which makes one pass more than steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionImg2ImgPipeline(
            vae=vae(),
            text_encoder=clip_text_encoder(),
            tokenizer=clip_tokenizer(),
            unet=UNet2DConditionModel(**{**UNET, "in_channels": 4}, cross_attention_dim=32).eval(),
            scheduler=PNDMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


UNET = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
"""A U-Net that takes latents and the source's latents."""


def vae() -> Any:
    """As Stable Diffusion's: a factor of 8, four channels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
    ).eval()

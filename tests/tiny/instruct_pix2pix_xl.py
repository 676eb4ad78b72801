"""A tiny InstructPix2Pix on Stable Diffusion XL."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLInstructPix2PixPipeline, UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from tests.tiny.instruct_pix2pix import UNET, vae
from tests.tiny.tokenizers import clip_text_encoder, clip_tokenizer

_TIME_WIDTH = 8
_TEXT_WIDTH = 32


def build(*, seed: int = 0) -> Any:
    """The pipeline, in float32 on the CPU, with weights of this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = clip_text_encoder(_TEXT_WIDTH)
        unet = UNet2DConditionModel(
            **UNET,
            cross_attention_dim=2 * _TEXT_WIDTH,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=_TIME_WIDTH,
            projection_class_embeddings_input_dim=6 * _TIME_WIDTH + _TEXT_WIDTH,
        ).eval()
        pipeline = StableDiffusionXLInstructPix2PixPipeline(
            vae=vae(),
            text_encoder=first,
            text_encoder_2=CLIPTextModelWithProjection(first.config).eval(),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            unet=unet,
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                steps_offset=1,
                timestep_spacing="leading",
            ),
            add_watermarker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
